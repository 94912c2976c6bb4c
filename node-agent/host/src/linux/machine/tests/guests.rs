//! Guests that stand still wait for no disk: a refused jump is told to holders before it is written down.

use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use liveupdate_proto::handover::v1::Resumed;
use liveupdate_proto::handover::v1::envelope::Message;

use super::super::LinuxHost;
use super::super::store::{Disk, RealDisk, Store};
use super::fake::Machine;
use super::stands::{ATTEMPT, ready};
use crate::Host;

/// A disk that takes some records and no other until it is let go: it hangs, or its file system is on its way to be frozen.
struct Stuck {
    left: AtomicUsize,
    let_go: Mutex<Receiver<()>>,
}

/// Puts one under a keeper's records; dropping what it gives lets it go.
fn stuck_after(records: usize, machine: &Machine, keeper: &mut LinuxHost) -> Sender<()> {
    let (stuck, let_go) = mpsc::channel();
    let disk = Stuck { left: AtomicUsize::new(records), let_go: Mutex::new(let_go) };
    let options = machine.options();
    keeper.store = Store::on(options.root.path(&options.state), Box::new(disk));
    stuck
}

impl Disk for Stuck {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        RealDisk.read(path, limit)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let less = |left: usize| left.checked_sub(1);
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_err() {
            // An error: the other end is gone.
            let _ = self.let_go.lock().unwrap().recv();
        }
        RealDisk.write(path, bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_folder(path)
    }
}

#[test]
fn a_holder_goes_on_after_a_refused_jump_though_nothing_can_be_written_any_more() {
    let machine = Machine::new();
    let (mut keeper, intent, mut client) = ready(&machine);
    let stuck = stuck_after(1, &machine, &mut keeper);
    thread::scope(|scope| {
        let jumping = scope.spawn(|| keeper.jump(&intent));
        assert!(matches!(client.hear(), Message::Commit(_)));
        assert!(matches!(client.hear(), Message::Resume(_)));
        client.say(ATTEMPT, Message::Resumed(Resumed::default()), &[]);
        assert!(!jumping.is_finished(), "it is not written down, and nobody waits for that");
        drop(stuck);
        assert!(jumping.join().unwrap().unwrap_err().why.contains("busy"));
    });
    // Whoever wanted the jump asks for itself what came of it.
    assert_eq!(keeper.resume("refused").unwrap()[0].result, Ok(()));
}

/// Nor for the record that comes before the last word. What the disk takes late is not what stays.
#[test]
fn invariant_2_a_holder_goes_on_when_the_jump_could_not_be_written_down_in_time() {
    let machine = Machine::new();
    let (mut keeper, mut intent, mut client) = ready(&machine);
    intent.until = keeper.monotonic().unwrap() + Duration::from_millis(200);
    let stuck = stuck_after(0, &machine, &mut keeper);
    thread::scope(|scope| {
        let jumping = scope.spawn(|| keeper.jump(&intent));
        assert!(matches!(client.hear(), Message::Resume(_)), "it did not hear the last word");
        client.say(ATTEMPT, Message::Resumed(Resumed::default()), &[]);
        drop(stuck);
        let why = jumping.join().unwrap().unwrap_err().why;
        assert!(why.contains("write the record jump: not done within 0.2 s"), "{why}");
    });
    assert!(!machine.calls.taken().iter().any(|call| call.starts_with("reboot")));
    let record = String::from_utf8(keeper.load("jump").unwrap().unwrap()).unwrap();
    assert!(record.contains("\"over\":true"), "{record}");
}
