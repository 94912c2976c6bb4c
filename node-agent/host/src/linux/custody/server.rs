//! The handover socket: one thread for each connection, few of them, each message bounded before it is read.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use liveupdate_proto::packets::{self, Packets};
use rustix::net::{SocketAddrUnix, SocketFlags, sockopt};

use super::log::report;
use super::state::Shared;
use super::talk;
use crate::HostError;

/// Every holder that can be taken, and some that are on their way out.
const MAX_CONNECTIONS: usize = super::index::MAX_HOLDERS + 16;
/// For what one connection is said: for an attempt it is locked in memory, whole.
const STACK: usize = 256 << 10;
/// How soon the socket closes when it is to.
const TICK: Duration = Duration::from_millis(50);

/// A socket that is being served; dropping it ends every connection.
pub(super) struct Server {
    path: PathBuf,
    ending: Arc<AtomicBool>,
    shared: Arc<Shared>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Self, HostError> {
        let path = shared.options.socket.clone();
        let failed = |why: String| HostError::Io { what: format!("listen at {}", path.display()), why };
        let listener = listen(&path).map_err(|error| failed(error.to_string()))?;
        let ending = Arc::new(AtomicBool::new(false));
        let (stop, all) = (Arc::clone(&ending), Arc::clone(shared));
        let acceptor = thread::Builder::new().name("holders-accept".into());
        let acceptor = acceptor
            .spawn(move || accept(&all, &listener, &stop))
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { path, ending, shared: Arc::clone(shared), acceptor: Some(acceptor) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            // A panic in there has been printed; there is nothing left to end.
            let _ = acceptor.join();
        }
        for connected in self.shared.lock().connected.values() {
            connected.packets.end();
        }
        // Left behind it would only be replaced by the next keeper.
        let _ = fs::remove_file(&self.path);
    }
}

fn listen(path: &Path) -> io::Result<OwnedFd> {
    if Packets::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another keeper answers there; stop it first"));
    }
    let remove = |path: &Path| match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    remove(path)?;
    // Made under another name, so that nobody connects before its mode is set.
    let new = path.with_added_extension("new");
    remove(&new)?;
    let listener = packets::socket()?;
    rustix::net::bind(&listener, &SocketAddrUnix::new(&new)?)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    rustix::net::listen(&listener, 64)?;
    sockopt::set_socket_timeout(&listener, sockopt::Timeout::Recv, Some(TICK))?;
    fs::rename(&new, path)?;
    Ok(listener)
}

fn accept(shared: &Arc<Shared>, listener: &OwnedFd, ending: &AtomicBool) {
    let connections = Arc::new(AtomicUsize::new(0));
    while !ending.load(Ordering::Relaxed) {
        let Ok(socket) = rustix::net::accept_with(listener.as_fd(), SocketFlags::CLOEXEC) else {
            // Nobody came for a while; without files left, whoever comes must wait.
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        if connections.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            connections.fetch_sub(1, Ordering::Relaxed);
            report("a connection was closed: there are too many");
            continue;
        }
        let (all, counted) = (Arc::clone(shared), Arc::clone(&connections));
        let builder = thread::Builder::new().name("holder".into()).stack_size(STACK);
        let spawned = builder.spawn(move || {
            talk::serve(&all, &Arc::new(Packets::accepted(socket)));
            counted.fetch_sub(1, Ordering::Relaxed);
        });
        if let Err(error) = spawned {
            connections.fetch_sub(1, Ordering::Relaxed);
            report(&format!("a connection was closed: {error}"));
        }
    }
}
