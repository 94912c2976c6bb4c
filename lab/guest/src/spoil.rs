//! What others do on a machine, for tests: settings, sessions and open files of somebody else, writing to the last
//! moment.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use liveupdate_host::linux::kexec::{self, CommandLine};
use liveupdate_host::linux::kho::Kho;
use liveupdate_host::linux::luo::{DEVICE, Orchestrator, SessionName};
use liveupdate_host::linux::processes::{Held, Processes};
use liveupdate_host::linux::root::Root;
use liveupdate_proto::causes::chain;

const PAUSE: Duration = Duration::from_millis(1);

/// Writes a file in place, without syncing anything: a kernel's setting, or data.
pub(crate) fn put(path: &str, text: &str) -> Result<(), String> {
    let open = OpenOptions::new().write(true).create(true).truncate(true).open(path);
    open.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| format!("cannot write {text:?} to {path}: {error}"))
}

/// Writes a file to standard output.
pub(crate) fn get(path: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot read {path}: {error}");
    let mut file = File::open(path).map_err(failed)?;
    std::io::copy(&mut file, &mut std::io::stdout()).map(drop).map_err(failed)
}

/// Ends a process by force.
pub(crate) fn kill(pid: &str) -> Result<(), String> {
    let raw = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
    let raw = raw.ok_or_else(|| format!("{pid} is no process id"))?;
    rustix::process::kill_process(raw, rustix::process::Signal::KILL)
        .map_err(|error| format!("cannot kill {pid}: {error}"))
}

/// Does not end when it is asked to.
pub(crate) fn stubborn() -> Result<(), String> {
    let failed = |error: std::io::Error| format!("no signals: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let entered = runtime.enter();
    // Whoever listens for it is not ended by it.
    let _asked = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(failed)?;
    drop(entered);
    stay("does not end when it is asked to")
}

/// Holds a file open for good.
pub(crate) fn open(path: &str) -> Result<(), String> {
    let _file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| format!("cannot open {path}: {error}"))?;
    stay(&format!("holds {path}"))
}

/// Holds a session of its own for good, as somebody else's orchestration would.
pub(crate) fn session(name: &str) -> Result<(), String> {
    let name = SessionName::new(name).map_err(|error| chain(&error))?;
    let orchestrator = Orchestrator::open(Path::new(DEVICE)).map_err(|error| chain(&error))?;
    let _session = orchestrator.create_session(&name).map_err(|error| chain(&error))?;
    // Only the session is somebody else's: the device is free again.
    drop(orchestrator);
    stay("holds a session")
}

/// Loads a kernel, as somebody would who knows nothing of live updates.
pub(crate) fn load(kernel: &str, initrd: &str) -> Result<(), String> {
    let open = |path: &str| File::open(path).map_err(|error| format!("cannot open {path}: {error}"));
    let (kernel, initrd) = (open(kernel)?, open(initrd)?);
    let line = CommandLine::new("console=ttyS0").map_err(|error| chain(&error))?;
    kexec::load(&kernel, Some(initrd.as_fd()), &line).map_err(|error| chain(&error))
}

/// Unloads what is loaded.
pub(crate) fn unload() -> Result<(), String> {
    kexec::unload().map_err(|error| chain(&error))
}

fn stay(what: &str) -> Result<(), String> {
    println!("lab-init: {what}");
    loop {
        std::thread::park();
    }
}

/// Appends numbers, one a line, and never syncs. The last whole one is what a power cut at any moment may not take
/// once somebody else has synced.
pub(crate) fn write_on(path: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot write to {path}: {error}");
    let mut file = File::create(path).map_err(failed)?;
    for number in 0_u64.. {
        writeln!(file, "{number}").map_err(failed)?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// What a leak would show in, as `name=value` words: memory in KiB, sessions that anybody has open, and entries of a few
/// folders.
pub(crate) fn memory() -> Result<(), String> {
    let text = std::fs::read_to_string("/proc/meminfo").map_err(|error| format!("/proc/meminfo: {error}"))?;
    for name in ["MemAvailable", "MemTotal", "CmaTotal", "Shmem"] {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let value = line.and_then(|rest| rest.split_whitespace().next()).unwrap_or("?");
        print!("{name}={value} ");
    }
    let root = Root::machine();
    let scratch = Kho::read(&root).scratch.map_err(|error| chain(&error))?;
    let processes = Processes::read(&root).map_err(|error| chain(&error))?;
    let files = processes.holding.iter().flat_map(|process| &process.files);
    let sessions = files.filter(|(_, held)| matches!(held, Held::Session(_))).count();
    print!("Scratch={} Sessions={sessions} ", scratch.iter().map(|area| area.length >> 10).sum::<u64>());
    let count = |folder: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        // What is being written has two names for a moment.
        entries.filter(|entry| entry.path().extension().is_none_or(|ending| ending != "new")).count()
    };
    println!("Records={} Bundles={}", count("/var/lib/liveupdate"), count("/var/lib/liveupdate/bundles"));
    Ok(())
}
