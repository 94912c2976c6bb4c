//! Devices that a holder has through VFIO, over a jump: what became of them by the node's word, and by the witness's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use liveupdate_crds::Continuity;
use liveupdate_crds::node::DeviceStatus;
use liveupdate_lab::vm::driver::Driven;
use liveupdate_lab::vm::nic::Nic;
use liveupdate_lab::vm::passed::Passthrough;
use liveupdate_lab::vm::passthrough::Behind;
use liveupdate_lab::vm::witness::Sight;
use liveupdate_lab::vm::{Kit, KitBundle, Variant, updates};

use crate::bed::{Bed, ENOUGH, Wanted};
use crate::cadence::never_still;
use crate::ceilings;
use crate::matrix::{self, Row};
use crate::passthrough::{FAST, throttle, two, unthrottled_when_reclaimed};
use crate::summary::{whole, work_again};

/// Bundles with the driver, of both kernels.
pub(crate) fn bundles(kit: &Kit, parameters: &[String]) -> Vec<KitBundle> {
    let driven = |kernel| Driven { append: parameters.to_vec(), ..Driven::new(kernel).unwrap() };
    [Variant::Lu2, Variant::Lu1].map(|kernel| kit.driven_bundle(&driven(kernel)).unwrap()).to_vec()
}

pub(crate) async fn bed(passthrough: Passthrough, hold: &[&str]) -> Bed {
    let parameters = passthrough.parameters();
    let mut wanted = Wanted { passthrough, ..Wanted::holder() };
    wanted.hold.args.extend(hold.iter().map(|word| (*word).to_owned()));
    Bed::start(wanted, |kit| bundles(kit, &parameters)).await
}

/// When the console first said this after a mark.
async fn said(bed: &Bed, mark: usize, text: &str) -> SystemTime {
    bed.guest().serial().wait_for_after(mark, text, Duration::from_secs(1)).await.unwrap().wall
}

/// As [`bundles`], the first of a kernel through which a virtio NIC can come.
fn bundles_for_a_nic(kit: &Kit) -> Vec<KitBundle> {
    let driven = [Driven::without_virtio(Variant::Lu2), Driven::new(Variant::Lu1)];
    driven.map(|driven| kit.driven_bundle(&driven.unwrap()).unwrap()).to_vec()
}

/// One update: the node's word on each device, a NIC last, and what was seen of it from Quiesce to Resumed.
pub(crate) struct Seen {
    pub(crate) devices: Vec<(DeviceStatus, Sight)>,
    pub(crate) moments: Moments,
}

/// When the console told of each part of the way.
pub(crate) struct Moments {
    /// The holder stands.
    pub(crate) quiesced: SystemTime,
    /// The keeper leaves the rest to the kernel, which freezes all devices first.
    pub(crate) rest: SystemTime,
    pub(crate) jump: SystemTime,
    /// The next kernel's.
    pub(crate) first_line: SystemTime,
    /// Each device has been bound and attached by its holder's successor, unless it never was.
    pub(crate) bound: Vec<Option<SystemTime>>,
    /// The holder goes on.
    pub(crate) resumed: SystemTime,
}

impl Moments {
    async fn after(bed: &Bed, mark: usize) -> Moments {
        let hold = &bed.hold.name;
        let own = |what: &str| format!("liveupdate-hold: {hold}: {what}");
        let quiesced = said(bed, mark, &own("quiesced")).await;
        let rest = said(bed, mark, "] rest").await;
        let jump = said(bed, mark, "Starting new kernel").await;
        let first_line = said(bed, mark, "Linux version").await;
        let resumed = said(bed, mark, &own("resumed")).await;
        let lines = bed.guest().serial().lines();
        let bound = |address: &str| {
            let text = own(&format!("device {address} is bound again"));
            lines.iter().skip(mark).find(|line| line.text.contains(&text)).map(|line| line.wall)
        };
        let bound = bed.passed.watched().map(|device| bound(device.address)).collect();
        Moments { quiesced, rest, jump, first_line, bound, resumed }
    }
}

pub(crate) async fn update(bed: &Bed, name: &str, target: &KitBundle) -> Seen {
    let mark = bed.guest().serial().mark();
    throttle(bed).await;
    bed.apply_with(name, target, updates::preserve_devices).await;
    tokio::select! {
        () = bed.await_success(name) => {}
        () = unthrottled_when_reclaimed(bed, mark) => {}
    }
    seen(bed, name, mark).await
}

/// What was seen of an update that is over and was asked for at that mark.
pub(crate) async fn seen(bed: &Bed, name: &str, mark: usize) -> Seen {
    let ends = ["Updated", "Failed"];
    let record = bed.await_node("the end", |status| ends.contains(&status.state.as_str())).await;
    let moments = Moments::after(bed, mark).await;
    let mut devices = Vec::new();
    for device in bed.passed.watched() {
        let found = record.devices.iter().find(|found| found.address == device.address).cloned();
        let found = found.unwrap_or_else(|| panic!("{}: {record:#?}", device.address));
        let sight = bed.passed.sight(device, moments.quiesced, moments.resumed).unwrap();
        let word = |text: &Option<String>| text.clone().unwrap_or_default();
        let against = sight.contradictions(&word(&found.outcome), &word(&found.facts));
        assert_eq!(against, Vec::<String>::new(), "{found:#?}\n{sight:#?}");
        assert!(sight.saw_enumeration(), "the witness looked away: {sight:#?}");
        assert!(reached(&found) <= found.ceiling, "more than was said beforehand: {found:#?}");
        println!(
            "{name}: {} {:?} {:?} {:?} {:?}",
            device.address, found.ceiling, found.outcome, found.facts, found.evidence
        );
        println!(
            "{name}: {} sized {}, decoding off {}, INTx {}, cleared {}, resets {}, errors {}, signals {:?}",
            device.address,
            sight.sized,
            sight.decoding_off,
            sight.intx_toggles,
            sight.cleared.len(),
            sight.resets,
            sight.errors.len(),
            sight.signals,
        );
        devices.push((found, sight));
    }
    Seen { devices, moments }
}

/// An outcome as a continuity; what was lost is less than any.
fn reached(device: &DeviceStatus) -> Option<Continuity> {
    let levels = [Continuity::Reinitialised, Continuity::Paused, Continuity::Uninterrupted];
    levels.into_iter().find(|level| device.outcome == Some(format!("{level:?}")))
}

/// The word that all devices have.
fn word(seen: &Seen) -> &str {
    let words: BTreeSet<&str> =
        seen.devices.iter().map(|(device, _)| device.outcome.as_deref().unwrap_or_default()).collect();
    assert_eq!(words.len(), 1, "{words:?}");
    words.first().unwrap()
}

/// Says in the documentation what became of devices over the jump from the first kernel to the second.
fn shows(bed: &Bed, iommu: &str, held: &str, seen: &Seen) {
    let kernels = [bed.targets[1].release.as_str(), bed.targets[0].release.as_str()];
    matrix::shows(&[Row { kernels, iommu, held, best: &format!("`{}`", word(seen)) }]);
}

/// All devices went on, by the node's word and by the witness's.
pub(crate) fn uninterrupted(seen: &Seen) {
    for (device, sight) in &seen.devices {
        assert_eq!(device.outcome.as_deref(), Some("Uninterrupted"), "{device:#?}");
        // It says what was worse than the best, and nothing was.
        assert_eq!(device.evidence, None, "{device:#?}");
        assert!(sight.cleared.is_empty() && sight.resets == 0, "{sight:#?}");
    }
}

/// Frames that are on their way between the lab and QEMU at once: those of a tenth of a second.
const LATE: usize = 4;

/// What the holder tells of its NIC, once some more frames came after its return.
async fn summary(bed: &Bed, mark: usize, nic: &Nic) -> BTreeMap<String, u64> {
    let text = format!("device {} summary ", nic.address);
    let line = bed.guest().serial().wait_for_after(mark, &text, ENOUGH).await.unwrap();
    println!("{}", line.text);
    let words = line.text.split_whitespace().filter_map(|word| word.split_once('='));
    words.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

/// Of all frames that were sent, none is missing; and in each part of the way some were sent, and written into memory then
/// and not later.
fn none_lost(seen: &Seen, summary: &BTreeMap<String, u64>, sent: &[SystemTime]) {
    let [.., (_, nic)] = seen.devices.as_slice() else { panic!("a device") };
    let within = |all: &[SystemTime], from: SystemTime, to: SystemTime| {
        all.iter().filter(|at| from <= **at && **at < to).count()
    };
    let Moments { quiesced, jump, first_line, resumed, .. } = seen.moments;
    let parts = [
        ("before the jump", quiesced, jump),
        ("in the jump", jump, first_line),
        ("in the next kernel", first_line, resumed),
    ];
    for (part, from, to) in parts {
        let (sent, written) = (within(sent, from, to), within(&nic.completions, from, to));
        println!("{part}: {sent} frames sent, {written} written into memory");
        // What is sent at the end of a part may be written in the next one, on a machine that has other things to do.
        assert!(sent > 0 && written > 0 && sent <= written + LATE, "{part}: {sent} sent, {written} written");
    }
    for name in ["lost", "late", "wrong", "others", "strange"] {
        assert_eq!(summary.get(name), Some(&0), "{name}: {summary:?}");
    }
    // By their numbers, those that were sent until its holder went on are among what it has.
    let last = sent.iter().take_while(|at| **at < resumed).count() as u64;
    assert!(summary["next"] >= last && summary["received"] == summary["next"], "{last}: {summary:?}");
    // They were there already when it looked for the first time in the next kernel.
    let unseen = within(sent, quiesced, first_line) as u64;
    assert!(summary["blackout"] >= unseen, "{unseen}: {summary:?}");
}

#[tokio::test]
async fn devices_without_iommu_go_on_through_the_jump_and_their_witness_agrees() {
    let passthrough = Passthrough { nic: true, ..two(Behind::RootPort) };
    let bed = Bed::start(Wanted { passthrough, ..Wanted::holder() }, bundles_for_a_nic).await;
    let nic = bed.passed.nic.clone().unwrap();
    let sender = nic.sender().unwrap();
    ceilings::are(&bed, Continuity::Uninterrupted).await;
    ceilings::are_for(&bed, &bed.targets[0], Continuity::Uninterrupted).await;
    // It tells of its first frames as of those after a return.
    assert_eq!(summary(&bed, 0, &nic).await["blackout"], 0);
    let mark = bed.guest().serial().mark();
    let seen = update(&bed, "real", &bed.targets[0]).await;
    uninterrupted(&seen);
    never_still(&seen);
    let declared = declared(&bed);
    let [disks @ .., _] = seen.devices.as_slice() else { panic!("a NIC behind disks") };
    for (_, sight) in disks {
        let stray: Vec<_> = sight.reached.difference(&declared).collect();
        assert!(stray.is_empty() && !sight.reached.is_empty(), "{stray:x?} {sight:#?}");
    }
    let summary = summary(&bed, mark, &nic).await;
    none_lost(&seen, &summary, &sender.sent());
    shows(&bed, "none", "2 NVMe and a virtio NIC that receives, behind root ports", &seen);
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
}

/// There before any module, with no module in the bundle; and from there on into a kernel that has it as a module.
#[tokio::test]
async fn a_driver_that_is_built_in_takes_devices_over_and_hands_them_on() {
    let wanted = Wanted { passthrough: two(Behind::RootPort), ..Wanted::holder() };
    let bed = Bed::start(wanted, |kit| {
        let both = [Driven::built_in(), Driven::new(Variant::Lu2)];
        both.map(|driven| kit.driven_bundle(&driven.unwrap()).unwrap()).to_vec()
    });
    let bed = bed.await;
    let first = bed.release();
    ceilings::are(&bed, Continuity::Uninterrupted).await;
    for (name, target) in ["into", "out-of"].iter().zip(&bed.targets) {
        uninterrupted(&update(&bed, name, target).await);
        assert_eq!(bed.release(), target.release);
        assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
        bed.delete(name).await;
    }
    let [built_in, module] = [0, 1].map(|at| bed.targets[at].release.as_str());
    let row =
        |kernels| Row { kernels, iommu: "none", held: "2 NVMe behind root ports", best: "`Uninterrupted`" };
    matrix::shows(&[row([first.as_str(), built_in]), row([built_in, module])]);
}

/// What was under way is lost, and so the device may not be trusted to be as it was. Its holder sets it up anew and asks again.
#[tokio::test]
async fn devices_behind_an_iommu_stop_before_translation_does_and_are_reinitialised() {
    // As many are asked anew before it tells of its return: that has to come to an end on the slow one, too.
    let bed = bed(Passthrough { iommu: true, ..two(Behind::RootPort) }, &["--depth=32"]).await;
    // Its holder does not say that it brings them to rest.
    ceilings::are(&bed, Continuity::Reinitialised).await;
    ceilings::more_is_refused(&bed, &bed.targets[0], Continuity::Reinitialised).await;
    let mark = bed.guest().serial().mark();
    let seen = update(&bed, "real", &bed.targets[0]).await;
    for (device, sight) in &seen.devices {
        assert_eq!(device.outcome.as_deref(), Some("Reinitialised"), "{device:#?}");
        stopped_in_time(device, sight);
        let anew = format!("device {} set up anew, ", device.address);
        said(&bed, mark, &anew).await;
    }
    work_again(&bed, mark, seen.moments.resumed).await;
    shows(&bed, "translating (VT-d)", "2 NVMe, commands under way", &seen);
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
}

/// Nothing was under way: their holder had let them come to rest.
#[tokio::test]
async fn devices_behind_an_iommu_that_came_to_rest_first_are_paused() {
    let mut passthrough = Passthrough { iommu: true, ..two(Behind::RootPort) };
    // All that is under way has to be done within the time that holders have to stop.
    passthrough.devices.truncate(1);
    passthrough.devices[0].commands_per_second = FAST;
    let bed = bed(passthrough, &["--quiescent", "--depth=8"]).await;
    ceilings::are(&bed, Continuity::Paused).await;
    let mark = bed.guest().serial().mark();
    let seen = update(&bed, "real", &bed.targets[0]).await;
    for (device, sight) in &seen.devices {
        assert_eq!(device.outcome.as_deref(), Some("Paused"), "{device:#?}\n{sight:#?}");
        stopped_in_time(device, sight);
    }
    // With the queues that it had: nothing was lost, nothing is asked twice.
    whole(&bed, mark).await;
    work_again(&bed, mark, seen.moments.resumed).await;
    shows(&bed, "translating (VT-d)", "NVMe, brought to rest by its holder", &seen);
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
}

/// Where the holder says that a device shall write, by the guest's own addresses.
fn declared(bed: &Bed) -> BTreeSet<u64> {
    let serial = bed.guest().serial().lines();
    let runs = bed.passed.devices.iter().flat_map(|device| {
        let says = format!("device {} reaches ", device.address);
        let told = serial.iter().find_map(|line| line.text.split_once(&says)).map(|(_, runs)| runs);
        told.unwrap_or_else(|| panic!("{says}")).split(',')
    });
    let pages = runs.flat_map(|run| {
        let (first, count) = run.trim().split_once('+').unwrap();
        let first = u64::from_str_radix(first.trim_start_matches("0x"), 16).unwrap();
        (0..count.parse().unwrap()).map(move |page: u64| first + page * 4096)
    });
    pages.collect()
}

/// Nothing confines it, and its holder's word was taken for it: the next kernel may have that memory. All commands are done
/// before the jump here, so that it harms nobody.
#[tokio::test]
async fn a_device_that_writes_where_its_holder_did_not_say_is_seen_by_the_witness_and_gets_a_lower_word() {
    let mut passthrough = two(Behind::RootPort);
    passthrough.devices.remove(0);
    let bed = bed(passthrough, &["--misbehave=undeclared-dma", "--depth=4"]).await;
    ceilings::are(&bed, Continuity::Uninterrupted).await;
    let since = SystemTime::now();
    let seen = update(&bed, "real", &bed.targets[0]).await;
    let [(device, _)] = seen.devices.as_slice() else { panic!("one device") };
    let sight = bed.passed.sight(&bed.passed.devices[0], since, seen.moments.jump).unwrap();
    let declared = declared(&bed);
    let stray: Vec<_> = sight.reached.difference(&declared).collect();
    assert_eq!(stray.len(), 1, "{sight:#?}");
    assert_eq!(device.outcome.as_deref(), Some("Reinitialised"), "{device:#?}");
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
}

/// By its own register, which no kernel can refuse: the driver kept its part, and the word is no better for that.
#[tokio::test]
async fn a_device_that_its_holder_resets_is_reinitialised_whatever_the_driver_kept() {
    let bed = bed(two(Behind::RootPort), &["--misbehave=reset-controller"]).await;
    ceilings::are(&bed, Continuity::Uninterrupted).await;
    let seen = update(&bed, "real", &bed.targets[0]).await;
    for (device, sight) in &seen.devices {
        assert_eq!(device.outcome.as_deref(), Some("Reinitialised"), "{device:#?}");
        assert!(sight.resets > 0, "{sight:#?}");
    }
    shows(&bed, "none", "2 NVMe, reset by their holder", &seen);
}

/// It was stopped before its addresses meant something else, so that no access had to be stopped; and the node says why its
/// word is no better.
fn stopped_in_time(device: &DeviceStatus, sight: &Sight) {
    let evidence = device.evidence.as_deref().unwrap_or_default();
    assert!(evidence.split("; ").any(|said| said == "bus mastering cleared"), "{device:#?}");
    let stopped = sight.cleared.first().map(|(at, _)| *at);
    let off = sight.translation_off.first().copied();
    assert!(stopped.is_some() && off.is_some() && stopped < off, "{sight:#?}");
    assert_eq!(sight.faults, Vec::<String>::new());
}
