//! Devices in custody: what is checked when they are declared, the order in which they are taken, and what is told
//! of them afterwards.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use liveupdate_holder::messages::envelope::Message;
use liveupdate_holder::messages::{
    Attached, Check, Declare, Object, ObjectKind, Preserved, Quiesced, Reclaim, Resumed,
};
use liveupdate_host::linux::custody::Custodian;
use liveupdate_host::{Facts, ReclaimedDevice};
use liveupdate_node_core::outcome::{Dma, Outcome, Reset};

use crate::machine::{ATTEMPT, Client, Machine, SOON, declared, intent, memfd, memory, resumed};

const NVME: &str = "0000:01:00.0";

fn sysfs(file: &str) -> String {
    format!("sys/bus/pci/devices/{NVME}/{file}")
}

/// What the driver tells of a device that never stopped.
fn never_stopped(machine: &Machine) {
    machine.file(&sysfs("class"), "0x010802\n");
    let probe = "cc=0x460001 csts=0x1 aqa=0x1f001f asq=0x1000\n";
    for (file, text) in [
        ("state", "attached\n"),
        ("keeps_bus_master", "1\n"),
        ("frozen_command", "0x0507\n"),
        ("arrived_command", "0x0507\n"),
        ("retrieved_command", "0x0507\n"),
        ("frozen_bridges", "0000:00:02.0=0x0507\n"),
        ("arrived_bridges", "0000:00:02.0=0x0507\n"),
        ("retrieved_bridges", "0000:00:02.0=0x0507\n"),
        ("frozen_counter", "0x1000\n"),
        ("attached_counter", "0x2000000\n"),
        ("frozen_link", "0x1041\n"),
        ("retrieved_link", "0x1041\n"),
        ("canary", "same\n"),
        ("config", "same\n"),
        ("bus_master", "kept\n"),
        ("resets", "0\n"),
        ("frozen_probe", probe),
        ("retrieved_probe", probe),
    ] {
        machine.file(&sysfs(&format!("liveupdate/{file}")), text);
    }
}

/// The driver's word after PRESERVE_FD.
fn driver_preserves(machine: &Machine) {
    machine.file(&sysfs("liveupdate/state"), "preserved\n");
    machine.file(&sysfs("power_state"), "D0\n");
}

/// A holder of a device and of the memory that it writes to.
struct Holder {
    client: Client,
    memory: OwnedFd,
    device: File,
}

fn device(label: &str) -> Object {
    Object { kind: ObjectKind::VfioDevice.into(), token: 7, label: label.into() }
}

impl Holder {
    fn new(machine: &Machine) -> Self {
        let mut client = machine.client();
        client.hello("vm-a");
        Self { client, memory: memory(4096), device: machine.device(NVME) }
    }

    fn declare(&mut self, label: &str) {
        let declare = Declare {
            objects: vec![device(label), memfd(1)],
            dma_targets: vec![1],
            quiesces_dma: true,
            ..Declare::default()
        };
        self.client.say("", Message::Declare(declare), &[self.device.as_fd(), self.memory.as_fd()]);
    }

    fn declared(machine: &Machine, keeper: &Custodian) -> Self {
        let mut holder = Self::new(machine);
        holder.declare(NVME);
        assert!(matches!(holder.client.hear(), Some(Message::Verdict(_))));
        declared(keeper, 1);
        holder
    }

    /// Up to where it stands still.
    fn quiesced(&mut self, keeper: &Custodian, dma_quiescent: bool) {
        thread::scope(|scope| {
            let taken = scope.spawn(|| keeper.preserve(ATTEMPT, &[NVME.to_owned()], &mut || true));
            assert!(matches!(self.client.hear(), Some(Message::Preserve(_))));
            self.client.say(ATTEMPT, Message::Preserved(Preserved {}), &[]);
            taken.join().unwrap().unwrap();
            let stands = scope.spawn(|| keeper.quiesce(ATTEMPT, SOON));
            assert!(matches!(self.client.hear(), Some(Message::Quiesce(_))));
            let quiesced = Quiesced { counter: 5, interrupts_off: true, dma_quiescent, state_length: 0 };
            self.client.say(ATTEMPT, Message::Quiesced(quiesced), &[]);
            assert_eq!(stands.join().unwrap().unwrap()[0].vote, Ok(()));
        });
    }
}

/// Up to the next kernel; the device's file stays, as the kernel would keep it.
fn jumped(machine: &Machine, dma_quiescent: bool) -> Custodian {
    let keeper = machine.keeper();
    let mut holder = Holder::declared(machine, &keeper);
    holder.quiesced(&keeper, dma_quiescent);
    driver_preserves(machine);
    keeper.commit(&intent(), Some(1)).unwrap();
    drop(holder);
    let next = machine.jump(keeper);
    machine.orchestrator.log();
    next
}

fn checks(all: &[(&str, bool)]) -> Vec<Check> {
    let check = |(name, passed): &(&str, bool)| Check {
        name: format!("{name} {NVME}"),
        passed: *passed,
        detail: "gap=12ms".into(),
    };
    all.iter().map(check).collect()
}

const GOOD: [(&str, bool); 3] = [("dma", true), ("interrupts", true), ("state", true)];

/// A successor that was granted its files, with the facts that it was told.
fn granted(machine: &Machine) -> (Client, Facts) {
    let mut client = machine.welcomed("vm-a");
    client.say("", Message::Reclaim(Reclaim { name: "vm-a".into() }), &[]);
    let Some(Message::Grant(grant)) = client.hear() else { panic!("it was not granted") };
    let kinds: Vec<_> = grant.objects.iter().map(|object| (object.kind(), object.label.as_str())).collect();
    assert!(kinds.contains(&(ObjectKind::VfioDevice, NVME)), "{kinds:?}");
    let [device] = grant.devices.as_slice() else { panic!("{:?}", grant.devices) };
    assert_eq!(device.token, 7);
    (client, Facts::from(&device.facts.unwrap()))
}

fn go_on(keeper: &Custodian, mut client: Client, found: &[(&str, bool)]) -> ReclaimedDevice {
    client.say("", Message::Attached(Attached { checks: checks(found) }), &[]);
    client.say("", Message::Resumed(Resumed { counter: 9, checks: Vec::new() }), &[]);
    resumed(keeper, 1);
    let (_, devices) = keeper.reclaim().unwrap();
    devices.into_iter().next().unwrap()
}

#[test]
fn a_device_is_what_the_kernel_says_of_it_labelled_so_opened_by_its_own_node_and_held() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let mut holder = Holder::new(&machine);
    holder.declare("0000:02:00.0");
    let refused = holder.client.refused();
    assert!(refused.contains("it is device 0000:01:00.0, and its label says"), "{refused}");
    let info = format!("vfio-device-syspath: /sys/devices/pci0000:00/{NVME}\n");
    for (link, info, why) in [
        ("anon_inode:[vfio-device]", info.as_str(), "opened by its group"),
        ("/dev/null", "pos:\t0\n", "names no PCI device"),
    ] {
        machine.orchestrator.device(&holder.device, link, info);
        holder.declare(NVME);
        let refused = holder.client.refused();
        assert!(refused.contains(why), "{refused}");
    }
    assert_eq!(keeper.holders().unwrap(), []);

    let info = format!("vfio-device-syspath: /sys/devices/pci0000:00/{NVME}\n");
    machine.orchestrator.device(&holder.device, "/dev/vfio/devices/vfio0", &info);
    machine.holds_nothing(std::process::id());
    holder.declare(NVME);
    assert!(holder.client.refused().contains("you do not hold this file yourself"));
}

#[test]
fn devices_are_taken_after_the_memory_and_their_evidence_makes_the_facts() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let mut holder = Holder::declared(&machine, &keeper);
    holder.quiesced(&keeper, false);
    let taken = [
        "create liveupdate.0",
        "preserve token 1 of liveupdate.0",
        "preserve token 7 of liveupdate.0",
        "create liveupdate",
        "preserve token 0 of liveupdate",
    ];
    assert_eq!(machine.orchestrator.log(), taken);
    driver_preserves(&machine);
    keeper.commit(&intent(), Some(1)).unwrap();
    drop(holder);
    let keeper = machine.jump(keeper);

    never_stopped(&machine);
    let (client, facts) = granted(&machine);
    assert_eq!((facts.reset, facts.returned), (Reset::None, false), "as far as is known");
    let (_, devices) = keeper.reclaim().unwrap();
    assert_eq!((devices[0].address.as_str(), devices[0].facts.returned), (NVME, false));
    let device = go_on(&keeper, client, &GOOD);
    assert_eq!(device.facts.outcome(), Outcome::Uninterrupted, "{device:?}");
    assert_eq!(device.evidence, "");

    // Its session has ended: what anybody does to it now is nothing of this attempt's, for no keeper.
    machine.file(&sysfs("liveupdate/canary"), "changed\n");
    let again = |keeper: &Custodian| keeper.reclaim().unwrap().1;
    assert_eq!(again(&keeper), std::slice::from_ref(&device));
    drop(keeper);
    assert_eq!(again(&machine.keeper()), [device]);
}

#[test]
fn a_device_that_was_unbound_or_fell_asleep_lets_nobody_jump() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let mut holder = Holder::declared(&machine, &keeper);
    holder.quiesced(&keeper, false);
    let refused = || keeper.commit(&intent(), Some(1)).unwrap_err().to_string();
    assert!(refused().contains("its driver tells nothing of it"), "{}", refused());
    driver_preserves(&machine);
    machine.file(&sysfs("power_state"), "D3hot\n");
    assert!(refused().contains("its power state is D3hot, not D0"), "{}", refused());
    machine.file(&sysfs("liveupdate/state"), "idle\n");
    assert!(refused().contains("its driver says Idle"), "{}", refused());
    driver_preserves(&machine);
    keeper.commit(&intent(), Some(1)).unwrap();
}

#[test]
fn what_driver_or_holder_say_against_it_lowers_the_word_and_is_told() {
    let told = |quiescent: bool, change: &[(&str, &str)], found: &[(&str, bool)]| {
        let machine = Machine::new();
        let keeper = jumped(&machine, quiescent);
        never_stopped(&machine);
        for (file, text) in change {
            machine.file(&sysfs(&format!("liveupdate/{file}")), text);
        }
        let (client, _) = granted(&machine);
        go_on(&keeper, client, found)
    };
    let reset = told(false, &[("canary", "changed\n")], &GOOD);
    assert_eq!((reset.facts.reset, reset.facts.outcome()), (Reset::Detected, Outcome::Reinitialised));
    assert_eq!(reset.evidence, "canary changed");
    let cleared = [("bus_master", "cleared\n"), ("arrived_command", "0x0403\n")];
    let paused = told(true, &cleared, &GOOD);
    // The test's counter has a tick a nanosecond.
    assert_eq!(paused.facts.dma, Dma::Gap(std::time::Duration::from_millis(34)));
    assert_eq!(paused.facts.outcome(), Outcome::Paused);
    assert_eq!(told(false, &cleared, &GOOD).facts.outcome(), Outcome::Reinitialised);
    let silent = told(false, &[], &[]);
    assert_eq!(silent.facts.outcome(), Outcome::Reinitialised);
    assert!(silent.evidence.contains("holder says nothing of dma"), "{}", silent.evidence);
    let odd = told(false, &[("resets", "many\n")], &GOOD);
    assert_eq!(odd.evidence, "resets unknown");
}

#[test]
fn a_successor_that_died_attests_nothing_for_the_next_one() {
    let machine = Machine::new();
    let keeper = jumped(&machine, false);
    never_stopped(&machine);
    let (mut dying, _) = granted(&machine);
    dying.say("", Message::Attached(Attached { checks: checks(&GOOD) }), &[]);
    drop(dying);
    let (client, _) = granted(&machine);
    assert_eq!(go_on(&keeper, client, &[]).facts.outcome(), Outcome::Reinitialised);
}

#[test]
fn a_device_that_is_gone_is_not_back_whatever_its_holder_says() {
    let machine = Machine::new();
    let keeper = jumped(&machine, false);
    never_stopped(&machine);
    let (client, _) = granted(&machine);
    machine.gone(&format!("sys/bus/pci/devices/{NVME}"));
    assert_eq!(go_on(&keeper, client, &GOOD).facts.outcome(), Outcome::Lost);
}

#[test]
fn a_device_whose_attempt_is_undone_never_left_and_its_holder_says_how_it_is() {
    for (found, outcome) in [(&GOOD[..], Outcome::Uninterrupted), (&[], Outcome::Reinitialised)] {
        let machine = Machine::new();
        never_stopped(&machine);
        for file in ["frozen_counter", "bus_master", "canary", "config", "frozen_probe", "retrieved_probe"] {
            machine.file(&sysfs(&format!("liveupdate/{file}")), "unknown\n");
        }
        machine.file(&sysfs("liveupdate/state"), "preserved\n");
        let keeper = machine.keeper();
        let mut holder = Holder::declared(&machine, &keeper);
        holder.quiesced(&keeper, false);
        let answers = thread::scope(|scope| {
            let answers = scope.spawn(|| keeper.resume("a test").unwrap());
            assert!(matches!(holder.client.hear(), Some(Message::Resume(_))));
            let resumed = Resumed { counter: 9, checks: checks(found) };
            holder.client.say(ATTEMPT, Message::Resumed(resumed), &[]);
            answers.join().unwrap()
        });
        let [device] = answers[0].devices.as_slice() else { panic!("{answers:?}") };
        assert_eq!((device.address.as_str(), device.facts.outcome()), (NVME, outcome), "{device:?}");
        keeper.unpreserve().unwrap();
    }
}

#[test]
fn devices_of_a_holder_that_goes_on_when_custody_is_gone_are_back_by_what_is_known_of_them() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let mut holder = Holder::declared(&machine, &keeper);
    holder.quiesced(&keeper, false);
    keeper.unpreserve().unwrap();
    assert!(matches!(holder.client.hear(), Some(Message::Resume(_))));
    let answers = || keeper.resume("undone").unwrap().remove(0);
    assert!(answers().result.is_err() && answers().devices.is_empty(), "{:?}", answers());
    machine.file(&sysfs("class"), "0x010802\n");
    for (file, text) in [("state", "idle\n"), ("resets", "0\n"), ("bus_master", "kept\n")] {
        machine.file(&sysfs(&format!("liveupdate/{file}")), text);
    }
    holder.client.say(ATTEMPT, Message::Resumed(Resumed { counter: 9, checks: checks(&GOOD) }), &[]);
    crate::machine::until("it is counted", || answers().result.is_ok());
    let [device]: [ReclaimedDevice; 1] = answers().devices.try_into().unwrap();
    assert_eq!(
        (device.address.as_str(), device.facts.outcome()),
        (NVME, Outcome::Uninterrupted),
        "{device:?}"
    );
}
