//! Who is at the other end: its process as the kernel knows it, and whom that belongs to.

// getsockopt(2) for SO_PEERPIDFD, which rustix does not have.
#![allow(unsafe_code, reason = "getsockopt(2) for SO_PEERPIDFD")]

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

use crate::linux::cgroup::{self, Owner};
use crate::linux::root::Root;

/// The process that connected.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) pid: u32,
    pub(super) uid: u32,
    /// Path of its control group.
    pub(super) cgroup: String,
    pub(super) owner: Owner,
    /// Says whether it is still that process: ids are used again.
    process: OwnedFd,
}

impl Peer {
    /// Finds out; the sentence says why that is not possible.
    pub(super) fn of(socket: BorrowedFd<'_>, root: &Root) -> Result<Self, String> {
        let process = process(socket)
            .map_err(|error| format!("the kernel does not tell who you are (SO_PEERPIDFD): {error}"))?;
        let named = sockopt::socket_peercred(socket)
            .map_err(|error| format!("the kernel does not tell who you are (SO_PEERCRED): {error}"))?;
        let pid = u32::try_from(named.pid.as_raw_nonzero().get()).unwrap_or_default();
        let cgroup = cgroup::path_of(root, pid)
            .map_err(|error| format!("it cannot be told whom process {pid} belongs to: {error}"))?;
        let peer = Self { pid, uid: named.uid.as_raw(), owner: Owner::of(&cgroup), cgroup, process };
        // Read while it lived, so that it was read of this process and no later one of the same id.
        if peer.alive() { Ok(peer) } else { Err(format!("process {pid} has ended")) }
    }

    /// It has not ended.
    pub(super) fn alive(&self) -> bool {
        let mut ended = [PollFd::new(&self.process, PollFlags::IN)];
        poll(&mut ended, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count == 0)
    }

    /// Whom it belongs to, as it is written down: the same unit or pod comes again after a jump, by another process.
    pub(super) fn key(&self) -> String {
        match &self.owner {
            Owner::Unit(name) => format!("unit {name}"),
            Owner::Pod(uid) => format!("pod {uid}"),
            Owner::Other(path) => format!("group {path} of user {}", self.uid),
        }
    }

    /// Names that look like a unit's or a pod's are theirs alone; the sentence says whose.
    pub(super) fn may_be_called(&self, name: &str) -> Result<(), String> {
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(format!("a name has 1 to {MAX_NAME} bytes and no control characters"));
        }
        let whose = match &self.owner {
            Owner::Unit(unit) => unit.as_str(),
            Owner::Pod(uid) => uid.as_str(),
            Owner::Other(_) => "",
        };
        let unit = name.ends_with(".service") || name.ends_with(".scope");
        if (unit || is_uid(name)) && name != whose {
            return Err(format!(
                "{name} is the name of a unit or a pod that you are not: you are {}",
                self.key()
            ));
        }
        Ok(())
    }
}

/// Longest name of a holder, in bytes.
pub(super) const MAX_NAME: usize = 128;

fn is_uid(name: &str) -> bool {
    let groups: Vec<usize> = name.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn process(socket: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    let mut fd: libc::c_int = -1;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    let raw = socket.as_fd().as_raw_fd();
    // SAFETY: SO_PEERPIDFD writes one int to where it is told, and its length to where that is told; both live for the
    // whole call.
    let result = unsafe {
        libc::getsockopt(raw, libc::SOL_SOCKET, libc::SO_PEERPIDFD, (&raw mut fd).cast(), &raw mut length)
    };
    if result != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the kernel has put a new file into our table under this number, which nobody else
    // knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(owner: Owner) -> Peer {
        let process =
            rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty());
        Peer { pid: 1, uid: 0, cgroup: "/".into(), owner, process: process.unwrap() }
    }

    #[test]
    fn names_of_units_and_pods_are_theirs_alone() {
        let uid = "0b3c7a52-1f7e-4c57-9b0e-6a2f6d6f9c11";
        let unit = peer(Owner::Unit("vm-a.service".into()));
        let pod = peer(Owner::Pod(uid.into()));
        let other = peer(Owner::Other("/".into()));
        assert!(unit.may_be_called("vm-a.service").is_ok() && unit.may_be_called("vm-a").is_ok());
        assert!(pod.may_be_called(uid).is_ok() && other.may_be_called("vm-a").is_ok());
        for refused in [
            unit.may_be_called("vm-b.service"),
            unit.may_be_called(uid),
            pod.may_be_called("x.scope"),
            other.may_be_called("vm-a.service"),
            other.may_be_called(""),
            other.may_be_called("a\nb"),
            other.may_be_called(&"x".repeat(MAX_NAME + 1)),
        ] {
            assert!(refused.is_err(), "{refused:?}");
        }
        assert!(unit.alive());
    }
}
