//! Processes on a leash: started with their output in a file, signalled by pid, and never left behind.
//!
//! ```text
//!  this process ──pipe──► sh: read; kill -KILL 0     leader of process group G
//!       │
//!       └──────────────► the program                 in group G, so are its children
//! ```
//! The shell waits for the end of the pipe. When this process ends, even by SIGKILL, the kernel closes
//! the pipe and the shell kills the group, itself included. The parent-death signal would not do: it
//! follows the *thread* that started the child and does not reach grandchildren.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::{Error, Result};

/// How often an end that was asked for is looked for.
const POLL: Duration = Duration::from_millis(10);
/// Lines of a log that an error carries.
const TAIL_LINES: usize = 30;

/// What to start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The name in errors, and of the log.
    pub name: String,
    /// The program's path, or a name to be found on `PATH`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables on top of this process's own environment.
    pub env: BTreeMap<OsString, OsString>,
    /// The file that gets both stdout and stderr, appended to.
    pub log: PathBuf,
}

impl Spec {
    /// A program with its log at `<logs>/<name>.log`.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, logs: &Path) -> Spec {
        let name = name.into();
        let log = logs.join(format!("{name}.log"));
        Spec { name, program: program.into(), args: Vec::new(), env: BTreeMap::new(), log }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Spec {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds one variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Spec {
        self.env.insert(key.into(), value.into());
        self
    }
}

/// A started process. It is killed, with all its children, when this value goes.
#[derive(Debug)]
pub struct Process {
    spec: Spec,
    child: Child,
    leash: Leash,
}

#[derive(Debug)]
struct Leash {
    shell: Child,
    // Open while the group may live.
    pipe: Option<ChildStdin>,
}

/// The pid of a [`Process`], for signals from other threads and hooks. It stays true until the process
/// is waited for.
#[derive(Clone, Debug)]
pub struct Handle {
    name: String,
    pid: u32,
}

impl Process {
    /// Starts the program.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started. A program that starts and then
    /// ends at once is no error here.
    pub fn start(spec: Spec) -> Result<Process> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&spec.log)
            .map_err(Error::file("open", &spec.log))?;
        let second = log.try_clone().map_err(Error::file("open", &spec.log))?;
        let leash = Leash::new().map_err(|source| Error::Spawn {
            name: format!("the leash of {}", spec.name),
            program: "sh".into(),
            source,
        })?;
        let child = Command::new(&spec.program)
            .args(&spec.args)
            .envs(&spec.env)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(second)
            .process_group(leash.group())
            .spawn()
            .map_err(|source| Error::Spawn {
                name: spec.name.clone(),
                program: spec.program.clone(),
                source,
            })?;
        Ok(Process { spec, child, leash })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What it was started with, to start it again.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.spec.log
    }

    /// For signals from elsewhere.
    pub fn handle(&self) -> Handle {
        Handle { name: self.spec.name.clone(), pid: self.pid() }
    }

    /// How it ended, when it has.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        let (name, pid) = (self.spec.name.clone(), self.pid());
        self.child.try_wait().map_err(|source| Error::Process { action: "ask about", name, pid, source })
    }

    /// An error with the end of the log when it has ended.
    ///
    /// # Errors
    /// [`Error::Exited`].
    pub fn check_running(&mut self) -> Result<()> {
        match self.status()? {
            None => Ok(()),
            Some(status) => Err(Error::Exited {
                name: self.spec.name.clone(),
                status: status.to_string(),
                tail: log_tail(&self.spec.log),
            }),
        }
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// [`Error::Deadline`] with the end of the log.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.status()? {
                return Ok(status);
            }
            if begun.elapsed() >= deadline {
                return Err(Error::Deadline {
                    what: format!("the end of {}", self.spec.name),
                    waited: deadline,
                    detail: format!("; the end of its log:\n{}", log_tail(&self.spec.log)),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// [`Error::Deadline`]; it still runs then.
    pub async fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.status()? {
            return Ok(status);
        }
        self.handle().signal(Signal::TERM)?;
        self.wait(deadline).await
    }

    /// Ends it at once (SIGKILL), with its children, and waits until it is gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        let (name, pid) = (self.spec.name.clone(), self.pid());
        let fail = |source| Error::Process { action: "kill", name, pid, source };
        let status = self.child.kill().and_then(|()| self.child.wait()).map_err(fail)?;
        self.leash.cut();
        Ok(status)
    }

    /// Stops it in its tracks (SIGSTOP) until [`Process::thaw`], and returns only when it has stopped.
    ///
    /// # Errors
    /// When it is gone.
    pub fn freeze(&self) -> Result<()> {
        self.handle().freeze()
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// When it is gone.
    pub fn thaw(&self) -> Result<()> {
        self.handle().signal(Signal::CONT)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Cutting the leash kills the whole group; both are then reaped, so that no zombie stays.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Handle {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let fail = |source: rustix::io::Errno| self.fail("signal", source.into());
        rustix::process::kill_process(self.raw()?, signal).map_err(fail)
    }

    /// SIGKILL, and returns only when the process has ended: nothing it does comes after this. Its
    /// status is left for [`Process::wait`].
    ///
    /// # Errors
    /// When the process is gone already, or was not started by this process.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.await_change(WaitIdOptions::EXITED)
    }

    /// As [`Process::freeze`].
    ///
    /// # Errors
    /// When the process is gone.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        // A signal that is sent next could overtake the stop otherwise: they are delivered by number.
        self.await_change(WaitIdOptions::STOPPED | WaitIdOptions::EXITED)
    }

    fn await_change(&self, changes: WaitIdOptions) -> Result<()> {
        // NOWAIT leaves the pid taken, so it cannot become another process's under our hands.
        let options = changes | WaitIdOptions::NOWAIT;
        let fail = |source: rustix::io::Errno| self.fail("wait for", source.into());
        rustix::process::waitid(WaitId::Pid(self.raw()?), options).map(drop).map_err(fail)
    }

    fn raw(&self) -> Result<Pid> {
        i32::try_from(self.pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| self.fail("find", std::io::Error::other("the kernel gives no such process ids")))
    }

    fn fail(&self, action: &'static str, source: std::io::Error) -> Error {
        Error::Process { action, name: self.name.clone(), pid: self.pid, source }
    }
}

impl Leash {
    fn new() -> std::io::Result<Leash> {
        let mut shell = Command::new("sh")
            .args(["-c", "read -r _; kill -KILL 0", "liveupdate-lab-leash"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = shell.stdin.take();
        Ok(Leash { shell, pipe })
    }

    fn group(&self) -> i32 {
        // Linux's process ids are below 2^22.
        i32::try_from(self.shell.id()).unwrap_or(i32::MAX)
    }

    fn cut(&mut self) {
        if self.pipe.take().is_some() {
            let _ = self.shell.wait();
        }
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.cut();
    }
}

/// The last lines of a log, for errors.
pub fn log_tail(path: &Path) -> String {
    let text =
        std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
