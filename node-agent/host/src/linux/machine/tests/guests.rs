//! Guests that stand still wait for no disk: a refused jump is told to holders before it is written down.

use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use liveupdate_proto::handover::v1::Resumed;
use liveupdate_proto::handover::v1::envelope::Message;

use super::super::store::{Disk, RealDisk, Store};
use super::fake::Machine;
use super::stands::{ATTEMPT, ready};
use crate::Host;

/// A disk that takes one record and no other until it is let go: its file system is on its way to be frozen.
struct Stuck {
    written: AtomicUsize,
    let_go: Mutex<Receiver<()>>,
}

impl Disk for Stuck {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        RealDisk.read(path, limit)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.written.fetch_add(1, Ordering::SeqCst) > 0 {
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
    let (stuck, let_go) = mpsc::channel();
    let disk = Stuck { written: AtomicUsize::new(0), let_go: Mutex::new(let_go) };
    let options = machine.options();
    keeper.store = Store::on(options.root.path(&options.state), Box::new(disk));
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
