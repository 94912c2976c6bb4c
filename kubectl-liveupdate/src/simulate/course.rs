//! The way that an attempt takes on one kind of node: the keeper's own machine, driven over a virtual clock.
//!
//! Every state takes an assumed time ([`assumed`]), and its deadline of the spec ends it when it is over
//! before. What the machine then is, the planner's world plays for every node of that kind.

use std::collections::BTreeMap;
use std::time::Duration;

use liveupdate_crds::duration;
use liveupdate_node_core::gate::{Gate, GateId, Scope};
use liveupdate_node_core::node::{
    Attempt, Deadlines, End, Event, Evidence, Go, MAX_PERMISSION, Node, Nonce, Permission, Plan, Receipt,
    ScopedDevice,
};
use liveupdate_node_core::outcome::{Config, Dma, Facts, Interrupts, Outcome, Reset, State};
use liveupdate_node_core::{Continuity, GateResult, Monotonic, Target};
use liveupdate_planner::Reason;
use liveupdate_planner::simulation::Fault;

use super::manifest::Asked;

/// Beyond this fleets are so large that times are rounded up, so that nodes move together.
pub const LARGE: u32 = 1000;
/// To whole steps of this.
pub const ROUNDED: Duration = Duration::from_secs(30);

/// What is assumed of every node, since nobody measured this fleet.
pub mod assumed {
    use std::time::Duration;

    /// Reading the gates.
    pub const PREFLIGHT: Duration = Duration::from_secs(1);
    /// Fetching, verifying and loading the bundle.
    pub const STAGE: Duration = Duration::from_secs(20);
    /// Preserving one guest's memory and devices.
    pub const PRESERVE_PER_GUEST: Duration = Duration::from_secs(4);
    /// Ending bystanders and syncing.
    pub const SETTLE: Duration = Duration::from_secs(10);
    /// Stopping all vCPUs.
    pub const QUIESCE: Duration = Duration::from_millis(50);
    /// The short list, the intent and the freeze.
    pub const COMMIT: Duration = Duration::from_millis(30);
    /// From one kernel to the other's first process.
    pub const JUMP: Duration = Duration::from_millis(700);
    /// Giving one guest its files back.
    pub const RECLAIM_PER_GUEST: Duration = Duration::from_millis(25);
    /// Until the kubelet has written boot id and release, and renewed the Lease.
    pub const KUBELET: Duration = Duration::from_secs(8);
}

/// How an attempt goes on one kind of node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// From its start to the request for the permission.
    pub prepare: Duration,
    /// From the permission until the kubelet speaks again.
    pub jump: Duration,
    /// From the first stopped vCPU until the last guest goes on.
    pub blackout: Duration,
    /// Devices by outcome.
    pub outcomes: BTreeMap<Outcome, u32>,
    /// How it ends otherwise than well.
    pub fault: Option<Fault>,
}

/// The machine and its clock.
struct Walk {
    node: Node,
    now: Monotonic,
    over: bool,
}

impl Walk {
    /// After that time this happens, unless the state's deadline comes first.
    fn then(&mut self, took: Duration, event: Event) {
        if self.over {
            return;
        }
        let at = self.now.after(took);
        let deadline = self.node.deadline().filter(|deadline| deadline.at < at);
        let event = if let Some(deadline) = deadline {
            self.now = deadline.at;
            self.over = true;
            Event::Tick
        } else {
            self.now = at;
            event
        };
        let transition = std::mem::take(&mut self.node).step(event, self.now);
        // What does not fit changes nothing, and nothing after it would fit either.
        self.over |= transition.refused.is_some();
        self.node = transition.state;
    }
}

/// Drives one attempt to the target. Devices can do what is asked of them, and all gates pass.
#[must_use]
pub fn walk(asked: &Asked, devices: Vec<ScopedDevice>, fleet: u32) -> Course {
    let attempt = attempt(asked, devices);
    let guests = u32::try_from(attempt.devices.len()).unwrap_or(u32::MAX);
    let mut walk = Walk { node: Node::Idle, now: Monotonic::default(), over: false };
    walk.then(Duration::ZERO, Event::Begin(Box::new(attempt.clone())));
    walk.then(assumed::PREFLIGHT, Event::Clear);
    walk.then(Duration::ZERO, Event::Stage);
    walk.then(assumed::STAGE, Event::Staged);
    walk.then(assumed::PRESERVE_PER_GUEST * guests, Event::Preserved);
    walk.then(assumed::SETTLE, Event::Settled);
    let prepared = walk.now;
    if let Some(go) = go(&attempt, prepared) {
        walk.then(Duration::ZERO, Event::Go(go));
    }
    walk.then(assumed::QUIESCE, Event::Quiesced);
    walk.then(assumed::COMMIT, Event::ShortListPassed);
    walk.then(Duration::ZERO, Event::IntentWritten);
    let evidence = Evidence {
        boot_id: "after".to_owned(),
        release: attempt.target.release.clone(),
        nonce: Some(attempt.nonce),
        from: Some(attempt.boot_id.clone()),
    };
    walk.then(assumed::JUMP, Event::Started(evidence));
    walk.then(Duration::ZERO, Event::Retrieved);
    for device in &attempt.devices {
        if let Plan::Preserve(minimum) = device.plan {
            let facts = facts(minimum, walk.now.since(prepared));
            walk.then(assumed::RECLAIM_PER_GUEST, Event::Device { address: device.address.clone(), facts });
            walk.then(Duration::ZERO, Event::HolderResumed(device.holder.clone()));
        }
    }
    let blackout = walk.now.since(prepared);
    walk.then(Duration::ZERO, Event::Confirm);
    course(&walk.node, prepared, blackout, fleet)
}

fn course(node: &Node, prepared: Monotonic, blackout: Duration, fleet: u32) -> Course {
    let mut outcomes = BTreeMap::new();
    let fault = match node {
        Node::Ended(ended) => {
            for settled in ended.outcomes.devices().values() {
                *outcomes.entry(settled.outcome).or_insert(0) += 1;
            }
            match ended.end {
                End::Updated => None,
                End::Aborted | End::Blocked(_) => Some(Fault::Aborts),
                End::Failed(reason) => Some(Fault::Fails(reason_of(reason.as_str()))),
            }
        }
        Node::Idle | Node::Before(_) | Node::Thawing(_) => Some(Fault::Aborts),
        Node::After(_) => Some(Fault::Fails(Reason::Quarantined)),
    };
    let prepare = prepared.since(Monotonic::default());
    let jump = blackout.saturating_add(assumed::KUBELET);
    let round = |time: Duration| {
        let step = if fleet > LARGE { ROUNDED } else { Duration::from_secs(1) };
        step * u32::try_from(time.as_millis().div_ceil(step.as_millis())).unwrap_or(u32::MAX)
    };
    // Rounded as one, so that no node is charged twice.
    let (together, jump) = (round(prepare + jump), round(jump));
    Course { prepare: together.saturating_sub(jump), jump, blackout, outcomes, fault }
}

fn reason_of(word: &str) -> Reason {
    crate::advice::reason(word).unwrap_or(Reason::VerifyFailed)
}

/// The facts of a device that gets what is asked for, and `Paused` where less would do.
fn facts(minimum: Continuity, gap: Duration) -> Facts {
    let continuous = minimum == Continuity::Uninterrupted;
    Facts {
        reset: Reset::None,
        dma: if continuous { Dma::Continuous } else { Dma::Gap(gap) },
        interrupts: Interrupts::Relatched(gap),
        config: Config::Same,
        state: State::Attested,
        quiescent: !continuous,
        returned: true,
    }
}

/// Receipt and permission by their own checks, over gates that all pass.
fn go(attempt: &Attempt, now: Monotonic) -> Option<Go> {
    let mut gates = Vec::new();
    for id in GateId::ALL {
        let subjects: Vec<&str> = match id.scope() {
            Scope::Device => attempt.devices.iter().map(|device| device.address.as_str()).collect(),
            Scope::Holder => attempt.devices.iter().map(|device| device.holder.as_str()).collect(),
            _ => vec![""],
        };
        gates.extend(subjects.into_iter().map(|subject| Gate {
            id: *id,
            subject: subject.to_owned(),
            result: GateResult::Pass,
            evidence: "assumed".to_owned(),
            remedy: String::new(),
        }));
    }
    let receipt = Receipt::check(attempt, &attempt.boot_id, &gates).ok()?;
    let id = receipt.id().to_owned();
    let permission =
        Permission::grant(&receipt, &attempt.id, &id, &attempt.boot_id, now, MAX_PERMISSION).ok()?;
    Some(Go { receipt, permission })
}

fn attempt(asked: &Asked, devices: Vec<ScopedDevice>) -> Attempt {
    let spec = &asked.update.spec;
    let of = &spec.deadlines;
    let defaults = Deadlines::default();
    // They were read before, when the spec was.
    let read = |text: &str, other: Duration| duration::parse(text).unwrap_or(other);
    Attempt {
        id: format!("{}-00000000-1", asked.spec.revision),
        update: asked.update.metadata.name.clone().unwrap_or_default(),
        revision: asked.spec.revision.to_string(),
        target: Target {
            release: spec.target.release.clone(),
            bundle: spec.target.named().map(|named| named.name.to_owned()).unwrap_or_default(),
            digest: asked.spec.digest.to_string(),
        },
        nonce: Nonce(1),
        boot_id: "before".to_owned(),
        devices,
        acknowledged: asked.spec.acknowledge.clone(),
        deadlines: Deadlines {
            preflight: read(&of.preflight, defaults.preflight),
            stage: read(&of.stage, defaults.stage),
            preserve: read(&of.preserve, defaults.preserve),
            quiesce: read(&of.quiesce, defaults.quiesce),
            reclaim: read(&of.reclaim, defaults.reclaim),
            ..defaults
        },
        ..Attempt::default()
    }
}
