//! Putting the keeper on a host, over a folder that stands for the host.

use std::cell::RefCell;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use liveupdate_agent::install::{Done, InstallError, Systemd, Wanted, install, signers};
use liveupdate_host::bundle::{Signer, Signers, SigningKey};
use liveupdate_host::linux::installation::{MARK, OTHER_UNIT_FILES, PROGRAM_FILE, UNIT_FILE};
use liveupdate_host::linux::root::Root;
use liveupdate_keeper::{ClientError, KeeperClient};
use liveupdate_proto::common::v1::AttemptReport;
use liveupdate_proto::keeper::v1::{Idle, Reply, Request, reply};

/// A host without a keeper; its folder goes with it.
struct Machine {
    folder: PathBuf,
    said: RefCell<Vec<String>>,
    /// What systemd does not do.
    broken: RefCell<Option<&'static str>>,
}

impl Machine {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("liveupdate-install-{}-{number}", std::process::id()));
        for path in ["run/systemd/system", "etc/systemd/system", "usr/lib/systemd/system", "var/lib"] {
            fs::create_dir_all(folder.join(path)).unwrap();
        }
        Self { folder, said: RefCell::default(), broken: RefCell::default() }
    }

    fn install(&self, wanted: &Wanted, keeper: &Answers) -> Result<Done, InstallError> {
        install(&Root::at(&self.folder), wanted, self, keeper)
    }

    /// What systemd was asked since the last time.
    fn said(&self) -> Vec<String> {
        self.said.take()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path.trim_start_matches('/'))
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Systemd for Machine {
    fn ask(&self, arguments: &[&str]) -> Result<(), String> {
        self.said.borrow_mut().push(arguments.join(" "));
        // Once: what is put back comes up again.
        if self.broken.borrow_mut().take_if(|broken| arguments.contains(broken)).is_some() {
            return Err("Job for liveupdate-keeper.service failed".into());
        }
        Ok(())
    }
}

/// A keeper that answers always the same.
enum Answers {
    Idle,
    Open,
    Attempt,
    Nobody,
    /// It listens, and no answer comes.
    Silent(ErrorKind),
    Nonsense,
}

impl KeeperClient for Answers {
    fn ask(&self, _: &Request) -> Result<Reply, ClientError> {
        let message = match self {
            Self::Idle => reply::Message::Idle(Idle::default()),
            Self::Open => reply::Message::Idle(Idle { open: true, ..Idle::default() }),
            Self::Attempt => {
                reply::Message::Attempt(AttemptReport { attempt: "a-1".into(), ..AttemptReport::default() })
            }
            Self::Nobody => return Err(unreachable(ErrorKind::NotFound)),
            Self::Silent(kind) => return Err(unreachable(*kind)),
            Self::Nonsense => return Err(ClientError::Nonsense { why: "not a keeper".into() }),
        };
        Ok(Reply { message: Some(message) })
    }
}

fn unreachable(kind: ErrorKind) -> ClientError {
    ClientError::Unreachable { path: "keeper.sock".into(), why: kind.into() }
}

fn wanted(program: &str, arguments: &[&str]) -> Wanted {
    let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    Wanted { program: program.into(), arguments }
}

#[test]
fn a_host_without_a_keeper_gets_one_as_it_is_shipped_with_the_wanted_start() {
    let machine = Machine::new();
    let done = machine.install(&wanted("keeper 1", &["--grace=40", "--spare=my-*"]), &Answers::Idle).unwrap();
    assert_eq!(done, Done::Installed);
    assert_eq!(machine.text(PROGRAM_FILE).unwrap(), "keeper 1");
    assert_eq!(fs::metadata(machine.path(PROGRAM_FILE)).unwrap().permissions().mode() & 0o7777, 0o755);
    let unit = machine.text(UNIT_FILE).unwrap();
    let start = format!("ExecStart={PROGRAM_FILE} --host linux --grace=40 --spare=my-*");
    assert_eq!(unit.lines().next(), Some(MARK));
    let shipped = |line: &&str| !line.starts_with("ExecStart=");
    let others: Vec<&str> = unit.lines().skip(1).filter(shipped).collect();
    assert_eq!(others, liveupdate_keeper::UNIT.lines().filter(shipped).collect::<Vec<_>>());
    assert_eq!(unit.lines().filter(|line| line.starts_with("ExecStart=")).collect::<Vec<_>>(), [start]);
    let steps = ["daemon-reload", "enable liveupdate-keeper.service", "restart liveupdate-keeper.service"];
    assert_eq!(machine.said(), steps);
}

/// They count while a keeper is busy as well: whom a node trusts is no business of the keeper's.
#[test]
fn keys_of_signers_are_put_there_and_taken_away_and_what_is_none_changes_nothing() {
    let machine = Machine::new();
    let folder = "/etc/liveupdate/signers";
    let (root, source) = (Root::at(&machine.folder), machine.folder.join("volume"));
    let key = SigningKey::generate().unwrap().public();
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("release.pub"), key.to_pem()).unwrap();
    assert!(signers(&root, folder, &Signers::read(&source).unwrap()).unwrap());
    let seen = || Signers::read(&machine.path(folder)).unwrap();
    assert_eq!(seen().signers, [Signer { name: "release".into(), key }]);
    let mode = fs::metadata(machine.path(folder).join("release.pub")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);

    fs::write(source.join("other.pub"), "-----BEGIN PUBLIC KEY-----").unwrap();
    fs::write(source.join("release.pub"), SigningKey::generate().unwrap().public().to_pem()).unwrap();
    let refused = signers(&root, folder, &Signers::read(&source).unwrap()).unwrap_err().to_string();
    assert!(refused.contains("nothing was changed: other.pub: no key in PEM"), "{refused}");
    assert_eq!(seen().signers, [Signer { name: "release".into(), key }]);
    assert!(signers(&root, folder, &Signers::default()).unwrap());
    assert_eq!(seen(), Signers::default());
}

#[test]
fn the_same_keeper_is_not_touched_however_busy_it_is() {
    let machine = Machine::new();
    machine.install(&wanted("keeper 1", &[]), &Answers::Idle).unwrap();
    let inodes = || [PROGRAM_FILE, UNIT_FILE].map(|path| fs::metadata(machine.path(path)).unwrap().ino());
    let (before, _) = (inodes(), machine.said());
    assert_eq!(machine.install(&wanted("keeper 1", &[]), &Answers::Attempt).unwrap(), Done::Same);
    assert_eq!(inodes(), before);
    assert!(!machine.said().iter().any(|said| said.contains("restart")));
}

#[test]
fn another_keeper_is_replaced_when_it_is_idle_and_left_alone_when_it_is_not() {
    for (keeper, why) in [(Answers::Attempt, "attempt a-1"), (Answers::Open, "holders may still come")] {
        let machine = Machine::new();
        machine.install(&wanted("keeper 1", &[]), &Answers::Idle).unwrap();
        machine.said();
        let next = wanted("keeper 2", &["--grace=50"]);
        match machine.install(&next, &keeper).unwrap() {
            Done::LeftAlone(said) => assert!(said.contains(why), "{said}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(machine.text(PROGRAM_FILE).unwrap(), "keeper 1");
        assert_eq!(machine.said(), [""; 0]);

        assert_eq!(machine.install(&next, &Answers::Idle).unwrap(), Done::Replaced);
        assert_eq!(machine.text(PROGRAM_FILE).unwrap(), "keeper 2");
        assert!(machine.text(UNIT_FILE).unwrap().contains("--grace=50"));
        assert!(machine.said().contains(&"restart liveupdate-keeper.service".to_owned()));
    }
    let machine = Machine::new();
    let refused = machine.install(&wanted("keeper 1", &[]), &Answers::Nonsense).unwrap_err();
    assert!(matches!(refused, InstallError::Keeper(_)), "{refused:?}");
    assert_eq!(machine.text(UNIT_FILE), None);
}

#[test]
fn a_keeper_that_listens_and_does_not_answer_is_left_alone_and_one_that_does_not_run_is_replaced() {
    for (kind, runs) in [
        (ErrorKind::NotFound, false),
        (ErrorKind::ConnectionRefused, false),
        (ErrorKind::WouldBlock, true),
        (ErrorKind::TimedOut, true),
        (ErrorKind::UnexpectedEof, true),
        (ErrorKind::ConnectionReset, true),
        (ErrorKind::BrokenPipe, true),
    ] {
        let machine = Machine::new();
        machine.install(&wanted("keeper 1", &[]), &Answers::Idle).unwrap();
        machine.said();
        let done = machine.install(&wanted("keeper 2", &[]), &Answers::Silent(kind));
        if runs {
            let Ok(Done::LeftAlone(why)) = done else { panic!("{kind}: {done:?}") };
            assert!(why.contains("does not answer"), "{kind}: {why}");
            assert_eq!((machine.text(PROGRAM_FILE).unwrap(), machine.said()), ("keeper 1".into(), vec![]));
        } else {
            // It is put there and started, and then has to answer.
            assert!(matches!(done, Err(InstallError::NotUp { .. })), "{kind}: {done:?}");
            assert!(machine.said().contains(&"restart liveupdate-keeper.service".to_owned()));
        }
    }
}

#[test]
fn what_somebody_else_installed_is_left_alone() {
    for path in OTHER_UNIT_FILES.into_iter().take(2).chain([UNIT_FILE]) {
        let machine = Machine::new();
        let theirs = "[Service]\nExecStart=/usr/bin/liveupdate-keeper\n";
        fs::write(machine.path(path), theirs).unwrap();
        let refused = machine.install(&wanted("keeper 1", &[]), &Answers::Idle).unwrap_err();
        assert!(matches!(&refused, InstallError::Foreign { path: found } if found == path), "{refused:?}");
        assert_eq!(machine.text(path).unwrap(), theirs);
        assert_eq!((machine.text(PROGRAM_FILE), machine.said()), (None, vec![]));

        fs::remove_file(machine.path(path)).unwrap();
        assert_eq!(machine.install(&wanted("keeper 1", &[]), &Answers::Idle).unwrap(), Done::Installed);
    }
}

#[test]
fn a_keeper_that_does_not_come_up_is_taken_back() {
    let machine = Machine::new();
    machine.broken.replace(Some("restart"));
    let refused = machine.install(&wanted("keeper 1", &[]), &Answers::Idle).unwrap_err().to_string();
    assert!(refused.contains("it is removed again") && refused.contains("Job for"), "{refused}");
    assert_eq!((machine.text(UNIT_FILE), machine.text(PROGRAM_FILE)), (None, None));
    assert!(machine.said().contains(&"disable --now liveupdate-keeper.service".to_owned()));

    machine.install(&wanted("keeper 1", &[]), &Answers::Idle).unwrap();
    let unit = machine.text(UNIT_FILE);
    machine.said();
    machine.broken.replace(Some("restart"));
    let refused =
        machine.install(&wanted("keeper 2", &["--grace=9"]), &Answers::Idle).unwrap_err().to_string();
    assert!(refused.contains("the one before runs again"), "{refused}");
    assert_eq!((machine.text(UNIT_FILE), machine.text(PROGRAM_FILE)), (unit, Some("keeper 1".into())));
    assert_eq!(machine.said().last().unwrap(), "restart liveupdate-keeper.service");

    // systemd is content, and nobody answers.
    let refused = machine.install(&wanted("keeper 2", &[]), &Answers::Nobody).unwrap_err().to_string();
    assert!(refused.contains("cannot be reached") && refused.contains("runs again"), "{refused}");
    assert_eq!(machine.text(PROGRAM_FILE).unwrap(), "keeper 1");
}

#[test]
fn invariant_6_what_a_kill_left_half_done_is_finished_the_next_time() {
    let machine = Machine::new();
    machine.install(&wanted("keeper 1", &[]), &Answers::Idle).unwrap();
    machine.said();
    // Killed between the two files, and while one was written.
    fs::write(machine.path(PROGRAM_FILE), "keeper 2").unwrap();
    fs::write(machine.path(PROGRAM_FILE).with_extension("new"), "keep").unwrap();
    let done = machine.install(&wanted("keeper 2", &["--grace=9"]), &Answers::Idle).unwrap();
    assert_eq!(done, Done::Replaced);
    assert_eq!(machine.text(PROGRAM_FILE).unwrap(), "keeper 2");
    assert!(machine.text(UNIT_FILE).unwrap().contains("--grace=9"));
    let folder: &Path = &machine.path("/var/lib/liveupdate/bin");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
}

#[test]
fn what_a_unit_would_understand_otherwise_and_a_host_without_systemd_are_refused() {
    let machine = Machine::new();
    for bad in ["--grace=1 2", "--state=%h", "--spare=$X", "--spare='a'", "a;b", "a\nExecStartPre=/bin/sh"] {
        let refused = machine.install(&wanted("keeper 1", &[bad]), &Answers::Idle).unwrap_err();
        assert!(matches!(refused, InstallError::Argument { .. }), "{bad}: {refused:?}");
    }
    fs::remove_dir(machine.path("/run/systemd/system")).unwrap();
    let refused = machine.install(&wanted("keeper 1", &[]), &Answers::Idle).unwrap_err();
    assert!(matches!(refused, InstallError::NoSystemd), "{refused:?}");
    assert_eq!(machine.text(UNIT_FILE), None);
}
