//! Plain machines and plain updates, for tests to change where they mean something.

use liveupdate_crds::update::{Bundle, DeviceMatch, DeviceRule, OnShortfall, OnUpdate, Target};
use liveupdate_crds::{Acknowledgement, Continuity, LiveUpdate, LiveUpdatePolicySpec, LiveUpdateSpec};
use liveupdate_host::simulated::{
    Answer, BundleSpec, DeviceSpec, Durations, FactsSpec, GateSpec, HolderSpec, Level, Pace, WorldSpec,
};

use crate::fleet::NodeSpec;

/// The release that machines run at first; they have its bundle, too, so that they can go back.
pub const OLD: &str = "7.3.4-lu1";
/// The release of the other bundle that they have.
pub const NEW: &str = "7.3.5-lu2";
/// The label that [`update`] selects by, and its value.
pub const POOL: (&str, &str) = ("pool", "hypervisors");
/// The holder of every machine's device.
pub const HOLDER: &str = "vm-a";
/// PCI address of every machine's device.
pub const DEVICE: &str = "0000:17:00.0";

/// A digest that follows from the release.
pub fn digest(release: &str) -> String {
    let hex: String = release.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex:0>64}")
}

/// The bundle of a release.
pub fn bundle(release: &str) -> BundleSpec {
    BundleSpec {
        name: release.to_owned(),
        digest: digest(release),
        release: release.to_owned(),
        boots_as: None,
        bytes: 64 << 20,
    }
}

/// A machine on [`OLD`] with one GPU, held by one guest, that comes through anything uninterrupted. Nothing
/// takes time on it.
pub fn world() -> WorldSpec {
    let mut world = WorldSpec::new(OLD);
    world.bundle_digest = Some(digest(OLD));
    world.bundles = vec![bundle(OLD), bundle(NEW)];
    world.devices = vec![DeviceSpec {
        address: DEVICE.into(),
        vendor: "10de".into(),
        device: "2331".into(),
        class: "0302".into(),
        holder: Some(HOLDER.into()),
        ceiling: Some(Level::Uninterrupted),
        facts: FactsSpec::uninterrupted(),
    }];
    world.holders = vec![HolderSpec {
        name: HOLDER.into(),
        aware: true,
        minimum: None,
        refuses: false,
        memory_bytes: 1 << 30,
    }];
    world
}

/// The same machine, on which everything takes a moment, so that something can happen meanwhile.
pub fn unhurried() -> WorldSpec {
    let mut world = world();
    world.pace = Pace::Real;
    world.durations =
        Durations { stage: 100, preserve: 200, settle: 100, quiesce: 10, jump: 500, reclaim: 100 };
    world
}

/// Node number `index` (from 0) with that machine: `hv-01` is the first one's name.
pub fn node(index: u16, world: WorldSpec) -> NodeSpec {
    NodeSpec::new(index, format!("hv-{:02}", index + 1), world).label(POOL.0, POOL.1)
}

/// So many plain nodes, `hv-01` and on.
pub fn nodes(count: u16) -> Vec<NodeSpec> {
    (0..count).map(|index| node(index, world())).collect()
}

/// So many nodes with such a machine, `hv-01` and on.
pub fn nodes_like(count: u16, world: &WorldSpec) -> Vec<NodeSpec> {
    (0..count).map(|index| node(index, world.clone())).collect()
}

/// A gate that fails for good.
pub fn failing_gate(id: &str) -> GateSpec {
    GateSpec {
        id: id.into(),
        subject: None,
        release: None,
        result: Answer::Fail,
        evidence: Some("the lab said so".into()),
        remedy: Some("say otherwise".into()),
    }
}

/// An update of all nodes with the label [`POOL`] to a release, devices preserved, one node at a time.
pub fn update(name: &str, release: &str) -> LiveUpdate {
    let pool = [(POOL.0.to_owned(), POOL.1.to_owned())];
    LiveUpdate::new(
        name,
        LiveUpdateSpec {
            node_selector: k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector {
                match_labels: Some(pool.into()),
                match_expressions: None,
            },
            join_policy: liveupdate_crds::update::JoinPolicy::Ignore,
            target: Target {
                release: release.to_owned(),
                bundle: Some(Bundle { name: release.to_owned(), digest: digest(release) }),
                image: None,
            },
            acknowledge: vec![Acknowledgement::VfioPciLiveUpdate],
            devices: vec![DeviceRule {
                name: "all".into(),
                r#match: DeviceMatch::default(),
                on_update: OnUpdate::Preserve,
                minimum_continuity: Some(Continuity::Reinitialised),
                on_shortfall: OnShortfall::Block,
            }],
            strategy: liveupdate_crds::update::Strategy::default(),
            deadlines: liveupdate_crds::update::Deadlines::default(),
            blackout_budget: None,
            paused: false,
        },
    )
}

/// A policy that allows what [`update`] acknowledges, and bounds nothing.
pub fn policy() -> LiveUpdatePolicySpec {
    LiveUpdatePolicySpec {
        allowed_acknowledgements: vec![Acknowledgement::VfioPciLiveUpdate],
        ..LiveUpdatePolicySpec::default()
    }
}
