//! Twenty hypervisors with three devices each.

use liveupdate_host::simulated::{
    Answer, BundleSpec, DeviceSpec, Durations, FactsSpec, GateSpec, HolderSpec, Level, Pace, WorldSpec,
};

use crate::fleet::NodeSpec;

/// The release that they run at first.
pub(super) const SOURCE_RELEASE: &str = "7.3.4-lu1";
/// The release of `lab/demo/liveupdate.yaml`.
pub const TARGET_RELEASE: &str = "7.3.5-lu2";
const TARGET_DIGEST: &str = "sha256:3b4c1f6a9d0e5d7c8b2a4f6e8d0c2b4a6f8e0d2c4b6a8f0e1d3c5b7a9f1e3d5c";

/// The node that lacks a gate.
pub(super) const WITHOUT_HANDOVER: u16 = 7;
/// The node whose NIC comes back `Paused`.
pub(super) const WITH_PAUSED_NIC: u16 = 5;
/// The node whose GPU comes back `Reinitialised`.
pub(super) const WITH_RESET_GPU: u16 = 12;

/// The demo's nodes, `hv-01` and on.
pub fn machines(count: u16) -> Vec<NodeSpec> {
    (1..=count).map(machine).collect()
}

fn machine(number: u16) -> NodeSpec {
    let mut world = WorldSpec::new(SOURCE_RELEASE);
    world.pace = Pace::Real;
    // Nodes of one fleet differ a little.
    let vary = u64::from(number * 37 % 90);
    world.durations = Durations {
        stage: 300 + vary,
        preserve: 250 + vary,
        settle: 200,
        quiesce: 8 + vary / 10,
        jump: 620 + 3 * vary,
        reclaim: 60 + vary,
    };
    world.bundles = vec![BundleSpec {
        name: TARGET_RELEASE.into(),
        digest: TARGET_DIGEST.into(),
        release: TARGET_RELEASE.into(),
        boots_as: None,
        bytes: 64 << 20,
    }];
    let whole = FactsSpec::uninterrupted();
    let nic = if number == WITH_PAUSED_NIC { FactsSpec::paused(4) } else { whole };
    let gpu = if number == WITH_RESET_GPU { FactsSpec::reinitialised() } else { whole };
    world.devices = vec![
        device("0000:17:00.0", "10de", "2331", "0302", gpu),
        device("0000:41:00.0", "15b3", "101e", "0200", nic),
        device("0000:81:00.0", "144d", "a80a", "0108", whole),
    ];
    world.holders = vec![HolderSpec {
        name: GUEST.into(),
        aware: true,
        minimum: None,
        refuses: false,
        memory_bytes: 64 << 30,
    }];
    if number == WITHOUT_HANDOVER {
        world.gates.push(GateSpec {
            id: "KexecHandover".into(),
            subject: None,
            release: None,
            result: Answer::Fail,
            evidence: Some("/proc/cmdline: kho=on is not there; /sys/kernel/debug/kho is absent".into()),
            remedy: Some("boot the node once with kho=on liveupdate=on".into()),
        });
    }
    NodeSpec::new(number - 1, format!("hv-{number:02}"), world).label("pool", "hypervisors")
}

const GUEST: &str = "vm-a";

fn device(address: &str, vendor: &str, device: &str, class: &str, facts: FactsSpec) -> DeviceSpec {
    DeviceSpec {
        address: address.into(),
        vendor: vendor.into(),
        device: device.into(),
        class: class.into(),
        holder: Some(GUEST.into()),
        ceiling: Some(Level::Uninterrupted),
        facts,
    }
}
