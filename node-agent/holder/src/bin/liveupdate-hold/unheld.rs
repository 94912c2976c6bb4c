//! Declares a file that it does not hold: a child has it, and speaks over the connection that we made. The keeper knows
//! who connected.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use liveupdate_holder::frame::{FrameError, Sequence, VERSION};
use liveupdate_holder::messages::envelope::Message;
use liveupdate_holder::messages::{Declare, Hello, Object, ObjectKind};
use liveupdate_holder::{Packet, Socket, Transport};
use rustix::fs::MemfdFlags;

use crate::tell;

/// Set for the child, whose standard input the connection is.
pub(crate) const CHILD: &str = "LIVEUPDATE_HOLD_DECLARES";

fn other(error: FrameError) -> io::Error {
    io::Error::other(error)
}

fn hello(name: &str, sequence: &mut Sequence) -> io::Result<Vec<u8>> {
    let hello = Hello { name: name.to_owned(), versions: vec![VERSION] };
    sequence.encode("", Message::Hello(hello), 0).map_err(other)
}

/// Says hello, lets the child declare, and tells what the keeper answers.
pub(crate) fn declare(name: &str, path: &Path) -> io::Result<()> {
    let mut sequence = Sequence::default();
    let mut socket = Socket::connect(path)?;
    socket.send(Packet { bytes: hello(name, &mut sequence)?, files: Vec::new() })?;
    answer(name, &mut socket, &mut sequence)?;
    let connection: OwnedFd = socket.as_fd().try_clone_to_owned()?;
    let child = Command::new(std::env::current_exe()?)
        .args(["--name", name])
        .env(CHILD, "1")
        .stdin(Stdio::from(connection))
        .status()?;
    if !child.success() {
        return Err(io::Error::other(format!("the child that declares ended with {child}")));
    }
    answer(name, &mut socket, &mut sequence)
}

fn answer(name: &str, socket: &mut Socket, sequence: &mut Sequence) -> io::Result<()> {
    let packet = socket.receive()?.ok_or_else(|| io::Error::other("the keeper ended the connection"))?;
    let (_, message) = sequence.decode(&packet.bytes, packet.files.len()).map_err(other)?;
    match message {
        Message::Refused(refused) => tell(name, &format!("refused: {}", refused.reason)),
        Message::Welcome(_) => {}
        _ => tell(name, "was believed"),
    }
    Ok(())
}

/// The child's part.
pub(crate) fn declare_for(name: &str) -> io::Result<()> {
    let mut sequence = Sequence::default();
    // The parent has said it.
    hello(name, &mut sequence)?;
    let file = rustix::fs::memfd_create("not-yours", MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&file, 4096)?;
    let object = Object { kind: ObjectKind::Memfd.into(), token: 1, label: "not mine".into() };
    let declare = Declare { objects: vec![object], ..Declare::default() };
    let bytes = sequence.encode("", Message::Declare(declare), 1).map_err(other)?;
    Socket::from(io::stdin().as_fd().try_clone_to_owned()?).send(Packet { bytes, files: vec![file] })
}
