//! Files that a service gives into the first process's keeping, and gets back when it is started again: the
//! part of systemd's protocol that the keeper uses.
//!
//! ```text
//!  service ── FDSTORE=1 FDNAME=… + file ──► $NOTIFY_SOCKET, one for each service ──► FileStore
//!          ── FDSTOREREMOVE=1 FDNAME=… ──►
//!          ── READY=1 ───────────────────►   who waits for it goes on
//!  FileStore ── names, files ──► standard input of `enter` ──► LISTEN_FDS, LISTEN_FDNAMES from file 3 on
//! ```
//! Files travel as messages and not by inheritance: other services are started at the same time, and what one
//! of them inherited would never be closed.

use std::fs::{self, File};
use std::io::{self, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// Most files of one service. As many fit into one message.
pub(crate) const MOST: usize = 64;
const FOLDER: &str = "/run/lab";
/// Longer messages are cut.
const MESSAGE: usize = 8 << 10;
/// The first file that a service is given, by systemd's convention.
const FIRST: usize = 3;

/// The files of one service.
#[derive(Clone)]
pub(crate) struct FileStore {
    socket: PathBuf,
    files: Arc<Mutex<Vec<(String, OwnedFd)>>>,
}

impl FileStore {
    /// Begins to listen to a service; `ready` is called whenever it says that it is.
    pub(crate) fn open(service: &str, ready: impl Fn() + Send + 'static) -> io::Result<FileStore> {
        fs::create_dir_all(FOLDER)?;
        let socket = Path::new(FOLDER).join(format!("{service}.notify"));
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listening = UnixDatagram::bind(&socket)?;
        let store = FileStore { socket, files: Arc::default() };
        let sink = store.clone();
        std::thread::Builder::new()
            .name(format!("store-{service}"))
            .spawn(move || sink.listen(&listening, ready))?;
        Ok(store)
    }

    /// What the service sends to.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The standard input of `enter`, for a service that is about to be started: it holds the files, and what
    /// shall be the service's own standard input.
    pub(crate) fn hand_over(&self, input: &str) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let files = self.held();
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        let fds: Vec<BorrowedFd<'_>> = files.iter().map(|(_, file)| file.as_fd()).collect();
        let text = format!("{}\n{input}", names.join(":"));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::other(format!("{} files do not fit one message", fds.len())));
        }
        rustix::net::sendmsg(&ours, &[IoSlice::new(text.as_bytes())], &mut ancillary, SendFlags::empty())?;
        Ok(theirs)
    }

    /// Loses all of them.
    pub(crate) fn clear(&self) {
        self.held().clear();
    }

    fn listen(&self, socket: &UnixDatagram, ready: impl Fn()) {
        loop {
            match receive(socket) {
                Ok((text, files)) => {
                    if says(&text, "READY=1") {
                        ready();
                    }
                    self.take(&text, files);
                }
                Err(error) => println!("lab-init: {}: {error}", self.socket.display()),
            }
        }
    }

    fn take(&self, text: &str, files: Vec<OwnedFd>) {
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored");
        let mut held = self.held();
        if says(text, "FDSTOREREMOVE=1") {
            held.retain(|(other, _)| other != name);
        } else if says(text, "FDSTORE=1") {
            held.extend(files.into_iter().map(|file| (name.to_owned(), file)));
            held.truncate(MOST);
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<(String, OwnedFd)>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn says(text: &str, word: &str) -> bool {
    text.lines().any(|line| line == word)
}

/// What [`FileStore::hand_over`] put into our standard input.
pub(crate) struct TakenOver {
    /// Variables for the program that this process is about to become. The files stay open over that.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// Its standard input.
    pub(crate) input: Stdio,
}

/// Takes it over.
pub(crate) fn take_over() -> io::Result<TakenOver> {
    let (text, files) = receive(io::stdin())?;
    let count = files.len();
    for (index, file) in files.into_iter().enumerate() {
        // A process that was just started has files 0 to 2; the kernel gives the lowest free numbers.
        if usize::try_from(file.as_raw_fd()).ok() != Some(FIRST + index) {
            return Err(io::Error::other(format!("stored file {index} came as file {}", file.as_raw_fd())));
        }
        std::mem::forget(file);
    }
    let (names, input) = text.split_once('\n').unwrap_or((&text, ""));
    let mut variables = Vec::new();
    if count > 0 {
        variables.push(("LISTEN_FDS", count.to_string()));
        variables.push(("LISTEN_FDNAMES", names.to_owned()));
        variables.push(("LISTEN_PID", std::process::id().to_string()));
    }
    Ok(TakenOver { variables, input: pipe_with(input)? })
}

/// Becomes another program, whose standard input is the first line of a file or a disk; where there are only zeros, nothing.
pub(crate) fn with_input(path: &str, program: &str, args: &[&str]) -> Result<(), String> {
    let line = || -> io::Result<String> {
        let mut line = Vec::new();
        for byte in BufReader::new(File::open(path)?).take(MESSAGE as u64).bytes() {
            match byte? {
                b'\n' | 0 => break,
                byte => line.push(byte),
            }
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    };
    let input = line().and_then(|line| pipe_with(&line));
    let input = input.map_err(|error| format!("cannot read {path}: {error}"))?;
    let error = Command::new(program).args(args).stdin(input).exec();
    Err(format!("cannot become {program}: {error}"))
}

/// Something to be read to its end; small, so that it fits the pipe.
fn pipe_with(text: &str) -> io::Result<Stdio> {
    if text.is_empty() {
        return Ok(Stdio::null());
    }
    let (read, mut write) = io::pipe()?;
    write.write_all(text.as_bytes())?;
    Ok(read.into())
}

fn receive(socket: impl AsFd) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let received = rustix::net::recvmsg(socket, &mut slices, &mut ancillary, RecvFlags::empty())?;
    let mut files = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            files.extend(more);
        }
    }
    bytes.truncate(received.bytes);
    Ok((String::from_utf8_lossy(&bytes).into_owned(), files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_handed_over_by_name_until_it_is_removed() {
        let (_, theirs) = UnixStream::pair().unwrap();
        let store = FileStore { socket: PathBuf::new(), files: Arc::default() };
        store.take("READY=1", Vec::new());
        store.take("FDSTORE=1\nFDNAME=one", vec![theirs.try_clone().unwrap().into()]);
        store.take("FDSTORE=1\nFDNAME=two", vec![theirs.try_clone().unwrap().into()]);
        let (text, files) = receive(store.hand_over("secret").unwrap()).unwrap();
        assert_eq!((text.as_str(), files.len()), ("one:two\nsecret", 2));
        store.take("FDSTOREREMOVE=1\nFDNAME=one", Vec::new());
        let (text, files) = receive(store.hand_over("secret").unwrap()).unwrap();
        assert_eq!((text.as_str(), files.len()), ("two\nsecret", 1));
    }
}
