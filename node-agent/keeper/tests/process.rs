//! The keeper as a process: behind its socket, killed for real, over a jump.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::*;
use liveupdate_host::Host;
use liveupdate_host::simulated::{Durations, Pace, World, WorldSpec};
use liveupdate_keeper::{ClientError, KeeperClient, Socket};
use liveupdate_proto::common::v1::{NodeState, Outcome};
use liveupdate_proto::keeper::v1::{reply, request::Message};

const LIMIT: Duration = Duration::from_secs(30);

/// A folder of a machine; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("liveupdate-keeper-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("keeper.sock")
    }

    fn client(&self) -> Socket {
        Socket::new(self.socket(), LIMIT)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A keeper process; killed at the end.
struct Process(Child);

impl Process {
    fn start(folder: &Folder) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_liveupdate-keeper"))
            .arg("--host")
            .arg(format!("simulated:{}", folder.0.join("machine").display()))
            .arg("--socket")
            .arg(folder.socket())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut process = Self(child);
        let mut ready = [0; 25];
        process.0.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        assert_eq!(&ready, b"liveupdate-keeper: ready\n");
        process
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn ends(mut self) {
        let started = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < LIMIT, "it did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn machine(folder: &Folder, spec: &WorldSpec) -> World {
    World::create(&folder.0.join("machine"), spec).unwrap()
}

fn ask(folder: &Folder, message: Message) -> liveupdate_proto::keeper::v1::Reply {
    folder.client().ask(&request(message)).unwrap()
}

fn wait_for(folder: &Folder, state: NodeState) -> liveupdate_proto::common::v1::AttemptReport {
    let started = Instant::now();
    loop {
        let reply = folder.client().ask(&status()).unwrap();
        if let Some(reply::Message::Attempt(report)) = reply.message
            && report.state() == state
        {
            return report;
        }
        assert!(started.elapsed() < LIMIT, "never {state:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn invariant_6_a_keeper_process_killed_while_it_preserves_undoes_when_started_again() {
    let folder = Folder::new("killed");
    let slow = Durations { preserve: 60_000, ..Durations::default() };
    let world = machine(&folder, &WorldSpec { pace: Pace::Real, durations: slow, ..spec() });
    let process = Process::start(&folder);
    let client = folder.client();
    let preserving = std::thread::spawn(move || client.ask(&request(preserve())));
    wait_for(&folder, NodeState::Preserving);
    process.kill();
    assert!(matches!(preserving.join().unwrap(), Err(ClientError::Unreachable { .. })));
    assert!(matches!(folder.client().ask(&status()), Err(ClientError::Unreachable { .. })));

    let _again = Process::start(&folder);
    let end = wait_for(&folder, NodeState::Aborted);
    assert_eq!(end.message, "the keeper was started again");
    assert_eq!(world.host().unwrap().preserved().unwrap(), None);
}

#[test]
fn a_keeper_process_jumps_ends_with_its_machine_and_proves_the_return() {
    let folder = Folder::new("jump");
    let world = machine(&folder, &WorldSpec { pace: Pace::Real, durations: Durations::default(), ..spec() });
    let process = Process::start(&folder);
    let host = world.host().unwrap();
    host.stage(&target(), &mut |_, _| true).unwrap();
    ask(&folder, preserve());
    ask(&folder, settle());
    assert_eq!(report(ask(&folder, Message::Jump(jump(&host)))).state(), NodeState::Jumping);
    process.ends();
    assert!(world.wait_for_power_event(LIMIT).unwrap().unwrap().comes_back);
    world.boot().unwrap();

    let process = Process::start(&folder);
    wait_for(&folder, NodeState::Verifying);
    process.kill();
    let _again = Process::start(&folder);
    let back = wait_for(&folder, NodeState::Verifying);
    assert!(back.proof.clone().unwrap().nonce_returned);
    assert_eq!(outcome_of(&back, GPU), Outcome::Uninterrupted);
    assert_eq!(report(ask(&folder, confirm())).state(), NodeState::Updated);
}

#[test]
fn the_socket_is_its_owners_alone_and_outlives_bad_peers() {
    let folder = Folder::new("socket");
    machine(&folder, &spec());
    let process = Process::start(&folder);
    let mode = fs::metadata(folder.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    for bad in [&[0xff; 64][..], &[3, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0x7f]] {
        let mut stream = UnixStream::connect(folder.socket()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(bad).unwrap();
        assert_eq!(closed(&mut stream), 0, "closed without a word");
    }
    // Somebody who connects and says nothing keeps nobody else out.
    let _silent = UnixStream::connect(folder.socket()).unwrap();
    assert!(matches!(folder.client().ask(&status()).unwrap().message, Some(reply::Message::Idle(_))));

    let second = start_second(&folder);
    assert!(second.contains("another keeper already answers"), "{second}");
    process.kill();
    // A socket that was left behind is no obstacle.
    let _next = Process::start(&folder);
    assert!(folder.client().ask(&status()).is_ok());
}

/// How many bytes come before the end; a reset is an end, too.
/// In an attempt the keeper's memory is locked, and that of every connection with it.
#[test]
fn a_connection_takes_no_more_memory_than_it_needs() {
    let folder = Folder::new("memory");
    machine(&folder, &spec());
    let keeper = Process::start(&folder);
    let _waits = [0, 1].map(|_| UnixStream::connect(folder.socket()).unwrap());
    let proc = PathBuf::from(format!("/proc/{}", keeper.0.id()));
    // Where a thread stands in its stack, while it waits for the kernel.
    let size = |task: PathBuf| {
        let maps = fs::read_to_string(proc.join("maps")).ok()?;
        let called = fs::read_to_string(task.join("syscall")).ok()?;
        let stack = called.split_whitespace().rev().nth(1)?.strip_prefix("0x")?;
        let stack = u64::from_str_radix(stack, 16).ok()?;
        let mut spans = maps.lines().filter_map(|line| {
            let (from, to) = line.split_once(' ')?.0.split_once('-')?;
            Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
        });
        spans.find(|(from, to)| (*from..*to).contains(&stack)).map(|(from, to)| to - from)
    };
    let started = Instant::now();
    let sizes = loop {
        let tasks = fs::read_dir(proc.join("task")).unwrap().flatten().map(|task| task.path());
        let requests = tasks.filter(|task| {
            fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "keeper-request\n")
        });
        let sizes: Vec<u64> = requests.filter_map(size).collect();
        if sizes.len() >= 2 {
            break sizes;
        }
        assert!(started.elapsed() < LIMIT, "{sizes:?}");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(sizes.iter().all(|size| *size <= 260 << 10), "{sizes:?}");
}

fn closed(stream: &mut UnixStream) -> usize {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(length) => length,
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => rest.len(),
        Err(e) => panic!("not closed: {e}"),
    }
}

fn start_second(folder: &Folder) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_liveupdate-keeper"))
        .arg("--host")
        .arg(format!("simulated:{}", folder.0.join("machine").display()))
        .arg("--socket")
        .arg(folder.socket())
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_host_or_machine_that_is_not_there_is_a_clear_error() {
    let error = |host: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_liveupdate-keeper"))
            .args(["--host", host, "--socket", "unused.sock"])
            .output()
            .unwrap();
        assert!(!output.status.success() && !Path::new("unused.sock").exists());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(error("windows").contains("want linux, linux:ROOT or simulated:DIR"));
    let folder = Folder::new("empty");
    assert!(error(&format!("simulated:{}", folder.0.display())).contains("world.json"));
    fs::write(folder.0.join("world.json"), "{\"release\": \"r\", \"fault\": []}").unwrap();
    let typo = error(&format!("simulated:{}", folder.0.display()));
    assert!(typo.contains("malformed") && typo.contains("unknown field `fault`"), "{typo}");
}

#[test]
fn a_keeper_over_a_tree_of_a_real_machines_files_answers_and_stays_under_that_root() {
    let folder = Folder::new("linux");
    let root = folder.0.join("root");
    for (path, text) in [
        ("proc/sys/kernel/random/boot_id", "0b3c7a52-1f7e-4c57-9b0e-6a2f6d6f9c11\n"),
        ("proc/sys/kernel/osrelease", "7.3.4-lu1\n"),
        ("proc/self/mountinfo", "1 1 0:2 / / rw - rootfs rootfs rw\n"),
        ("proc/self/oom_score_adj", "0"),
        ("sys/kernel/kexec_loaded", "0\n"),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    // As a kubelet makes it for a pod that mounts it before there is a keeper.
    let run = root.join("run/liveupdate");
    fs::create_dir_all(&run).unwrap();
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_liveupdate-keeper"))
        .arg(format!("--host=linux:{}", root.display()))
        .arg(format!("--socket={}", folder.socket().display()))
        .env_remove("NOTIFY_SOCKET")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut process = Process(child);
    let mut ready = [0; 25];
    process.0.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    assert!(matches!(folder.client().ask(&status()).unwrap().message, Some(reply::Message::Idle(_))));
    assert_eq!(fs::read_to_string(root.join("proc/self/oom_score_adj")).unwrap(), "-1000");
    let told = fs::read_to_string(run.join("keeper.json")).unwrap();
    assert!(
        told.contains(&format!("\"pid\":{}", process.0.id())) && told.contains("\"filesKept\":false"),
        "{told}"
    );
    assert!(root.join("var/lib/liveupdate").is_dir());
    // Pods of holders have the folder of their socket mounted: of what is root's alone, nothing is in it.
    let names = |folder: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(&run), ["holders", "holders.json", "keeper.json"]);
    assert_eq!(names(&run.join("holders")), ["holders.sock"]);
    for folder in [run.clone(), run.join("holders")] {
        assert_eq!(
            fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
            0o700,
            "{}",
            folder.display()
        );
    }

    // What was changed on the disk is said, and nothing is begun.
    process.kill();
    fs::write(root.join("var/lib/liveupdate/journal.record"), "garbage").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_liveupdate-keeper"))
        .arg(format!("--host=linux:{}", root.display()))
        .arg(format!("--socket={}", folder.socket().display()))
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("journal.record is malformed"), "{error}");
}
