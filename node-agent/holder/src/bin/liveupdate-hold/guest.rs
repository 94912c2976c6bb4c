//! What the reference holder does when the keeper asks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use liveupdate_holder::messages::{Check, Declare, Grant, Object, ObjectKind, Resumed, Verdict};
use liveupdate_holder::{Guest, Stopped};
use liveupdate_host::linux::luo::{IncomingSession, Token};
use liveupdate_host::linux::ticks;
use liveupdate_proto::causes::chain;
use rustix::fs::{Mode, OFlags};

use crate::devices::Devices;
use crate::driver::Faults;
use crate::memory::{Found, Memory};
use crate::misbehaviour::{BadStop, Misbehaviour, STATUS, die_soon};
use crate::nvme::Use;
use crate::tell;

/// The memory in its session.
const TOKEN: u64 = 1;
/// The first of its devices.
const DEVICES: u64 = 2;

/// How it was started.
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) seed: Option<u64>,
    pub(crate) interval: Duration,
    pub(crate) after: Vec<String>,
    /// PCI addresses.
    pub(crate) devices: Vec<String>,
    /// Commands on their way at once, to each device.
    pub(crate) depth: usize,
    /// Writes to disks, too.
    pub(crate) write: bool,
    /// Stops its devices' DMA with its vCPUs.
    pub(crate) quiescent: bool,
    pub(crate) refuse: bool,
    /// Look at the pattern only when it goes on.
    pub(crate) check_after: bool,
    pub(crate) misbehave: Option<Misbehaviour>,
    pub(crate) misbehave_from: Option<PathBuf>,
    pub(crate) sessions: Sessions,
}

/// What a session's file is.
#[derive(Clone, Copy)]
pub(crate) enum Sessions {
    Kernel,
    Folder,
}

/// The memory with who counts in it, and the devices that write into it.
pub(crate) struct Hold {
    settings: Settings,
    devices: Devices,
    /// Its devices were taken back, and have not gone on yet.
    granted: bool,
    counting: Arc<Mutex<Counting>>,
}

#[derive(Default)]
struct Counting {
    memory: Option<Memory>,
    counter: u64,
    /// Nothing is written while it stands.
    stands: bool,
    counts: bool,
}

impl Hold {
    pub(crate) fn new(settings: Settings) -> Self {
        let devices = Devices::new(&settings.name);
        Self { settings, devices, granted: false, counting: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Counting> {
        self.counting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: &str) {
        tell(&self.settings.name, what);
    }

    fn does(&self, misbehaviour: Misbehaviour) -> bool {
        self.misbehaves() == Some(misbehaviour)
    }

    fn misbehaves(&self) -> Option<Misbehaviour> {
        let told = self.settings.misbehave_from.as_deref().and_then(Misbehaviour::told_by);
        told.or(self.settings.misbehave)
    }

    /// Without its memory it is nothing.
    fn die(&self, what: &str) -> ! {
        self.tell(what);
        std::process::exit(STATUS)
    }

    /// Makes the memory when there is none, and counts in it.
    fn memory(&self) -> io::Result<OwnedFd> {
        let mut counting = self.lock();
        if let Some(memory) = &counting.memory {
            return memory.file();
        }
        let seed =
            self.settings.seed.unwrap_or_else(|| ticks::now().unwrap_or(u64::from(std::process::id())));
        let memory = Memory::make(self.settings.size, seed, self.settings.devices.len() as u64)?;
        let (bytes, file) = (memory.bytes()?, memory.file()?);
        counting.memory = Some(memory);
        self.tell(&format!("made bytes={bytes} counter=0"));
        self.count(counting);
        Ok(file)
    }

    fn count(&self, mut counting: MutexGuard<'_, Counting>) {
        counting.stands = false;
        if std::mem::replace(&mut counting.counts, true) {
            return;
        }
        drop(counting);
        let (shared, interval) = (Arc::clone(&self.counting), self.settings.interval);
        thread::spawn(move || {
            loop {
                thread::sleep(interval);
                let mut counting = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let next = counting.counter + 1;
                if !counting.stands
                    && counting.memory.as_ref().is_some_and(|memory| memory.count(next).is_ok())
                {
                    counting.counter = next;
                }
            }
        });
    }

    /// Looks at the pattern while the counter goes on.
    fn check(&self) {
        let file = self.lock().memory.as_ref().map(Memory::file);
        let Some(Ok(file)) = file else { return };
        let name = self.settings.name.clone();
        thread::spawn(move || match Memory::of(file).check() {
            Ok(Found { pages, wrong, .. }) => tell(&name, &format!("checked pages={pages} wrong={wrong}")),
            Err(error) => tell(&name, &format!("checked: {error}")),
        });
    }

    /// Opens its devices, unless they came back to it.
    fn open(&mut self, memory: OwnedFd) -> Result<(), String> {
        let stray = self.does(Misbehaviour::UndeclaredDma);
        let used = Use { depth: self.settings.depth, writes: self.settings.write, stray };
        self.devices.open(&self.settings.devices, &Memory::of(memory), used)
    }

    fn faults(&self) -> Faults {
        Faults {
            resets_device: self.does(Misbehaviour::ResetDevice),
            resets_controller: self.does(Misbehaviour::ResetController),
            forgets_kick: self.does(Misbehaviour::ForgetKick),
        }
    }

    fn take_out(&self, session: BorrowedFd<'_>, token: u64) -> Result<OwnedFd, String> {
        match self.settings.sessions {
            Sessions::Kernel => {
                // Not its last descriptor: the keeper has one, and ends the session.
                let session = session.try_clone_to_owned().map_err(|error| error.to_string())?;
                let session = IncomingSession::from_file(session).map_err(|error| chain(&error))?;
                session.retrieve(Token(token)).map_err(|error| chain(&error))
            }
            Sessions::Folder => {
                let flags = OFlags::RDWR | OFlags::CLOEXEC;
                rustix::fs::openat(session, token.to_string(), flags, Mode::empty())
                    .map_err(|error| format!("token {token} is not in the folder: {error}"))
            }
        }
    }
}

impl Guest for Hold {
    type File = OwnedFd;

    fn declare(&mut self) -> (Declare, Vec<OwnedFd>) {
        let file = match self.memory() {
            Ok(file) => file,
            Err(error) => self.die(&format!("ends: there is no memory: {error}")),
        };
        let devices =
            file.try_clone().map_err(|error| error.to_string()).and_then(|memory| self.open(memory));
        let devices = devices.and_then(|()| self.devices.declare(DEVICES).map_err(|error| error.to_string()));
        let (devices, device_files) = match devices {
            Ok(devices) => devices,
            Err(error) => self.die(&format!("ends: {error}")),
        };
        self.tell(&format!("declares counter={}", self.lock().counter));
        let mut objects =
            vec![Object { kind: ObjectKind::Memfd.into(), token: TOKEN, label: "memory".into() }];
        let dma_targets = if devices.is_empty() { Vec::new() } else { vec![TOKEN] };
        objects.extend(devices);
        let declare = Declare {
            objects,
            dma_targets,
            dependencies: self.settings.after.clone(),
            refuses: self.settings.refuse,
            quiesces_dma: self.settings.quiescent,
            ..Declare::default()
        };
        (declare, std::iter::once(file).chain(device_files).collect())
    }

    fn preserve(&mut self) -> Result<(), String> {
        if self.does(Misbehaviour::RefusePreserve) {
            return Err("asked to misbehave".into());
        }
        if self.does(Misbehaviour::NotReady) {
            self.tell("is not ready");
        }
        while self.does(Misbehaviour::NotReady) {
            thread::sleep(Duration::from_millis(50));
        }
        self.tell(&format!("preserved counter={}", self.lock().counter));
        if self.does(Misbehaviour::DieBeforeQuiesce) {
            die_soon();
        }
        Ok(())
    }

    fn quiesce(&mut self, deadline: Duration) -> Result<Stopped, String> {
        match self.misbehaves() {
            Some(Misbehaviour::DieInQuiesce) => self.die("dies in quiesce"),
            Some(Misbehaviour::NeverAnswer) => loop {
                thread::park();
            },
            Some(Misbehaviour::AnswerLate) => thread::sleep(deadline + Duration::from_millis(500)),
            Some(Misbehaviour::StopSlowly) => {
                self.tell("stops slowly");
                thread::sleep(deadline * 2 / 3);
            }
            Some(Misbehaviour::VoteNo) => return Err("asked to misbehave".into()),
            Some(Misbehaviour::DieAfterQuiesce) => die_soon(),
            _ => {}
        }
        let mut counting = self.lock();
        counting.stands = true;
        let (counter, ticks) = (counting.counter, ticks::now().unwrap_or_default());
        drop(counting);
        let drains = self.settings.quiescent.then_some(deadline / 2);
        let quiet = self.devices.stand(drains, BadStop::of(self.misbehaves())).inspect_err(|error| {
            self.lock().stands = false;
            self.tell(error);
        })?;
        self.tell(&format!("quiesced counter={counter} ticks={ticks}"));
        // Commands that happen to be done are no promise that a device keeps quiet.
        let dma_quiescent = self.devices.is_empty() || (self.settings.quiescent && quiet);
        Ok(Stopped { counter: ticks, interrupts_off: true, dma_quiescent, state_length: 0 })
    }

    fn resume(&mut self, cause: &str) -> Result<Resumed, String> {
        let counting = self.lock();
        let counter = counting.counter;
        self.count(counting);
        let checks = match self.granted {
            // It was looked at when it was attached.
            true => Vec::new(),
            false => self.devices.go_on_here(self.faults()),
        };
        self.devices.go_on();
        self.granted = false;
        let ticks = ticks::now().unwrap_or_default();
        self.tell(&format!("resumed counter={counter} ticks={ticks} cause={cause:?}"));
        if self.settings.check_after {
            self.check();
        }
        Ok(Resumed { counter: ticks, checks })
    }

    fn attach(&mut self, grant: &Grant, session: OwnedFd) -> Result<Vec<Check>, String> {
        if self.does(Misbehaviour::DieWhenGranted) {
            self.die("dies with its session granted");
        }
        let stamp = || format!("ticks={}", ticks::now().unwrap_or_default());
        self.tell(&format!("granted files={} {}", grant.objects.len(), stamp()));
        let session = session.as_fd();
        let (memories, devices): (Vec<_>, Vec<_>) =
            grant.objects.iter().partition(|object| object.kind() == ObjectKind::Memfd);
        let [object] = memories.as_slice() else {
            return Err(format!("{} memories are granted, one was held", memories.len()));
        };
        let memory = Memory::of(self.take_out(session, object.token)?);
        // First: for them every millisecond without interrupts counts.
        for device in devices {
            let file = self.take_out(session, device.token);
            let faults = self.faults();
            self.devices.back(&device.label, file, &memory, faults)?;
        }
        let found = if self.settings.check_after { memory.look() } else { memory.check() };
        let Found { seed, pages, counter, wrong, .. } = found.map_err(|error| error.to_string())?;
        let wrong_or = if self.settings.check_after { "unchecked".to_owned() } else { wrong.to_string() };
        self.tell(&format!(
            "reclaimed pages={pages} wrong={wrong_or} counter={counter} seed={seed:016x} {}",
            stamp()
        ));
        if wrong > 0 {
            // Its memory stays in custody: who resumes with it ends that.
            return Err(format!("{wrong} of {pages} pages are not what they were"));
        }
        if self.does(Misbehaviour::DieBeforeResumed) {
            self.die("dies before it goes on");
        }
        let mut counting = self.lock();
        counting.counter = counter;
        counting.memory = Some(memory);
        drop(counting);
        let detail = format!("{pages} pages");
        let mut checks = vec![Check { name: "memory".into(), passed: true, detail }];
        checks.extend(self.devices.checks());
        self.granted = true;
        Ok(checks)
    }

    fn verdict(&mut self, verdict: &Verdict) {
        self.tell(&format!("verdict {:?}", verdict.reason));
    }
}
