//! The keeper's socket: root-only, one request at a time on each connection, few connections.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use liveupdate_proto::keeper::v1::Request;
use rustix::net::sockopt;

use crate::frame;
use crate::keeper::Keeper;

/// For a message to come or go once it has begun.
pub(crate) const TRANSFER: Duration = Duration::from_secs(10);
/// A long request, an abort, a status, and one to spare.
const MAX_CONNECTIONS: usize = 8;
/// For all that a request can lead to: for an attempt it is locked in memory, whole.
const STACK: usize = 256 << 10;
/// How often deadlines are looked at, and how soon the socket closes when it is to.
const TICK: Duration = Duration::from_millis(50);

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another keeper answers there.
    #[error("another keeper already answers at {}; stop it first", .0.display())]
    InUse(PathBuf),
    /// The socket cannot be made.
    #[error("cannot listen at {}", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        why: io::Error,
    },
}

/// A socket that is being served in threads of its own; dropping it ends them.
pub struct Server {
    path: PathBuf,
    ending: Arc<AtomicBool>,
    acceptor: Option<thread::JoinHandle<()>>,
}

/// Serves a keeper at a path.
///
/// # Errors
/// Another keeper answers there, or the socket cannot be made.
pub fn serve(keeper: Arc<Keeper>, path: &Path) -> Result<Server, ServeError> {
    let failed = |why| ServeError::Listen { path: path.to_path_buf(), why };
    let listener = listen(path)?;
    let idle = sockopt::set_socket_timeout(&listener, sockopt::Timeout::Recv, Some(TICK));
    idle.map_err(|e| failed(e.into()))?;
    let ending = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&ending);
    let acceptor = thread::Builder::new().name("keeper-accept".into());
    let acceptor = acceptor.spawn(move || accept(&keeper, &listener, &stop)).map_err(failed)?;
    Ok(Server { path: path.to_path_buf(), ending, acceptor: Some(acceptor) })
}

impl Server {
    /// Whether it still accepts: it ends by itself when the machine has jumped, or the keeper was uninstalled.
    pub fn is_serving(&self) -> bool {
        self.acceptor.as_ref().is_some_and(|acceptor| !acceptor.is_finished())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            // A panic in there has been printed; there is nothing left to end.
            let _ = acceptor.join();
        }
        // Left behind it would only be replaced by the next keeper.
        let _ = fs::remove_file(&self.path);
    }
}

fn listen(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |why| ServeError::Listen { path: path.to_path_buf(), why };
    if UnixStream::connect(path).is_ok() {
        return Err(ServeError::InUse(path.to_path_buf()));
    }
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(failed(why)),
        _ => {}
    }
    // Made under another name, so that nobody connects before its mode is set.
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(failed(why)),
        _ => {}
    }
    let listener = UnixListener::bind(&new).map_err(failed)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)?;
    Ok(listener)
}

fn accept(keeper: &Arc<Keeper>, listener: &UnixListener, ending: &AtomicBool) {
    let connections = Arc::new(AtomicUsize::new(0));
    while !ending.load(Ordering::Relaxed) && !keeper.is_over() {
        let Ok((stream, _)) = listener.accept() else {
            // Nobody came for a while.
            keeper.tick();
            continue;
        };
        if connections.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (keeper, counted) = (Arc::clone(keeper), Arc::clone(&connections));
        let builder = thread::Builder::new().name("keeper-request".into()).stack_size(STACK);
        let spawned = builder.spawn(move || {
            if let Err(error) = converse(&keeper, stream) {
                eprintln!("liveupdate-keeper: a connection was closed: {error}");
            }
            counted.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
    // The last replies still go out: in a simulation, and when the keeper was uninstalled.
    for _ in 0..20 {
        if connections.load(Ordering::Relaxed) == 0 {
            break;
        }
        thread::sleep(TICK);
    }
}

fn converse(keeper: &Keeper, mut stream: UnixStream) -> io::Result<()> {
    check_owner(&stream)?;
    stream.set_read_timeout(Some(TRANSFER))?;
    stream.set_write_timeout(Some(TRANSFER))?;
    while let Some(request) = frame::read::<Request>(&mut stream)? {
        let reply = keeper.handle(&request);
        frame::write(&mut stream, &reply)?;
        if keeper.is_over() {
            break;
        }
    }
    Ok(())
}

/// The other side is root, or the user that we run as.
pub(crate) fn check_owner(stream: &UnixStream) -> io::Result<()> {
    let peer = sockopt::socket_peercred(stream)?;
    if peer.uid.is_root() || peer.uid == rustix::process::geteuid() {
        return Ok(());
    }
    let why = format!("peer has uid {}, which may not speak to a keeper", peer.uid.as_raw());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}
