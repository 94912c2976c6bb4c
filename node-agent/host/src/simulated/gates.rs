//! The gates of a simulated machine, worded as a real one's.

use liveupdate_node_core::gate::{Gate, GateId, Scope};
use liveupdate_node_core::{GateResult, Target};

use super::spec::{Answer, DeviceSpec, GateSpec, HolderSpec, Level};
use super::state::Machine;

impl From<Answer> for GateResult {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Pass => Self::Pass,
            Answer::Fail => Self::Fail,
            Answer::Unknown => Self::Unknown,
        }
    }
}

/// Reads every gate; the target's own only with a target.
pub(super) fn read(machine: &Machine, target: Option<&Target>) -> Vec<Gate> {
    let mut gates = Vec::new();
    for &id in GateId::ALL {
        match id.scope() {
            Scope::Node => gates.push(answer(machine, target, id, "", None)),
            Scope::Target => {
                if let Some(target) = target {
                    gates.push(answer(machine, Some(target), id, "", of_target(machine, target, id)));
                }
            }
            Scope::Device => gates.extend(
                machine
                    .spec
                    .devices
                    .iter()
                    .filter(|d| d.holder.is_some())
                    .map(|d| answer(machine, target, id, &d.address, of_device(d, id))),
            ),
            Scope::Holder => gates.extend(
                machine.spec.holders.iter().map(|h| answer(machine, target, id, &h.name, of_holder(h, id))),
            ),
        }
    }
    gates
}

/// What was found, and what would mend it.
type Failure = (String, &'static str);

fn answer(
    machine: &Machine,
    target: Option<&Target>,
    id: GateId,
    subject: &str,
    failure: Option<Failure>,
) -> Gate {
    let chosen = machine.spec.gates.iter().find(|spec| {
        spec.id == id.as_str()
            && spec.subject.as_deref().is_none_or(|s| s == subject)
            && spec.release.as_deref().is_none_or(|r| target.is_some_and(|t| t.release == r))
    });
    let (result, evidence, remedy) = match (chosen, failure) {
        (Some(spec), _) => chosen_words(machine, id, spec),
        (None, Some((evidence, remedy))) => (GateResult::Fail, evidence, remedy.into()),
        (None, None) => (GateResult::Pass, passes(machine, id), String::new()),
    };
    Gate { id, subject: subject.into(), result, evidence, remedy }
}

fn chosen_words(machine: &Machine, id: GateId, spec: &GateSpec) -> (GateResult, String, String) {
    let result = GateResult::from(spec.result);
    let (evidence, remedy) = match result {
        GateResult::Pass => (passes(machine, id), ""),
        GateResult::Fail => (fails(id).0.to_owned(), fails(id).1),
        GateResult::Unknown => (format!("could not be found out: {}", unknown(id)), fails(id).1),
    };
    (result, spec.evidence.clone().unwrap_or(evidence), spec.remedy.clone().unwrap_or_else(|| remedy.into()))
}

fn of_target(machine: &Machine, target: &Target, id: GateId) -> Option<Failure> {
    let bundle = machine.spec.bundles.iter().find(|b| b.name == target.bundle);
    match (id, bundle) {
        (GateId::TargetKernel, None) => Some((
            format!("bundle root: no bundle {:?}", target.bundle),
            "copy the bundle to the node's bundle root, or correct target.bundle.name",
        )),
        (GateId::TargetKernel, Some(b)) if b.release != target.release => Some((
            format!("{}/manifest: release {}, wanted {}", b.name, b.release, target.release),
            "correct target.release, or name the bundle of that release",
        )),
        (GateId::TargetTrusted, None) => {
            Some((format!("bundle root: no bundle {:?}", target.bundle), "copy the bundle to the node"))
        }
        (GateId::TargetTrusted, Some(b)) if b.digest != target.digest => Some((
            format!("{}: digest {}, wanted {}", b.name, b.digest, target.digest),
            "copy the right bundle to the node, or correct target.bundle.digest",
        )),
        _ => None,
    }
}

/// A device's ceiling follows from its gates, so that the gates follow from the ceiling that was written.
fn of_device(device: &DeviceSpec, id: GateId) -> Option<Failure> {
    let fits = match id {
        GateId::DeviceEligible => device.ceiling.is_some(),
        GateId::VfioStatePreserved | GateId::PciStatePreserved => device.ceiling >= Some(Level::Paused),
        GateId::IommuStatePreserved | GateId::IommufdPreserved => {
            device.ceiling >= Some(Level::Uninterrupted)
        }
        _ => true,
    };
    (!fits).then(|| (format!("{}: {}", device.address, fails(id).0), fails(id).1))
}

fn of_holder(holder: &HolderSpec, id: GateId) -> Option<Failure> {
    let unaware = id == GateId::HolderAware && !holder.aware;
    unaware.then(|| (format!("{}: {}", holder.name, fails(id).0), fails(id).1))
}

fn passes(machine: &Machine, id: GateId) -> String {
    match id {
        GateId::LiveUpdateKernel => format!("/dev/liveupdate is there; uname -r: {}", machine.state.release),
        GateId::KexecHandover => "/sys/kernel/debug/kho: on; scratch holds the image".into(),
        GateId::KexecAllowed => "kexec_load_disabled: 0; lockdown: none".into(),
        GateId::ClockSource if !machine.spec.counter => "no invariant counter".into(),
        GateId::ClockSource => "/proc/cpuinfo: constant_tsc nonstop_tsc".into(),
        other => format!("simulated: {}", lower(other.question())),
    }
}

fn lower(sentence: &str) -> String {
    let mut chars = sentence.chars();
    let first = chars.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    first + chars.as_str().trim_end_matches('.')
}

fn unknown(id: GateId) -> &'static str {
    match id.scope() {
        Scope::Node => "the kernel offers nothing to read here",
        Scope::Target => "the image holds no configuration and the manifest does not say",
        Scope::Device => "the driver cannot tell",
        Scope::Holder => "the holder did not say",
    }
}

/// Evidence and remedy of a gate that fails.
fn fails(id: GateId) -> (&'static str, &'static str) {
    match id {
        GateId::ExperimentalOptIn => {
            ("/sys/module/vfio_pci_liveupdate/parameters/enable: N", "load vfio_pci_liveupdate with enable=1")
        }
        GateId::CustodySafe => ("liveupdate-keeper.service: inactive", "start the keeper on the node"),
        GateId::LiveUpdateKernel => (
            "/dev/liveupdate: no such file; /proc/config.gz: CONFIG_LIVEUPDATE is not set",
            "boot a kernel with CONFIG_LIVEUPDATE=y and liveupdate=on",
        ),
        GateId::KexecHandover => {
            ("/proc/cmdline: no kho=on; /sys/kernel/debug/kho: no such folder", "boot with kho=on")
        }
        GateId::KexecAllowed => (
            "/proc/sys/kernel/kexec_load_disabled: 1",
            "boot without kernel.kexec_load_disabled=1; it cannot be taken back at run time",
        ),
        GateId::DriverReady => {
            ("/sys/module/vfio_pci_liveupdate: no such folder", "load the module vfio_pci_liveupdate")
        }
        GateId::VfioStatePreserved => {
            ("driver has no live update file handler", "bind it to vfio-pci-liveupdate")
        }
        GateId::PciStatePreserved => {
            ("kernel has no PCI preservation", "boot a kernel with the PCI preservation patches")
        }
        GateId::IommuStatePreserved => (
            "its IOMMU domain is translated and the kernel cannot preserve it",
            "accept Paused for this device",
        ),
        GateId::IommufdPreserved => {
            ("iommufd has no live update file handler", "accept Paused for this device")
        }
        GateId::DmaTargetsPreserved => {
            ("DMA mappings outside of preserved memfds", "map guest memory from memfds alone")
        }
        GateId::MemoryPreservable => {
            ("guest memory is on hugetlbfs", "back guest memory by an unlinked shmem memfd")
        }
        GateId::MemoryCharge => {
            ("memory.max leaves too little room", "raise memory.max of the holder's cgroup")
        }
        GateId::TargetKernel => (
            "image: embedded ABI strings differ from the running kernel's",
            "build the target with the same ABI",
        ),
        GateId::TargetTrusted => ("manifest: no signature that the policy knows", "sign the bundle"),
        GateId::ModuleLoadable => {
            ("modules: vermagic differs from the image", "rebuild the bundle's modules")
        }
        GateId::NativeDriverRace => {
            ("the target has a built-in driver for it", "build that driver as a module in the target")
        }
        GateId::PciEnumerationStable => ("command lines differ in pci=", "make pci=, iommu= and vfio= equal"),
        GateId::DeviceEligible => {
            ("cannot be preserved: its reset domain is shared with a device of somebody else", "move it")
        }
        GateId::HolderAware => {
            ("never said Hello on the handover socket", "start it with the liveupdate handover client")
        }
        GateId::HolderOpenMode => ("opened /dev/vfio/<group>", "open /dev/vfio/devices/<cdev> instead"),
        GateId::HolderReturns => ("nothing starts it after a boot", "enable its unit"),
        GateId::ForeignSessions => ("another process holds LUO sessions", "end that process or its sessions"),
        GateId::CrashDump => {
            ("/sys/kernel/kexec_crash_size: 0", "reserve crashkernel=, or acknowledge NoKdump")
        }
        GateId::ClockSource => ("/proc/cpuinfo: no nonstop_tsc", "none: the blackout stays unmeasured"),
        GateId::FallbackBoot => ("/proc/cmdline: no panic=", "boot with panic=10"),
        GateId::UnattendedBoot => ("root needs a passphrase at the console", "unlock it by TPM or network"),
        GateId::DiskAndMemory => ("bundle root: less free than the bundle needs", "make room on the node"),
    }
}
