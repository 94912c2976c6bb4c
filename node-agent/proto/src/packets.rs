//! The handover socket itself: SOCK_SEQPACKET, files beside the bytes. What a packet means is [`crate::frame`]'s.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

use crate::frame::{MAX_BYTES, MAX_FILES};

/// One packet with the files beside it.
#[derive(Debug)]
pub struct Packet {
    /// One message.
    pub bytes: Vec<u8>,
    /// Its files.
    pub files: Vec<OwnedFd>,
}

/// One end of a connection. Both directions can be used at once.
#[derive(Debug)]
pub struct Packets {
    socket: OwnedFd,
}

/// Room for one file more than is allowed, so that too many are seen as such. The kernel closes the rest.
const CONTROL: usize = rustix::cmsg_space!(ScmRights(MAX_FILES + 1));

impl Packets {
    /// Connects to whoever listens at a path.
    ///
    /// # Errors
    /// Nobody does, or it may not be connected to.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = socket()?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self { socket })
    }

    /// The end of a connection that was accepted.
    pub fn accepted(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Sends one packet. Does not wait: who leaves hundreds of messages unread is as good as gone.
    ///
    /// # Errors
    /// The connection is broken or full.
    pub fn send(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::<u8>::uninit(); CONTROL];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many files for one packet"));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, flags)?;
        Ok(())
    }

    /// Waits for one packet; none at the end of file. One that is too large or has too many files comes with one byte
    /// or one file more than are allowed: [`crate::frame::Sequence::decode`] refuses it.
    ///
    /// # Errors
    /// The connection is broken, or [`Packets::patience`] is over.
    pub fn receive(&self) -> io::Result<Option<Packet>> {
        let mut bytes = vec![0; MAX_BYTES + 1];
        let mut space = [MaybeUninit::<u8>::uninit(); CONTROL];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match rustix::net::recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                received => break received?,
            }
        };
        let mut files = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                files.extend(more);
            }
        }
        if received.bytes == 0 && files.is_empty() {
            return Ok(None);
        }
        let cut = received.flags.contains(ReturnFlags::TRUNC);
        bytes.truncate(if cut { MAX_BYTES + 1 } else { received.bytes });
        Ok(Some(Packet { bytes, files }))
    }

    /// How long [`Packets::receive`] waits; none: for ever.
    ///
    /// # Errors
    /// The socket is none.
    pub fn patience(&self, patience: Option<Duration>) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(&self.socket, sockopt::Timeout::Recv, patience)?)
    }

    /// Ends the connection, also for a thread that waits in [`Packets::receive`].
    pub fn end(&self) {
        // It may have ended already.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
    }
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket of the right kind.
///
/// # Errors
/// No more files.
pub fn socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FrameError, Sequence};

    fn pair() -> (Packets, Packets) {
        let pair =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (a, b) = pair.unwrap();
        (Packets::accepted(a), Packets::accepted(b))
    }

    #[test]
    fn packets_and_files_come_whole_and_in_order() {
        let (here, there) = pair();
        let null = std::fs::File::open("/dev/null").unwrap();
        here.send(b"one", &[null.as_fd(), null.as_fd()]).unwrap();
        here.send(&[7; MAX_BYTES], &vec![null.as_fd(); MAX_FILES]).unwrap();
        let first = there.receive().unwrap().unwrap();
        assert_eq!((first.bytes.as_slice(), first.files.len()), (b"one".as_slice(), 2));
        let second = there.receive().unwrap().unwrap();
        assert_eq!((second.bytes.len(), second.files.len()), (MAX_BYTES, MAX_FILES));
        drop(here);
        assert!(there.receive().unwrap().is_none());
    }

    #[test]
    fn what_is_too_much_is_seen_and_refused() {
        let (here, there) = pair();
        here.send(&[7; MAX_BYTES + 500], &[]).unwrap();
        let packet = there.receive().unwrap().unwrap();
        let refused = Sequence::default().decode(&packet.bytes, packet.files.len());
        assert_eq!(refused, Err(FrameError::TooLarge(MAX_BYTES + 1)));

        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(here.send(b"x", &vec![null.as_fd(); MAX_FILES + 9]).is_err(), "this side sends no more");
        here.send(b"x", &vec![null.as_fd(); MAX_FILES + 1]).unwrap();
        let packet = there.receive().unwrap().unwrap();
        let refused = Sequence::default().decode(&packet.bytes, packet.files.len());
        assert_eq!(refused, Err(FrameError::TooManyFiles(MAX_FILES + 1)));
    }

    #[test]
    fn a_waiting_thread_is_ended_and_patience_has_an_end() {
        let (_here, there) = pair();
        there.patience(Some(Duration::from_millis(10))).unwrap();
        assert!(there.receive().is_err());
        there.patience(None).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| there.receive());
            there.end();
            assert!(waiting.join().unwrap().unwrap().is_none());
        });
    }
}
