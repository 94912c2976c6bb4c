//! The service manager's fd store: what it keeps of ours when we die. Only what came through a jump is put there; a
//! session that is still to leave dies with us, which undoes it, as the keeper itself would on its next start.

// Files that the service manager hands over are known by number alone.
#![allow(unsafe_code, reason = "taking over the files that LISTEN_FDS names")]

use std::collections::BTreeMap;
use std::env;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};

/// The first file that the manager hands over.
const FIRST: i32 = 3;
/// More than we ever put there.
const MOST: i32 = 512;
/// Our files' names begin so.
const PREFIX: &str = "liveupdate-";

/// The store of the manager that started us, if one did.
#[derive(Debug, Default)]
pub struct FdStore {
    notify: Option<PathBuf>,
}

impl FdStore {
    /// No store: what we hold dies with us.
    pub fn none() -> Self {
        Self::default()
    }

    /// As the environment says, with what is kept there: by the names that it was put under. For the first thing that a
    /// process does, and once: the files are its own from then on.
    pub fn of_environment() -> (Self, BTreeMap<String, OwnedFd>) {
        let notify = env::var_os("NOTIFY_SOCKET").map(PathBuf::from);
        (Self { notify }, inherited())
    }

    /// There is one.
    pub(super) fn keeps(&self) -> bool {
        self.notify.is_some()
    }

    /// Puts a copy of a file there.
    pub(super) fn put(&self, name: &str, file: BorrowedFd<'_>) -> std::io::Result<()> {
        // FDPOLL=0: the manager shall not drop a file because it looks ended.
        self.tell(&format!("FDSTORE=1\nFDNAME={PREFIX}{name}\nFDPOLL=0"), &[file])
    }

    /// Takes it out.
    pub(super) fn remove(&self, name: &str) -> std::io::Result<()> {
        self.tell(&format!("FDSTOREREMOVE=1\nFDNAME={PREFIX}{name}"), &[])
    }

    fn tell(&self, what: &str, files: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        let Some(path) = &self.notify else { return Ok(()) };
        let address = match path.to_str().and_then(|path| path.strip_prefix('@')) {
            Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes())?,
            None => SocketAddrUnix::new(path)?,
        };
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(files));
        }
        let parts = [IoSlice::new(what.as_bytes())];
        rustix::net::sendmsg_addr(&socket, &address, &parts, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

fn inherited() -> BTreeMap<String, OwnedFd> {
    let number = |name: &str| env::var(name).ok()?.parse::<i32>().ok();
    let ours = number("LISTEN_PID") == i32::try_from(std::process::id()).ok();
    let count = number("LISTEN_FDS").filter(|count| ours && (1..=MOST).contains(count)).unwrap_or(0);
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut files = BTreeMap::new();
    for (fd, name) in (FIRST..FIRST + count).zip(names.split(':')) {
        let Some(name) = name.strip_prefix(PREFIX) else { continue };
        // SAFETY: the service manager opened it for us under this number and says so (sd_listen_fds(3)); nobody else in
        // this process takes it: `of_environment` is called once.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        // A child must not inherit it: it would keep a session from ending.
        if rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::CLOEXEC).is_ok() {
            files.insert(name.to_owned(), file);
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn files_are_put_and_removed_by_name_and_without_a_store_nothing_happens() {
        let path = env::temp_dir().join(format!("liveupdate-fdstore-{}", std::process::id()));
        let manager = UnixDatagram::bind(&path).unwrap();
        let store = FdStore { notify: Some(path.clone()) };
        let file = std::fs::File::open("/dev/null").unwrap();
        store.put("own", file.as_fd()).unwrap();
        store.remove("own").unwrap();
        let mut text = [0; 200];
        let length = manager.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"FDSTORE=1\nFDNAME=liveupdate-own\nFDPOLL=0");
        let length = manager.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"FDSTOREREMOVE=1\nFDNAME=liveupdate-own");
        std::fs::remove_file(path).unwrap();
        assert!(store.put("own", file.as_fd()).is_err(), "a manager that is gone is told of");
        FdStore::none().put("own", file.as_fd()).unwrap();
    }
}
