//! A machine on which holders are real processes, sockets and memory are real, and kernels are replaced in memory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use liveupdate_holder::frame::{Sequence, VERSION};
use liveupdate_holder::messages::envelope::Message;
use liveupdate_holder::messages::{Declare, Hello, Object, ObjectKind};
use liveupdate_host::linux::custody::{Custodian, FdStore, Options};
use liveupdate_host::linux::root::Root;
use liveupdate_host::{HostError, JumpIntent, Target};
use liveupdate_proto::packets::Packets;

use crate::orchestrator::Orchestrator;

pub(crate) const ATTEMPT: &str = "7f3c-0a1b2c3d-1";
pub(crate) const NONCE: &str = "00112233445566778899aabbccddeeff";
/// For anything that happens at once on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Machine {
    folder: PathBuf,
    pub(crate) orchestrator: Orchestrator,
    boot: AtomicUsize,
}

impl Machine {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Short: a socket's path has room for 107 bytes.
        let folder = std::env::temp_dir().join(format!("lu-custody-{}-{count}", std::process::id()));
        fs::create_dir_all(folder.join("root/proc")).unwrap();
        let orchestrator = Orchestrator::new(folder.join("sessions"));
        let machine = Self { folder, orchestrator, boot: AtomicUsize::new(1) };
        machine.belongs(std::process::id(), "/");
        machine
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            socket: self.folder.join("holders.sock"),
            published: self.folder.join("holders.json"),
            device: "/nowhere".into(),
            root: Root::at(self.folder.join("root")),
            boot_id: format!("boot-{}", self.boot.load(Ordering::Relaxed)),
            // So that ticks are nanoseconds.
            counter_khz: Some(1_000_000),
        }
    }

    pub(crate) fn keeper(&self) -> Custodian {
        self.keeper_with(BTreeMap::new())
    }

    /// One that finds these files in its service manager's store.
    pub(crate) fn keeper_with(&self, kept: BTreeMap<String, OwnedFd>) -> Custodian {
        self.try_keeper(kept).unwrap()
    }

    pub(crate) fn try_keeper(&self, kept: BTreeMap<String, OwnedFd>) -> Result<Custodian, HostError> {
        let orchestrator = Arc::new(self.orchestrator.clone());
        Custodian::start_over(self.options(), orchestrator, FdStore::none(), kept)
    }

    /// All processes end, the next kernel's keeper comes up.
    pub(crate) fn jump(&self, keeper: Custodian) -> Custodian {
        self.leave(keeper);
        self.keeper()
    }

    /// All processes end; the next kernel has no keeper yet.
    pub(crate) fn leave(&self, keeper: Custodian) {
        self.orchestrator.jump();
        drop(keeper);
        self.boot.fetch_add(1, Ordering::Relaxed);
    }

    /// A process is in this control group.
    pub(crate) fn belongs(&self, pid: u32, group: &str) {
        let folder = self.folder.join(format!("root/proc/{pid}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cgroup"), format!("0::{group}\n")).unwrap();
        for name in ["fd", "fdinfo"] {
            let _ = std::os::unix::fs::symlink(format!("/proc/{pid}/{name}"), folder.join(name));
        }
    }

    /// A process looks as if it had nothing open.
    pub(crate) fn holds_nothing(&self, pid: u32) {
        let folder = self.folder.join(format!("root/proc/{pid}/fd"));
        fs::remove_file(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
    }

    /// A file of the machine.
    pub(crate) fn file(&self, path: &str, text: &str) {
        let path = self.folder.join("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A folder of the machine is gone.
    pub(crate) fn gone(&self, path: &str) {
        fs::remove_dir_all(self.folder.join("root").join(path)).unwrap();
    }

    /// A new file, and that this process has it open as a VFIO device.
    pub(crate) fn device(&self, address: &str) -> fs::File {
        let file = fs::File::create(self.folder.join(format!("vfio-{address}"))).unwrap();
        let info = format!("pos:\t0\nvfio-device-syspath: /sys/devices/pci0000:00/{address}\n");
        self.orchestrator.device(&file, "/dev/vfio/devices/noiommu-vfio0", &info);
        let own = self.folder.join(format!("root/proc/{}/fdinfo", std::process::id()));
        if own.is_symlink() {
            fs::remove_file(&own).unwrap();
        }
        let number = std::os::fd::AsRawFd::as_raw_fd(&file);
        self.file(&format!("proc/{}/fdinfo/{number}", std::process::id()), &info);
        file
    }

    /// A group that exists, without the memory controller.
    pub(crate) fn unlimited(&self, path: &str) {
        fs::create_dir_all(self.folder.join(format!("root/sys/fs/cgroup{path}"))).unwrap();
    }

    pub(crate) fn group(&self, path: &str, max: &str) {
        self.charged(path, max, 0, 0);
    }

    /// A group that is charged with so many bytes, some of them of shared memory.
    pub(crate) fn charged(&self, path: &str, max: &str, current: u64, shmem: u64) {
        let folder = self.folder.join(format!("root/sys/fs/cgroup{path}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("memory.max"), max).unwrap();
        fs::write(folder.join("memory.current"), current.to_string()).unwrap();
        fs::write(folder.join("memory.stat"), format!("anon 4096\nshmem {shmem}\n")).unwrap();
    }

    /// A `liveupdate-hold` of a unit of its own name, which may take as much memory as it likes.
    pub(crate) fn hold(&self, name: &str, seed: &str, arguments: &[&str]) -> Hold {
        self.group(&format!("/system.slice/{name}.service"), "max");
        self.hold_in(&format!("/system.slice/{name}.service"), name, seed, arguments)
    }

    pub(crate) fn hold_in(&self, group: &str, name: &str, seed: &str, arguments: &[&str]) -> Hold {
        let mut child = Command::new(env!("CARGO_BIN_EXE_liveupdate-hold"))
            .args(["--name", name, "--sessions", "folder", "--seed", "-", "--size", "1M", "--interval", "1"])
            .arg("--socket")
            .arg(self.folder.join("holders.sock"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        self.belongs(child.id(), group);
        // It connects once it has its seed.
        writeln!(child.stdin.take().unwrap(), "{seed}").unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (output, all) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&lines));
        thread::spawn(move || {
            output.lines().map_while(Result::ok).for_each(|line| all.lock().unwrap().push(line));
        });
        Hold { child, lines }
    }

    pub(crate) fn client(&self) -> Client {
        let packets = Packets::connect(&self.folder.join("holders.sock")).unwrap();
        packets.patience(Some(SOON)).unwrap();
        Client { packets, sequence: Sequence::default() }
    }

    /// One that is welcomed under a name, once whoever had it is gone.
    pub(crate) fn welcomed(&self, name: &str) -> Client {
        let mut welcomed = None;
        until("the name is free", || {
            let mut client = self.client();
            let hello = Message::Hello(Hello { name: name.into(), versions: vec![VERSION] });
            // Whom the keeper has no room for yet it may have left before anything was said.
            let said = client.try_say("", hello, &[]).is_ok();
            let free = said && matches!(client.hear(), Some(Message::Welcome(_)));
            welcomed = free.then_some(client);
            free
        });
        welcomed.unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn intent() -> JumpIntent {
    JumpIntent {
        attempt: ATTEMPT.into(),
        nonce: NONCE.into(),
        target: Target::default(),
        until: Duration::MAX,
    }
}

pub(crate) fn preserve(keeper: &Custodian) -> Result<(), HostError> {
    keeper.preserve(ATTEMPT, &[], &mut || true)
}

/// Names of holders that vote for the jump.
pub(crate) fn votes(keeper: &Custodian, deadline: Duration) -> BTreeMap<String, Result<(), String>> {
    let answers = keeper.quiesce(ATTEMPT, deadline).unwrap();
    answers.into_iter().map(|answer| (answer.holder, answer.vote)).collect()
}

/// Preserves, stops, commits.
pub(crate) fn ready_to_jump(keeper: &Custodian) {
    preserve(keeper).unwrap();
    for (holder, vote) in votes(keeper, SOON) {
        assert_eq!(vote, Ok(()), "{holder}");
    }
    keeper.commit(&intent(), Some(1)).unwrap();
}

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {SOON:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn declared(keeper: &Custodian, count: usize) {
    until(&format!("{count} holders declare themselves"), || keeper.holders().unwrap().len() == count);
}

pub(crate) fn resumed(keeper: &Custodian, count: usize) {
    until(&format!("{count} holders resume"), || {
        let (holders, _) = keeper.reclaim().unwrap();
        holders.iter().filter(|holder| holder.resumed).count() == count
    });
}

/// A `liveupdate-hold`; ends with this value.
pub(crate) struct Hold {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Hold {
    pub(crate) fn says(&self, text: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|line| line.contains(text))
    }

    /// The first line with this text.
    pub(crate) fn line(&self, text: &str) -> String {
        let mut found = None;
        until(&format!("a line with {text:?}"), || {
            found = self.lines.lock().unwrap().iter().find(|line| line.contains(text)).cloned();
            found.is_some()
        });
        found.unwrap()
    }

    /// A number that a line tells: `counter=7`.
    pub(crate) fn number(&self, line: &str, key: &str) -> u64 {
        let line = self.line(line);
        let word = line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        word.unwrap_or_else(|| panic!("no {key} in {line:?}")).parse().unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for it to end by itself.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        until("the holder ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A holder that says what it is told to.
pub(crate) struct Client {
    pub(crate) packets: Packets,
    pub(crate) sequence: Sequence,
}

impl Client {
    pub(crate) fn say(&mut self, attempt: &str, message: Message, files: &[BorrowedFd<'_>]) {
        self.try_say(attempt, message, files).unwrap();
    }

    fn try_say(&mut self, attempt: &str, message: Message, files: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        let bytes = self.sequence.encode(attempt, message, files.len()).unwrap();
        self.packets.send(&bytes, files)
    }

    /// None: the keeper ended the connection.
    pub(crate) fn hear(&mut self) -> Option<Message> {
        let packet = self.packets.receive().ok()??;
        Some(self.sequence.decode(&packet.bytes, packet.files.len()).unwrap().1)
    }

    pub(crate) fn refused(&mut self) -> String {
        match self.hear() {
            Some(Message::Refused(refused)) => refused.reason,
            other => panic!("not refused but {other:?}"),
        }
    }

    /// Says hello, and whether something waits for it.
    pub(crate) fn hello(&mut self, name: &str) -> bool {
        self.say("", Message::Hello(Hello { name: name.into(), versions: vec![VERSION] }), &[]);
        match self.hear() {
            Some(Message::Welcome(welcome)) => welcome.pending,
            other => panic!("not welcomed but {other:?}"),
        }
    }

    pub(crate) fn declare(&mut self, files: &[BorrowedFd<'_>]) {
        let objects = (1..).zip(files).map(|(token, _)| memfd(token)).collect();
        self.say("", Message::Declare(Declare { objects, ..Declare::default() }), files);
    }
}

pub(crate) fn memfd(token: u64) -> Object {
    Object { kind: ObjectKind::Memfd.into(), token, label: format!("file {token}") }
}

pub(crate) fn memory(bytes: u64) -> OwnedFd {
    let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, bytes).unwrap();
    file
}
