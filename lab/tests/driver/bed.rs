//! A guest on the debug kernel that jumps into the same kernel again.

use std::path::Path;
use std::time::Duration;

use crate::console::reports;
use liveupdate_lab::RunDir;
use liveupdate_lab::vm::debug::{DebugKernel, Idle};
use liveupdate_lab::vm::driver::{MODULE, WITHOUT_IOMMU};
use liveupdate_lab::vm::initrd::concatenate;
use liveupdate_lab::vm::options::command_line;
use liveupdate_lab::vm::{Guest, Initrd};
use liveupdate_lab_guest::trial::{LEAST, Next, Step, Trial};
use tokio::sync::{Semaphore, SemaphorePermit};

pub(crate) const INIT: &str = "/bin/liveupdate-lab-init";
/// A step of thousands of system calls, under emulation, with every access to memory checked.
pub(crate) const LONG: Duration = Duration::from_secs(1200);
/// Everything of one boot.
pub(crate) const BOOT: Duration = Duration::from_secs(300);
/// Guests at once: each keeps one processor busy most of the time.
static GUESTS: Semaphore = Semaphore::const_new(2);
/// The last word on the command line is the one that counts.
const SCRATCH: &str = "kho_scratch=64M,768M,64M";
/// While a kernel with five levels of page tables asks its processor what that can do, KASAN takes an interrupt's
/// addresses for wild ones.
const FOUR_LEVELS: &str = "no5lvl";
/// KASAN reports more than the first finding.
const ALL: &str = "kasan_multi_shot";
const KERNEL: &str = "/boot/bzImage";
const INITRD: &str = "/boot/initrd";

/// The guest.
pub(crate) struct Bed {
    pub(crate) guest: Guest,
    devices: Vec<String>,
    deep: Option<String>,
    plain: Option<String>,
    beside: Option<String>,
    line: String,
    _folder: RunDir,
    _turn: SemaphorePermit<'static>,
}

/// What a test wants of it.
pub(crate) struct Wanted<'a> {
    pub(crate) module: &'a Path,
    /// Controllers; fewer than a trial needs for tests that make none.
    pub(crate) devices: usize,
    pub(crate) iommu: bool,
    /// Other programs, at these places.
    pub(crate) programs: Vec<(String, std::path::PathBuf)>,
    /// Added to the command line of every kernel.
    pub(crate) append: Vec<String>,
}

impl Wanted<'_> {
    pub(crate) fn new(module: &Path) -> Wanted<'_> {
        Wanted { module, devices: LEAST, iommu: false, programs: Vec::new(), append: Vec::new() }
    }
}

pub(crate) fn in_guest() -> String {
    format!("/lib/modules/{MODULE}")
}

impl Bed {
    pub(crate) async fn start(name: &str, wanted: Wanted<'_>) -> Bed {
        let turn = GUESTS.acquire().await.unwrap();
        let kernel = DebugKernel::find().unwrap();
        let folder = RunDir::create().unwrap();
        let mut base = Initrd::new().unwrap();
        base.file(in_guest().trim_start_matches('/'), wanted.module).unwrap();
        for (place, from) in &wanted.programs {
            base.program(place.trim_start_matches('/'), from).unwrap();
        }
        let base = base.write(&folder.path().join("base.cpio")).unwrap();
        // The same again, three times: the kernels to come have no other place to take them from.
        let mut whole = base.clone();
        for kernels in 1..=2 {
            let mut boot = Initrd::empty();
            boot.file(KERNEL.trim_start_matches('/'), &kernel.image).unwrap();
            boot.file(INITRD.trim_start_matches('/'), &whole).unwrap();
            let boot = boot.write(&folder.path().join(format!("boot{kernels}.cpio"))).unwrap();
            whole =
                concatenate(&[&base, &boot], &folder.path().join(format!("whole{kernels}.cpio"))).unwrap();
        }
        let mut options = kernel.guest(name, &whole).unwrap();
        let idle = Idle::new(wanted.devices, wanted.devices >= LEAST);
        if wanted.iommu {
            options.qemu.extend(["-device", "intel-iommu,intremap=off"].map(Into::into));
            options.append.extend(["intel_iommu=on", "iommufd.allow_unsafe_interrupts=1"].map(str::to_owned));
        }
        idle.pass(&mut options);
        // What a step did is in the kernel's log, and all of it. The next kernel's watchers have their memory, an eighth of
        // all, from what is set aside for it.
        let more =
            [WITHOUT_IOMMU, "printk.devkmsg=on", "earlyprintk=serial,ttyS0", SCRATCH, FOUR_LEVELS, ALL];
        options.append.extend(more.map(str::to_owned));
        options.append.extend(wanted.append);
        let line = [vec![command_line()], options.append.clone()].concat().join(" ");
        let guest = Guest::start(options, folder.path()).await.unwrap();
        let Idle { devices, deep, plain, beside, .. } = idle;
        let bed = Bed { guest, devices, deep, plain, beside, line, _folder: folder, _turn: turn };
        bed.boot(1).await;
        bed
    }

    /// The kernel that comes up as the given one.
    pub(crate) async fn boot(&self, number: usize) {
        self.guest.control().boot(number, BOOT).await.unwrap();
    }

    pub(crate) fn next(&self) -> Next {
        Next { kernel: KERNEL.into(), initrd: INITRD.into(), command_line: self.line.clone() }
    }

    fn json(&self, step: Step) -> String {
        let (devices, deep) = (self.devices.clone(), self.deep.clone());
        let (plain, beside) = (self.plain.clone(), self.beside.clone());
        let trial = Trial { step, module: in_guest().into(), devices, deep, plain, beside };
        serde_json::to_string(&trial).unwrap()
    }

    /// Does a step that has to go well.
    pub(crate) async fn does(&self, step: Step) {
        let done = self.guest.control().output(INIT, &["trial", &self.json(step)], LONG).await;
        self.well(done.map(drop));
    }

    /// Does a step that has to fail, and gives what it said.
    pub(crate) async fn fails(&self, step: Step) -> String {
        let outcome = self.guest.control().run(INIT, &["trial", &self.json(step)], LONG).await.unwrap();
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        outcome.stderr
    }

    /// Does a step that ends with a jump.
    pub(crate) async fn jumps(&self, step: Step) {
        let json = self.json(step);
        let next = self.guest.control().run_into_next_boot(INIT, &["trial", &json], LONG + BOOT).await;
        self.well(next.map(drop));
    }

    /// Jumps without any of it.
    pub(crate) async fn jumps_by_itself(&self) {
        let args = ["jump", KERNEL, INITRD, &self.line];
        self.guest.control().run_into_next_boot(INIT, &args, BOOT).await.unwrap();
    }

    /// What the watchers reported is why, more often than not.
    fn well(&self, outcome: Result<(), liveupdate_lab::Error>) {
        if let Err(error) = outcome {
            let reports = reports(&self.console());
            panic!("{error}\nand {} reports:\n{reports:#?}", reports.len());
        }
    }

    /// Its console so far.
    pub(crate) fn console(&self) -> Vec<String> {
        self.guest.serial().lines().into_iter().map(|line| line.text).collect()
    }
}
