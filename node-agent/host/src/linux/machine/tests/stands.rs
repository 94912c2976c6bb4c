//! A jump with a holder: it stands, or there is no jump.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use liveupdate_proto::frame::{Sequence, VERSION};
use liveupdate_proto::handover::v1::envelope::Message;
use liveupdate_proto::handover::v1::{Declare, Hello, Object, ObjectKind, Preserved, Quiesced, Resumed};
use liveupdate_proto::packets::Packets;
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use super::super::LinuxHost;
use super::fake::Machine;
use crate::linux::custody::sessions::{Arrived, Leaving, Orchestrate};
use crate::linux::custody::{self, Custodian, FdStore};
use crate::linux::luo::{LuoError, SessionName, Token};
use crate::{Host, JumpIntent};

pub(super) const ATTEMPT: &str = "a-1";

/// An orchestrator that takes everything, and to which nothing came.
struct Taking;

impl Taking {
    fn absent(name: &str) -> LuoError {
        let (call, thing) = ("RETRIEVE_SESSION", name.to_owned());
        LuoError::Call { call, thing, meaning: "nothing came", source: Errno::NOENT.into() }
    }
}

impl Orchestrate for Taking {
    fn create(&self, _: &SessionName) -> Result<Box<dyn Leaving>, LuoError> {
        Ok(Box::new(Self))
    }

    fn retrieve(&self, name: &SessionName) -> Result<Box<dyn Arrived>, LuoError> {
        Err(Self::absent(name.as_str()))
    }

    fn kept(&self, _: OwnedFd) -> Result<Box<dyn Arrived>, LuoError> {
        Err(Self::absent("kept"))
    }
}

impl Leaving for Taking {
    fn preserve(&self, _: Token, _: BorrowedFd<'_>) -> Result<(), LuoError> {
        Ok(())
    }
}

pub(super) struct Client {
    packets: Packets,
    sequence: Sequence,
}

impl Client {
    pub(super) fn say(&mut self, attempt: &str, message: Message, files: &[BorrowedFd<'_>]) {
        let bytes = self.sequence.encode(attempt, message, files.len()).unwrap();
        self.packets.send(&bytes, files).unwrap();
    }

    pub(super) fn hear(&mut self) -> Message {
        let packet = self.packets.receive().unwrap().unwrap();
        self.sequence.decode(&packet.bytes, packet.files.len()).unwrap().1
    }
}

/// A keeper that is about to jump with a holder, which is this process and stands still.
pub(super) fn ready(machine: &Machine) -> (LinuxHost, JumpIntent, Client) {
    ready_in(machine, "/")
}

/// The same in a control group.
pub(super) fn ready_in(machine: &Machine, group: &str) -> (LinuxHost, JumpIntent, Client) {
    let (own, root) = (std::process::id(), machine.options().root);
    machine.write(&format!("proc/{own}/cgroup"), &format!("0::{group}\n"));
    for name in ["fd", "fdinfo"] {
        symlink(format!("/proc/{own}/{name}"), root.path(&format!("/proc/{own}/{name}"))).unwrap();
    }
    let (mut keeper, target) = (machine.keeper(), machine.bundle("new"));
    keeper.stage(&target, &mut |_, _| true).unwrap();
    let options = custody::Options {
        socket: root.path(&machine.options().holders_socket()),
        published: root.path("/run/liveupdate/holders.json"),
        device: "/nowhere".into(),
        boot_id: keeper.boot_id().unwrap(),
        counter_khz: None,
        root,
    };
    let packets = options.socket.clone();
    // One at a time listens there.
    keeper.custody = None;
    let custody = Custodian::start_over(options, Arc::new(Taking), FdStore::none(), BTreeMap::new());
    keeper.custody = Some(custody.unwrap());

    let mut client = Client { packets: Packets::connect(&packets).unwrap(), sequence: Sequence::default() };
    client.packets.patience(Some(Duration::from_secs(30))).unwrap();
    client.say("", Message::Hello(Hello { name: "vm-a".into(), versions: vec![VERSION] }), &[]);
    assert!(matches!(client.hear(), Message::Welcome(_)));
    let memory = rustix::fs::memfd_create("guest ram", MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&memory, 4096).unwrap();
    let object = Object { kind: ObjectKind::Memfd.into(), token: 1, label: "ram".into() };
    let declare = Declare { objects: vec![object], ..Declare::default() };
    client.say("", Message::Declare(declare), &[memory.as_fd()]);
    assert!(matches!(client.hear(), Message::Verdict(_)));
    thread::scope(|scope| {
        let taken = scope.spawn(|| keeper.preserve(ATTEMPT, &[], &mut || true));
        assert!(matches!(client.hear(), Message::Preserve(_)));
        client.say(ATTEMPT, Message::Preserved(Preserved {}), &[]);
        taken.join().unwrap().unwrap();
        let stops = scope.spawn(|| keeper.quiesce(ATTEMPT, Duration::from_secs(30)));
        assert!(matches!(client.hear(), Message::Quiesce(_)));
        let quiesced = Quiesced { counter: 5, interrupts_off: true, ..Quiesced::default() };
        client.say(ATTEMPT, Message::Quiesced(quiesced), &[]);
        assert_eq!(stops.join().unwrap().unwrap()[0].vote, Ok(()));
    });
    machine.calls.taken();
    let intent = JumpIntent { attempt: ATTEMPT.into(), nonce: "0".repeat(32), target, until: Duration::MAX };
    (keeper, intent, client)
}

#[test]
fn a_holder_that_stands_is_jumped_with() {
    let machine = Machine::new();
    let (keeper, intent, mut client) = ready(&machine);
    thread::scope(|scope| {
        let jumping = scope.spawn(|| keeper.jump(&intent));
        assert!(matches!(client.hear(), Message::Commit(_)));
        assert!(matches!(client.hear(), Message::Resume(_)));
        client.say(ATTEMPT, Message::Resumed(Resumed::default()), &[]);
        assert!(jumping.join().unwrap().unwrap_err().why.contains("busy"));
    });
    assert!(machine.calls.taken().contains(&"reboot, recorded".to_owned()));
}

/// Its guest runs again by contract: what was written of it is old.
#[test]
fn a_holder_that_could_not_be_told_the_last_word_is_not_jumped_with() {
    let machine = Machine::new();
    let (keeper, intent, client) = ready(&machine);
    shutdown(&client.packets, Shutdown::Read).unwrap();
    let refused = keeper.jump(&intent).unwrap_err();
    assert!(refused.why.contains("vm-a"), "{}", refused.why);
    let done = machine.calls.taken();
    assert!(!done.iter().any(|call| call.starts_with("reboot")), "{done:?}");
    assert_eq!(done.last().map(String::as_str), Some("thaw /boot/efi"), "all goes on");
    assert!(keeper.resume("refused").is_ok() && keeper.unpreserve().is_ok());
}
