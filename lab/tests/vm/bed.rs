//! A guest as a node of a control plane, for one test.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use liveupdate_crds::{LiveUpdate, LiveUpdateSpec, NodeLiveUpdateStatus};
use liveupdate_lab::RunDir;
use liveupdate_lab::testbed::machines::POOL;
use liveupdate_lab::vm::hold::{HoldEvent, events};
use liveupdate_lab::vm::passed::{Passed, Passthrough};
use liveupdate_lab::vm::{
    Guest, GuestOptions, Hold, HoldReport, Kit, KitBundle, NodePlace, PATIENCE, Product, Programs, Variant,
    VmNode, disk, updates,
};
use liveupdate_lab::wait::{self, Answer};
use liveupdate_lab_guest::SERVICES;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::plane::{Decommission, Plane};

/// The lab's own program in a guest.
pub(crate) const INIT: &str = "/bin/liveupdate-lab-init";
/// In a guest: what a holder does wrong stands here that reads it from there.
pub(crate) const FAULT: &str = "/var/lib/lab/fault";
/// Nothing.
pub(crate) const NONE: &str = "-";
/// How often holders count: at five times that rate an idle guest takes a fifth of a processor, at this one a tenth.
const COUNTS: &str = "--interval=10";
/// What files hold that nobody syncs.
const UNSYNCED: &str = "not a byte is lost";
/// What takes seconds on an idle machine takes minutes on a busy one.
pub(crate) const ENOUGH: Duration = Duration::from_secs(300);
/// Nodes so far.
static NODES: AtomicU8 = AtomicU8::new(0);
/// What two processors have room for: two guests with devices, which never rest, or three others, of which one or the other
/// mostly waits. More only slow each other down.
static ROOM: Semaphore = Semaphore::const_new(6);
const WITH_DEVICES: u32 = 3;
const WITHOUT: u32 = 2;
/// One that waits for a deadline of a minute again and again.
const WAITING: u32 = 1;

/// A turn for one more guest, without devices.
pub(crate) async fn turn() -> SemaphorePermit<'static> {
    room(WITHOUT).await
}

async fn room(units: u32) -> SemaphorePermit<'static> {
    ROOM.acquire_many(units).await.unwrap()
}

/// One guest as a node, and all that it needs. Guests go before the control plane that they talk to.
pub(crate) struct Bed {
    pub(crate) node: VmNode,
    pub(crate) hold: Hold,
    _decommission: Decommission,
    pub(crate) plane: Arc<Plane>,
    pub(crate) targets: Vec<KitBundle>,
    /// As it was started.
    pub(crate) product: Product,
    /// Devices that it hands to its holder.
    pub(crate) passed: Passed,
    _folder: RunDir,
    _turn: SemaphorePermit<'static>,
}

/// What a test wants of its guest.
pub(crate) struct Wanted {
    pub(crate) product: Product,
    pub(crate) hold: Hold,
    /// None: no holder runs.
    pub(crate) held: bool,
    /// How QEMU is started: the guest's name, and what it is made of.
    pub(crate) machine: fn(&Kit, &str) -> GuestOptions,
    /// Devices that the holder has.
    pub(crate) passthrough: Passthrough,
    /// Changes how QEMU is started.
    pub(crate) guest: fn(&mut GuestOptions),
    /// It does next to nothing most of the time.
    pub(crate) waits: bool,
}

impl Wanted {
    /// A holder that does no wrong.
    pub(crate) fn holder() -> Wanted {
        Wanted {
            product: Product::default(),
            hold: Hold::new("vm-a"),
            held: true,
            machine: |kit, name| kit.guest(name, Variant::Lu1).unwrap(),
            passthrough: Passthrough::default(),
            guest: |_| {},
            waits: false,
        }
    }

    /// A holder with a fault.
    pub(crate) fn misbehaving(how: &str) -> Wanted {
        let hold = Hold::new("vm-a").arg(&format!("--misbehave={how}"));
        Wanted { hold, ..Wanted::holder() }
    }

    /// A holder that does wrong what it is told to at the time.
    pub(crate) fn told_each_time() -> Wanted {
        Wanted { hold: Hold::new("vm-a").arg(&told_by_file()), ..Wanted::holder() }
    }

    /// Nobody holds anything.
    pub(crate) fn nobody() -> Wanted {
        Wanted { held: false, ..Wanted::holder() }
    }
}

impl Bed {
    /// Starts it all; the bundles are those that `bundles` makes.
    pub(crate) async fn start(wanted: Wanted, bundles: impl FnOnce(&Kit) -> Vec<KitBundle>) -> Bed {
        let Wanted { mut product, mut hold, held, machine, passthrough, guest, waits } = wanted;
        let turn = match (passthrough.devices.is_empty(), waits) {
            (false, _) => room(WITH_DEVICES),
            (true, false) => room(WITHOUT),
            (true, true) => room(WAITING),
        };
        let turn = turn.await;
        let folder = RunDir::create().unwrap();
        let kit =
            Kit::with_modules(folder.path(), Programs::OnDisk, &passthrough.modules().unwrap()).unwrap();
        let targets = bundles(&kit);
        let plane = Plane::shared().await;
        let place = place();
        let mut options = machine(&kit, &place.name);
        let passed = passthrough.pass(folder.path(), &mut options).unwrap();
        passed.tell(&mut hold);
        hold.args.push(COUNTS.into());
        if held {
            product.beside.push(hold.service());
        }
        guest(&mut options);
        let decommission = Decommission(Arc::downgrade(&plane), place.name.clone());
        let node = VmNode::start(&plane, place, options, &product, folder.path()).await.unwrap();
        let bed = Bed {
            node,
            hold,
            _decommission: decommission,
            plane,
            targets,
            product,
            passed,
            _folder: folder,
            _turn: turn,
        };
        if held {
            bed.await_line("verdict").await;
        }
        bed
    }

    /// Of the kernel that runs.
    pub(crate) fn release(&self) -> String {
        self.node.running().unwrap().release
    }

    pub(crate) fn guest(&self) -> &Guest {
        self.node.guest()
    }

    /// Asks for an update of this node. Its name is the test's own.
    pub(crate) async fn apply(&self, name: &str, target: &KitBundle) {
        self.apply_with(name, target, |_| {}).await;
    }

    /// As [`Bed::apply`], with something changed.
    pub(crate) async fn apply_with(
        &self,
        name: &str,
        target: &KitBundle,
        change: impl FnOnce(&mut LiveUpdateSpec),
    ) {
        let mut update = updates::update(&self.update_name(name), target);
        update.spec.node_selector.match_labels = Some(pool(self.node.name()));
        change(&mut update.spec);
        self.plane.apply_update(&update).await.unwrap();
    }

    /// Runs the plugin as an operator does; it must succeed.
    pub(crate) async fn plugin(&self, args: &[&str]) {
        let said = self.plane.plugin(args).await.unwrap();
        assert_eq!(said.code, Some(0), "{said:?}");
    }

    /// What an update of the test is called: its node shares the control plane with others.
    pub(crate) fn update_name(&self, name: &str) -> String {
        format!("{name}-{}", self.node.name())
    }

    pub(crate) async fn update(&self, name: &str) -> LiveUpdate {
        self.plane.update(&self.update_name(name)).await.unwrap()
    }

    /// Takes an update away, and waits until it is gone.
    pub(crate) async fn delete(&self, name: &str) {
        self.plane.delete_update_and_wait(&self.update_name(name), ENOUGH).await.unwrap();
    }

    /// Writes into a file of the guest.
    pub(crate) async fn put(&self, path: &str, text: &str) {
        self.node.output(INIT, &["put", path, text]).await.unwrap();
    }

    /// Waits for a line of the holder, from the guest's start on.
    pub(crate) async fn await_line(&self, what: &str) {
        let text = format!("liveupdate-hold: {}: {what}", self.hold.name);
        self.guest().serial().wait_for(&text, ENOUGH).await.unwrap();
    }

    /// What the holder said so far.
    pub(crate) fn said(&self) -> Vec<HoldEvent> {
        events(&self.guest().serial().lines(), &self.hold.name)
    }

    /// How often the holder said something.
    pub(crate) fn said_times(&self, what: &str) -> usize {
        self.said().iter().filter(|event| event.what == what).count()
    }

    /// Waits until the holder has begun once more, with nothing of before.
    pub(crate) async fn await_anew(&self) {
        let anew = async || {
            let made = self.said_times("made");
            Ok(if made == 2 { Answer::Yes(()) } else { Answer::not_yet(format!("{:?}", self.said())) })
        };
        wait::until("a holder that begins anew", ENOUGH, anew).await.unwrap();
    }

    /// Its last stop and return.
    pub(crate) fn report(&self) -> HoldReport {
        HoldReport::of(&self.said())
    }

    /// Waits until the node's record is as wanted.
    pub(crate) async fn await_node(
        &self,
        what: &str,
        wanted: impl Fn(&NodeLiveUpdateStatus) -> bool,
    ) -> NodeLiveUpdateStatus {
        let what = format!("NodeLiveUpdate/{}: {what}", self.node.name());
        let found = wait::until(&what, ENOUGH, async || {
            Ok(match self.plane.node_update(self.node.name()).await {
                Ok(record) => match record.status {
                    Some(status) if wanted(&status) => Answer::Yes(status),
                    Some(status) => Answer::not_yet(format!(
                        "{} {} {}: {}",
                        status.kernel, status.state, status.reason, status.message
                    )),
                    None => Answer::not_yet("no status"),
                },
                Err(error) => Answer::not_yet(error),
            })
        });
        match found.await {
            Ok(status) => status,
            Err(error) => panic!("{error}\n{}", self.guest().transcript()),
        }
    }

    /// Waits until an update has succeeded.
    pub(crate) async fn await_success(&self, name: &str) {
        if let Err(error) = self.plane.await_success(&self.update_name(name), ENOUGH).await {
            let record = self.plane.node_update(self.node.name()).await.ok().and_then(|record| record.status);
            panic!("{error}\n{record:#?}\n{}", self.guest().transcript());
        }
    }

    /// Writes a file that nobody syncs, and goes on writing numbers to another one until it is ended. Both are new, and
    /// bear that name.
    pub(crate) async fn write_without_syncing(&self, name: &str) {
        self.put(&unsynced(name), UNSYNCED).await;
        self.guest().control().start(INIT, &["write-on", &numbers(name)], PATIENCE).await.unwrap();
    }

    /// At least of the first of what was written so something is missing, on a disk that is readable otherwise.
    pub(crate) async fn assert_something_lost(&self, name: &str) {
        self.node.output(INIT, &["get", SERVICES]).await.unwrap();
        let left = self.guest().run(INIT, &["get", &unsynced(name)]).await.unwrap();
        println!("of a file that nobody synced is left: {left:?}");
        assert!(left.code != Some(0) || left.stdout.len() < UNSYNCED.len(), "{left:?}");
    }

    /// What was written so is there without a hole, and the file system clean. The guest is turned off for that.
    pub(crate) async fn assert_nothing_lost(self, name: &str) {
        assert_eq!(self.node.output(INIT, &["get", &unsynced(name)]).await.unwrap(), UNSYNCED);
        let numbers = self.node.output(INIT, &["get", &numbers(name)]).await.unwrap();
        let lines: Vec<&str> = numbers.lines().collect();
        assert!(lines.len() > 100, "{}", lines.len());
        assert!(
            lines.iter().enumerate().all(|(index, line)| *line == index.to_string()),
            "a hole in {lines:?}"
        );
        let data = self.guest().options().disks[0].clone();
        let Bed { node, .. } = self;
        node.power_off().await.unwrap();
        assert_eq!(disk::check(&data).unwrap(), Ok(()));
    }

    /// The guest is as it was: the same boot, and the holder's counter rises, in memory that is as it was made. One that
    /// died has made other memory since.
    pub(crate) async fn assert_undisturbed(&self) {
        let boot = self.node.running().unwrap();
        assert_eq!(boot.number, 1, "{}", self.guest().transcript());
        let held = self.node.output(INIT, &["held", &self.hold.name]).await.unwrap();
        let fact = |name: &str| -> u64 {
            let mut words = held.split_whitespace().filter_map(|word| word.split_once('='));
            words.find(|(fact, _)| *fact == name).unwrap().1.parse().unwrap()
        };
        assert!(fact("pages") > 1 && fact("wrong") == 0 && fact("later") > fact("counter"), "{held}");
        if self.said_times("made") == 1 {
            assert_eq!(fact("seed"), self.hold.seed, "{held}");
        }
    }
}

fn unsynced(name: &str) -> String {
    format!("/var/lib/lab/{name}-unsynced")
}

fn numbers(name: &str) -> String {
    format!("/var/lib/lab/{name}-numbers")
}

/// Lets a holder do wrong what stands in [`FAULT`].
pub(crate) fn told_by_file() -> String {
    format!("--misbehave-from={FAULT}")
}

/// The next node's place: `vm-01` is the first one's name. No update of another test selects it.
fn place() -> NodePlace {
    let index = NODES.fetch_add(1, Ordering::Relaxed);
    let name = format!("vm-{:02}", index + 1);
    let labels = pool(&name);
    NodePlace { labels, ..NodePlace::new(index, name) }
}

/// The label of a node that is in a pool of its own.
fn pool(node: &str) -> BTreeMap<String, String> {
    [(POOL.0.to_owned(), node.to_owned())].into()
}
