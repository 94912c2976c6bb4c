//! Nodes with devices that must not be updated yet: each is blocked by the gate that it is about, and nobody notices.

use std::path::PathBuf;

use liveupdate_crds::{Acknowledgement, LiveUpdateSpec, NodeLiveUpdateStatus};
use liveupdate_lab::vm::driver::{DRIVER, Driven, MODULE, module};
use liveupdate_lab::vm::{Kit, KitBundle, PATIENCE, Variant, updates};

use crate::bed::{Bed, ENOUGH, INIT, Wanted};
use crate::devices::bundles;
use crate::passthrough::{PHYSICAL, VIRTUAL, one, one_beside_a_strangers, with_virtual_functions};

/// Targets, the gate that each fails, and what that says.
const WRONGS: [(&str, &str, &str); 6] = [
    ("without-driver", "ModuleLoadable", "the target has no vfio_pci_liveupdate"),
    ("other-form", "ModuleLoadable", "vfio-pci-v9, wanted liveupdate.dev/vfio-pci-v1"),
    ("opted-out", "ModuleLoadable", "nothing would be taken over"),
    ("native-first", "NativeDriverRace", "nvme"),
    ("native-built-in", "NativeDriverRace", "CONFIG_BLK_DEV_NVME=y: it takes the device before"),
    ("other-vfio", "PciEnumerationStable", "enable_unsafe_noiommu_mode"),
];

fn wrong(kit: &Kit, how: &str) -> KitBundle {
    let right = Driven { name: how.to_owned(), ..Driven::new(Variant::Lu2).unwrap() };
    let native = |file: &str| {
        let modules = kit.kernels().kernel(Variant::Lu2).unwrap().modules();
        (modules.join("kernel/drivers/nvme/host").join(file), String::new())
    };
    let driven = match how {
        "without-driver" => Driven { drivers: Vec::new(), ..right },
        "other-form" => Driven { drivers: vec![(of_another_form(kit), String::new())], ..right },
        "opted-out" => Driven { append: vec!["vfio_pci_liveupdate.enable=0".into()], ..right },
        "native-first" => {
            let first = [native("nvme-core.ko"), native("nvme.ko")];
            Driven { drivers: first.into_iter().chain(right.drivers).collect(), ..right }
        }
        "native-built-in" => Driven { name: how.to_owned(), ..Driven::new(Variant::OldKexec).unwrap() },
        "other-vfio" => Driven { append: vec!["vfio.enable_unsafe_noiommu_mode=0".into()], ..right },
        _ => unreachable!("{how}"),
    };
    kit.driven_bundle(&driven).unwrap()
}

/// The driver of another time, which speaks of what it hands over by another name.
fn of_another_form(kit: &Kit) -> PathBuf {
    let (from, to) = (b"liveupdate.dev/vfio-pci-v1".as_slice(), b"liveupdate.dev/vfio-pci-v9".as_slice());
    let mut bytes = std::fs::read(module(Variant::Lu2).unwrap()).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to));
    let folder = kit.disk_folder().join("../other-form");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(MODULE), bytes).unwrap();
    folder.join(MODULE)
}

/// Asks for an update, and gives what blocks it.
pub(crate) async fn blocked(
    bed: &Bed,
    name: &str,
    target: &KitBundle,
    change: impl FnOnce(&mut LiveUpdateSpec),
) -> NodeLiveUpdateStatus {
    let change = |spec: &mut LiveUpdateSpec| {
        updates::preserve_devices(spec);
        change(spec);
    };
    bed.apply_with(name, target, change).await;
    let update = bed.update_name(name);
    let wanted = |status: &NodeLiveUpdateStatus| status.update_name == update && status.state == "Blocked";
    let record = bed.await_node(&format!("{name}: a block"), wanted).await;
    println!("{name}: {} {}", record.reason, record.message);
    bed.delete(name).await;
    record
}

/// What a gate that fails says.
pub(crate) fn evidence(record: &NodeLiveUpdateStatus, id: &str) -> String {
    let gates = record.gates.iter().filter(|gate| gate.id == id && gate.result == "Fail");
    gates.filter_map(|gate| gate.evidence.clone()).collect::<Vec<_>>().join("\n")
}

const UNBIND: &str = "/sys/bus/pci/drivers/vfio-pci-liveupdate/unbind";

/// Nothing resets the device alone any more, so that the function beside it would be reset with it. Nobody has that, and so
/// it can be given up.
async fn beside_a_stranger(bed: &Bed, target: &KitBundle) {
    let [device, stranger] = [0, 1].map(|at| &bed.passed.devices[at].address);
    let methods = format!("/sys/bus/pci/devices/{device}/reset_method");
    let before = bed.node.output(INIT, &["get", &methods]).await.unwrap();
    assert!(before.starts_with("flr"), "{before}");
    bed.put(&methods, "\n").await;
    let record = blocked(bed, "stranger", target, |_| {}).await;
    assert!(record.message.contains("DeviceEligible"), "{record:#?}");
    let fate = format!("devices that are not its holder's: {stranger} (vfio-pci-liveupdate, reset together");
    assert!(evidence(&record, "DeviceEligible").contains(&fate), "{record:#?}");
    bed.put(UNBIND, stranger).await;
    bed.put(&methods, "default").await;
}

/// What the kernel says when a device is given to a session, past all gates.
async fn preserved(bed: &Bed, device: &str) -> String {
    bed.guest().control().run(INIT, &["preserve", device], PATIENCE).await.unwrap().stderr
}

/// Gives a device to a driver.
async fn bind(bed: &Bed, device: &str, driver: &str) {
    let over = format!("/sys/bus/pci/devices/{device}/driver_override");
    bed.put(&over, driver).await;
    bed.put("/sys/bus/pci/drivers_probe", device).await;
}

/// Somebody has the virtual function open, whoever that is: what its gate says then.
async fn eligible(bed: &Bed, target: &KitBundle) -> String {
    // Two devices were passed through before.
    let path = "/dev/vfio/devices/noiommu-vfio2";
    let somebody = bed.guest().control().start(INIT, &["open", path], PATIENCE).await.unwrap();
    bed.guest().serial().wait_for(&format!("lab-init: holds {path}"), ENOUGH).await.unwrap();
    let record = blocked(bed, "virtual", target, |_| {}).await;
    bed.node.output(INIT, &["kill", &somebody.to_string()]).await.unwrap();
    evidence(&record, "DeviceEligible")
}

/// Neither a virtual function nor a device that has one goes over: gate and driver refuse the one, VFIO the other.
async fn virtual_functions(bed: &Bed, target: &KitBundle) {
    bind(bed, PHYSICAL, "pci-pf-stub").await;
    let count = format!("/sys/bus/pci/devices/{PHYSICAL}/sriov_numvfs");
    bed.put(&count, "1").await;
    bind(bed, VIRTUAL, DRIVER).await;
    // EOPNOTSUPP.
    let said = preserved(bed, VIRTUAL).await;
    assert!(said.contains("os error 95"), "{said}");
    let said = eligible(bed, target).await;
    assert!(said.contains(&format!("{VIRTUAL}/physfn: a virtual function of {PHYSICAL}")), "{said}");

    let unbind = format!("/sys/bus/pci/devices/{PHYSICAL}/driver/unbind");
    bed.put(&unbind, PHYSICAL).await;
    bind(bed, PHYSICAL, DRIVER).await;
    // VFIO takes no device that has one.
    let said = preserved(bed, PHYSICAL).await;
    assert!(said.contains("it has no node of its own"), "{said}");
}

/// Somebody takes the device from its driver. The kernel asks its holder to let it go, and waits for that; no update begins
/// meanwhile.
async fn unbound_while_it_is_held(bed: &Bed, target: &KitBundle) {
    let device = &bed.passed.devices[0].address;
    bed.guest().control().start(INIT, &["put", UNBIND, device], PATIENCE).await.unwrap();
    bed.guest().serial().wait_for("blocked until released by user", ENOUGH).await.unwrap();
    let record = blocked(bed, "unbound", target, |_| {}).await;
    assert!(record.message.contains("DeviceEligible"), "{record:#?}");
    assert!(evidence(&record, "DeviceEligible").contains("driver none"), "{record:#?}");
}

#[tokio::test]
async fn targets_that_cannot_take_a_device_over_and_a_risk_that_nobody_acknowledged_block_its_node() {
    let passthrough = one_beside_a_strangers();
    let wanted = Wanted { passthrough, guest: with_virtual_functions, ..Wanted::holder() };
    let all = |kit: &Kit| {
        let wrongs = WRONGS.iter().map(|(how, _, _)| wrong(kit, how));
        wrongs.chain(bundles(kit, &[])).collect()
    };
    let bed = Bed::start(wanted, all).await;
    let right = &bed.targets[WRONGS.len()];
    virtual_functions(&bed, right).await;
    beside_a_stranger(&bed, right).await;
    for ((how, gate, says), target) in WRONGS.iter().zip(&bed.targets) {
        let record = blocked(&bed, how, target, |_| {}).await;
        assert!(record.message.contains(gate), "{how}: {record:#?}");
        assert!(evidence(&record, gate).contains(says), "{how}: {record:#?}");
    }
    // Without the other one the API server takes no such update at all.
    let risk = Acknowledgement::UnconfinedDma;
    let record = blocked(&bed, "unconfined", right, |spec| spec.acknowledge.retain(|all| *all != risk)).await;
    assert!(record.message.contains("UnconfinedDma"), "{record:#?}");

    // Nor does anybody get it a second time, to hold it beside its holder.
    let device = &bed.passed.devices[0].address;
    let second = ["--name=vm-b".to_owned(), format!("--device={device}")];
    let second: Vec<&str> = second.iter().map(String::as_str).collect();
    bed.guest().control().start("/bin/liveupdate-hold", &second, PATIENCE).await.unwrap();
    let ends = format!("liveupdate-hold: vm-b: ends: device {device}: ");
    bed.guest().serial().wait_for(&ends, ENOUGH).await.unwrap();

    unbound_while_it_is_held(&bed, right).await;
    bed.assert_undisturbed().await;
    assert_eq!((bed.said_times("made"), bed.said_times("quiesced")), (1, 0), "{:?}", bed.said());
}

#[tokio::test]
async fn a_running_driver_that_was_not_opted_in_blocks_the_node() {
    let guest = |options: &mut liveupdate_lab::vm::GuestOptions| {
        for word in &mut options.append {
            *word = word.replace(":enable=1", "");
        }
    };
    let bed =
        Bed::start(Wanted { passthrough: one(), guest, ..Wanted::holder() }, |kit| bundles(kit, &[])).await;
    let record = blocked(&bed, "real", &bed.targets[0], |_| {}).await;
    assert!(record.message.contains("ExperimentalOptIn"), "{record:#?}");
    assert!(evidence(&record, "ExperimentalOptIn").contains("parameters/enable: N"), "{record:#?}");
    bed.assert_undisturbed().await;
    assert_eq!(bed.said_times("quiesced"), 0, "{:?}", bed.said());
}
