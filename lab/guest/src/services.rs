//! The guest's services: what systemd is to a real machine. Each runs in a control group of its own and is
//! started again when it fails.
//!
//! ```text
//!   wanted ──► spawned ──fails──► after a moment: spawned
//!                 └──ends, or is asked to (SIGTERM)──► waits until it is wanted
//! ```

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use liveupdate_lab_guest::{Order, SLICE, Service};
use rustix::process::{Pid, Signal};

use crate::store::{self, FileStore, MOST};

/// Where systemd has the links of what it starts.
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";
/// Where they lead to.
const UNITS: &str = "/etc/systemd/system";
/// As `RestartSec=` is by default.
const AGAIN: Duration = Duration::from_millis(100);
/// SIGTERM.
const TERMINATED: i32 = 15;
/// Killed processes of a busy machine are gone after this.
const GONE: Duration = Duration::from_secs(20);

/// All services.
#[derive(Clone, Default)]
pub(crate) struct Services(Arc<Inner>);

#[derive(Default)]
struct Inner {
    entries: Mutex<BTreeMap<String, Entry>>,
    changed: Condvar,
}

#[derive(Default)]
struct Entry {
    wanted: bool,
    pid: Option<u32>,
    /// It has said that it is ready, or has ended: nobody waits for it any more.
    up: bool,
    /// What it stored goes with it.
    forget: bool,
}

impl Services {
    /// Reads what every kernel starts. A guest that was never told of services has none.
    pub(crate) fn read(path: &str) -> io::Result<Vec<Service>> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Starts those that are not known yet.
    pub(crate) fn start(&self, services: Vec<Service>) -> io::Result<()> {
        for service in services {
            if self.lock().contains_key(&service.name) {
                continue;
            }
            want(&service.name)?;
            self.lock().insert(service.name.clone(), Entry { wanted: true, ..Entry::default() });
            let inner = Services(Arc::clone(&self.0));
            let name = format!("service-{}", service.name);
            std::thread::Builder::new().name(name).spawn(move || inner.keep(&service))?;
        }
        Ok(())
    }

    /// Does something to one.
    pub(crate) fn order(&self, name: &str, order: Order) -> io::Result<()> {
        let mut entries = self.lock();
        let entry = entries.get_mut(name);
        let entry = entry.ok_or_else(|| io::Error::other(format!("there is no service {name}")))?;
        let signal = match order {
            Order::Kill => Signal::KILL,
            Order::Freeze => Signal::STOP,
            Order::Thaw => Signal::CONT,
            Order::Forget => {
                entry.forget = true;
                Signal::KILL
            }
            Order::Stop => {
                entry.wanted = false;
                Signal::KILL
            }
            Order::Start => {
                entry.wanted = true;
                self.0.changed.notify_all();
                return Ok(());
            }
        };
        let Some(pid) = entry.pid else {
            return match order {
                Order::Stop => Ok(()),
                _ => Err(io::Error::other(format!("service {name} does not run"))),
            };
        };
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| io::Error::other(format!("{pid} is no process id")))?;
        rustix::process::kill_process(raw, signal)?;
        if signal == Signal::KILL {
            // Nothing that it does comes after the answer.
            let gone = |entries: &mut BTreeMap<String, Entry>| {
                entries.get(name).is_some_and(|entry| entry.pid == Some(pid))
            };
            let waited = self.0.changed.wait_timeout_while(entries, GONE, gone);
            if waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
                return Err(io::Error::other(format!("service {name} (pid {pid}) outlived SIGKILL")));
            }
        }
        Ok(())
    }

    /// Starts a service whenever it is wanted and does not run; never returns.
    fn keep(&self, service: &Service) {
        let (ready, name) = (self.clone(), service.name.clone());
        let store = match FileStore::open(&service.name, move || ready.note_up(&name)) {
            Ok(store) => store,
            Err(error) => return println!("lab-init: no files are kept for {}: {error}", service.name),
        };
        let mut input = service.input.as_str();
        if let Some(first) = &service.after {
            self.await_up(first);
        }
        loop {
            self.await_wanted(&service.name);
            match spawn(service, &store, std::mem::take(&mut input)) {
                Ok(mut child) => {
                    self.note_start(&service.name, child.id());
                    let ended = child.wait();
                    self.forget(&service.name, &store);
                    // As with `Restart=on-failure`: who was asked to end, or had nothing more to do, stays ended.
                    let over = ended
                        .as_ref()
                        .is_ok_and(|status| status.success() || status.signal() == Some(TERMINATED));
                    self.note_end(&service.name, over);
                    match ended {
                        Ok(status) => println!("lab-init: service {} ended: {status}", service.name),
                        Err(error) => println!("lab-init: service {}: {error}", service.name),
                    }
                }
                Err(error) => println!("lab-init: cannot start service {}: {error}", service.name),
            }
            std::thread::sleep(AGAIN);
        }
    }

    fn forget(&self, name: &str, store: &FileStore) {
        if let Some(entry) = self.lock().get_mut(name)
            && std::mem::take(&mut entry.forget)
        {
            store.clear();
        }
    }

    fn await_wanted(&self, name: &str) {
        self.wait_while(name, |entry| !entry.is_some_and(|entry| entry.wanted));
    }

    /// One that is not known is not waited for.
    fn await_up(&self, name: &str) {
        self.wait_while(name, |entry| entry.is_some_and(|entry| !entry.up));
    }

    fn wait_while(&self, name: &str, goes_on: impl Fn(Option<&Entry>) -> bool) {
        drop(self.0.changed.wait_while(self.lock(), |entries| goes_on(entries.get(name))));
    }

    fn note_up(&self, name: &str) {
        self.change(name, |entry| entry.up = true);
    }

    fn note_start(&self, name: &str, pid: u32) {
        self.change(name, |entry| entry.pid = Some(pid));
    }

    fn note_end(&self, name: &str, over: bool) {
        self.change(name, |entry| {
            entry.pid = None;
            entry.up = true;
            entry.wanted &= !over;
        });
    }

    fn change(&self, name: &str, to: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().get_mut(name) {
            to(entry);
        }
        self.0.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows, as systemd does, that the service is started with every kernel.
fn want(name: &str) -> io::Result<()> {
    std::fs::create_dir_all(WANTS)?;
    std::fs::write(Path::new(UNITS).join(format!("{name}.service")), "[Service]\n")?;
    let link = Path::new(WANTS).join(format!("{name}.service"));
    match std::os::unix::fs::symlink(format!("../{name}.service"), link) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The group has to be joined before the program's first instruction, and only a process can do that to
/// itself without a moment outside: hence `enter`.
fn spawn(service: &Service, store: &FileStore, input: &str) -> io::Result<std::process::Child> {
    let group = Path::new(SLICE).join(format!("{}.service", service.name));
    std::fs::create_dir_all(&group)?;
    if let Some(max) = &service.memory_max {
        limit(&group, max)?;
    }
    Command::new("/proc/self/exe")
        .arg("enter")
        .arg(group)
        .arg(service.oom_score.to_string())
        .arg(&service.program)
        .args(&service.args)
        .envs(&service.env)
        .env("NOTIFY_SOCKET", store.socket())
        .env("FDSTORE", MOST.to_string())
        .stdin(Stdio::from(OwnedFd::from(store.hand_over(input)?)))
        .spawn()
}

/// From the first service that is limited on, all memory is accounted for.
fn limit(group: &Path, max: &str) -> io::Result<()> {
    let above: Vec<&Path> = Path::new(SLICE).ancestors().take(2).collect();
    for group in above.into_iter().rev() {
        std::fs::write(group.join("cgroup.subtree_control"), "+memory")?;
    }
    std::fs::write(group.join("memory.max"), max)
}

/// Joins a control group and becomes the program.
pub(crate) fn enter(group: &str, oom_score: &str, program: &str, args: &[&str]) -> Result<(), String> {
    let members = Path::new(group).join("cgroup.procs");
    std::fs::write(&members, "0").map_err(|error| format!("cannot join {group}: {error}"))?;
    let score = "/proc/self/oom_score_adj";
    std::fs::write(score, oom_score)
        .map_err(|error| format!("cannot write {oom_score} to {score}: {error}"))?;
    let stored = store::take_over().map_err(|error| format!("cannot take over stored files: {error}"))?;
    // Returns only when it failed.
    let failed = Command::new(program).args(args).envs(stored.variables).stdin(stored.input).exec();
    Err(format!("cannot run {program}: {failed}"))
}
