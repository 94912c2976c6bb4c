//! An orchestrator in memory: sessions with the kernel's rules, files that are really handed from process to process.
//! A session's file is a folder in which each token is a link to the file; taking out is opening it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use liveupdate_host::linux::custody::sessions::{Arrived, Leaving, Orchestrate, Told};
use liveupdate_host::linux::luo::{LuoError, SessionName, Token};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// A machine's orchestrator, over all its kernels.
#[derive(Clone)]
pub(crate) struct Orchestrator(Arc<Mutex<Inner>>);

struct Inner {
    folder: PathBuf,
    leaving: BTreeMap<String, Vec<(u64, OwnedFd)>>,
    arrived: BTreeMap<String, Vec<(u64, OwnedFd)>>,
    taken: Vec<String>,
    /// Token whose preservation fails.
    refuses: Option<u64>,
    /// FINISH fails that many times.
    busy: usize,
    /// Sessions that cannot be taken, and files that cannot be taken out of them, with what the kernel says and how many
    /// times yet.
    hindered: BTreeMap<String, (Errno, usize)>,
    log: Vec<String>,
    /// Files that are VFIO devices, by inode.
    devices: BTreeMap<u64, Told>,
}

fn error(call: &'static str, thing: impl Into<String>, errno: Errno) -> LuoError {
    LuoError::Call { call, thing: thing.into(), meaning: "as the kernel would", source: errno.into() }
}

impl Inner {
    fn is_free(&mut self, call: &'static str, thing: &str) -> Result<(), LuoError> {
        match self.hindered.get_mut(thing) {
            Some((errno, times)) if *times > 0 => {
                *times -= 1;
                Err(error(call, thing, *errno))
            }
            _ => Ok(()),
        }
    }
}

impl Orchestrator {
    pub(crate) fn new(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let (leaving, arrived, taken, hindered, log, devices) = Default::default();
        let inner = Inner { folder, leaving, arrived, taken, refuses: None, busy: 0, hindered, log, devices };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// The next kernel: what leaves arrives, what arrived and was not finished is gone.
    pub(crate) fn jump(&self) {
        let mut inner = self.lock();
        inner.arrived = std::mem::take(&mut inner.leaving);
        inner.taken.clear();
        inner.log.push("jumped".into());
    }

    /// A file is a VFIO device, as the kernel would tell of it.
    pub(crate) fn device(&self, file: &File, link: &str, info: &str) {
        let told = Told { link: link.into(), info: info.into() };
        self.lock().devices.insert(file.metadata().unwrap().ino(), told);
    }

    pub(crate) fn refuse(&self, token: Option<u64>) {
        self.lock().refuses = token;
    }

    pub(crate) fn be_busy(&self, times: usize) {
        self.lock().busy = times;
    }

    /// A session, or `token 0 of` one, cannot be taken that many times.
    pub(crate) fn hinder(&self, session: &str, errno: Errno, times: usize) {
        self.lock().hindered.insert(session.into(), (errno, times));
    }

    /// What happened since the last look.
    pub(crate) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().log)
    }

    pub(crate) fn sessions(&self) -> usize {
        let inner = self.lock();
        inner.leaving.len() + inner.arrived.len()
    }

    /// Session files as a service manager would have kept them: by the names that they were put under.
    pub(crate) fn folders(&self) -> BTreeMap<String, OwnedFd> {
        let inner = self.lock();
        let open =
            |name: &String| (name.clone(), OwnedFd::from(File::open(inner.folder.join(name)).unwrap()));
        inner.taken.iter().map(open).collect()
    }

    /// A file on its way out, to be changed as a fault would.
    pub(crate) fn leaving(&self, session: &str, token: u64) -> File {
        let inner = self.lock();
        let (_, file) = inner.leaving[session].iter().find(|(t, _)| *t == token).unwrap();
        File::from(file.try_clone().unwrap())
    }

    /// The file of an arrived session, to be changed as a fault would.
    pub(crate) fn arrived(&self, session: &str, token: u64) -> File {
        let inner = self.lock();
        let (_, file) = inner.arrived[session].iter().find(|(t, _)| *t == token).unwrap();
        File::from(file.try_clone().unwrap())
    }
}

impl Orchestrate for Orchestrator {
    fn create(&self, name: &SessionName) -> Result<Box<dyn Leaving>, LuoError> {
        let mut inner = self.lock();
        if inner.leaving.contains_key(name.as_str()) {
            return Err(error("CREATE_SESSION", name.as_str(), Errno::EXIST));
        }
        inner.leaving.insert(name.as_str().into(), Vec::new());
        inner.log.push(format!("create {}", name.as_str()));
        Ok(Box::new(LeavingSession { all: self.clone(), name: name.as_str().into() }))
    }

    fn retrieve(&self, name: &SessionName) -> Result<Box<dyn Arrived>, LuoError> {
        let name = name.as_str();
        let mut inner = self.lock();
        inner.is_free("RETRIEVE_SESSION", name)?;
        if inner.taken.iter().any(|taken| taken == name) {
            return Err(error("RETRIEVE_SESSION", name, Errno::INVAL));
        }
        let files = inner.arrived.get(name).ok_or_else(|| error("RETRIEVE_SESSION", name, Errno::NOENT))?;
        let folder = inner.folder.join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("name"), name).unwrap();
        for (token, file) in files {
            let link = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
            std::os::unix::fs::symlink(link, folder.join(token.to_string())).unwrap();
        }
        inner.taken.push(name.into());
        let file = OwnedFd::from(File::open(folder).unwrap());
        Ok(Box::new(ArrivedSession { all: self.clone(), name: name.into(), file }))
    }

    fn told(&self, file: BorrowedFd<'_>) -> std::io::Result<Told> {
        let inode = File::from(file.try_clone_to_owned()?).metadata()?.ino();
        let nothing = || Told { link: String::new(), info: String::new() };
        Ok(self.lock().devices.get(&inode).cloned().unwrap_or_else(nothing))
    }

    fn kept(&self, file: OwnedFd) -> Result<Box<dyn Arrived>, LuoError> {
        let mut name = String::new();
        let named = rustix::fs::openat(&file, "name", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let named = named.map_err(|errno| error("GET_NAME", "file", errno))?;
        File::from(named).read_to_string(&mut name).unwrap();
        Ok(Box::new(ArrivedSession { all: self.clone(), name, file }))
    }
}

struct LeavingSession {
    all: Orchestrator,
    name: String,
}

impl Leaving for LeavingSession {
    fn preserve(&self, token: Token, file: BorrowedFd<'_>) -> Result<(), LuoError> {
        let thing = format!("token {} of {}", token.0, self.name);
        let mut inner = self.all.lock();
        if inner.refuses == Some(token.0) {
            return Err(error("PRESERVE_FD", thing, Errno::OPNOTSUPP));
        }
        let inode =
            |file: BorrowedFd<'_>| File::from(file.try_clone_to_owned().unwrap()).metadata().unwrap().ino();
        if inner.leaving.values().flatten().any(|(_, other)| inode(other.as_fd()) == inode(file)) {
            return Err(error("PRESERVE_FD", thing, Errno::BUSY));
        }
        let files = inner.leaving.get_mut(&self.name).unwrap();
        if files.iter().any(|(t, _)| *t == token.0) {
            return Err(error("PRESERVE_FD", thing, Errno::EXIST));
        }
        files.push((token.0, file.try_clone_to_owned().unwrap()));
        inner.log.push(format!("preserve {thing}"));
        Ok(())
    }
}

impl Drop for LeavingSession {
    fn drop(&mut self) {
        let mut inner = self.all.lock();
        // Nothing is left of it here when it has jumped.
        if inner.leaving.remove(&self.name).is_some() {
            inner.log.push(format!("give back {}", self.name));
        }
    }
}

struct ArrivedSession {
    all: Orchestrator,
    name: String,
    file: OwnedFd,
}

impl Arrived for ArrivedSession {
    fn retrieve(&self, token: Token) -> Result<OwnedFd, LuoError> {
        let mut inner = self.all.lock();
        inner.is_free("RETRIEVE_FD", &format!("token {} of {}", token.0, self.name))?;
        let files = inner.arrived.get(&self.name).into_iter().flatten();
        let file = files.into_iter().find(|(t, _)| *t == token.0).map(|(_, file)| file.try_clone().unwrap());
        file.ok_or_else(|| error("RETRIEVE_FD", format!("token {} of {}", token.0, self.name), Errno::NOENT))
    }

    fn finish(&self) -> Result<(), LuoError> {
        let mut inner = self.all.lock();
        if inner.busy > 0 {
            inner.busy -= 1;
            return Err(error("FINISH", self.name.as_str(), Errno::BUSY));
        }
        inner.arrived.remove(&self.name);
        inner.log.push(format!("finish {}", self.name));
        Ok(())
    }

    fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for ArrivedSession {
    fn drop(&mut self) {
        let mut inner = self.all.lock();
        // As the kernel does when the last file of a session goes; somebody else may have kept a copy of ours.
        if inner.arrived.contains_key(&self.name) {
            inner.log.push(format!("close {}", self.name));
        }
    }
}
