//! A node for tests: a simulated machine, its keeper, and the agent's requests.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod killer;

use std::sync::Arc;

use killer::Killer;
use liveupdate_host::simulated::{
    BundleSpec, DeviceSpec, Durations, FactsSpec, Fault, HolderSpec, Level, World, WorldSpec,
};
use liveupdate_host::{Host, Target, judge};
use liveupdate_keeper::Keeper;
use liveupdate_node_core::node::{Attempt, Receipt};
use liveupdate_proto::common::v1::{self as proto, AttemptReport, NodeState, Outcome, Subject};
use liveupdate_proto::convert;
use liveupdate_proto::keeper::v1::{
    Abort, Confirm, Jump, Preserve, Release, Reply, Request, Settle, Status, refusal::Cause, reply,
    request::Message,
};

pub(crate) const OLD: &str = "7.3.4-lu1";
pub(crate) const NEW: &str = "7.3.5-lu2";
pub(crate) const GPU: &str = "0000:01:00.0";
pub(crate) const NIC: &str = "0000:02:00.0";
pub(crate) const DISK: &str = "0000:03:00.0";
pub(crate) const FREE: &str = "0000:04:00.0";

pub(crate) fn target() -> Target {
    Target { release: NEW.into(), bundle: NEW.into(), digest: format!("sha256:{}", "ab".repeat(32)) }
}

fn device(address: &str, holder: Option<&str>, ceiling: Level, facts: FactsSpec) -> DeviceSpec {
    DeviceSpec {
        address: address.into(),
        vendor: "10de".into(),
        device: "2330".into(),
        class: "0302".into(),
        holder: holder.map(Into::into),
        ceiling: Some(ceiling),
        facts,
    }
}

/// Two holders with three devices of all fates, and one device that nobody holds.
pub(crate) fn spec() -> WorldSpec {
    let holder = |name: &str| HolderSpec {
        name: name.into(),
        aware: true,
        minimum: None,
        refuses: false,
        memory_bytes: 1 << 30,
    };
    WorldSpec {
        durations: Durations { stage: 10, preserve: 10, settle: 10, quiesce: 3, jump: 700, reclaim: 20 },
        bundles: vec![BundleSpec {
            name: NEW.into(),
            digest: target().digest,
            release: NEW.into(),
            boots_as: None,
            bytes: 64 << 20,
        }],
        devices: vec![
            device(GPU, Some("vm-a"), Level::Uninterrupted, FactsSpec::uninterrupted()),
            device(NIC, Some("vm-a"), Level::Paused, FactsSpec::paused(700)),
            device(DISK, Some("vm-b"), Level::Reinitialised, FactsSpec::reinitialised()),
            device(FREE, None, Level::Uninterrupted, FactsSpec::default()),
        ],
        holders: vec![holder("vm-a"), holder("vm-b")],
        ..WorldSpec::new(OLD)
    }
}

pub(crate) fn subject_of(attempt: &str, epoch: u64) -> Subject {
    Subject {
        node: "node-1".into(),
        node_uid: "0a1b2c3d".into(),
        update: "new-kernel".into(),
        update_uid: "u".into(),
        revision: "7f3c".into(),
        attempt: attempt.into(),
        epoch: Some(proto::Epoch { cluster: "cluster-1".into(), counter: epoch }),
        minor_version: liveupdate_proto::MINOR_VERSION,
    }
}

pub(crate) fn subject() -> Subject {
    subject_of("7f3c-0a1b2c3d-1", 1)
}

pub(crate) fn request(message: Message) -> Request {
    Request { subject: Some(subject()), message: Some(message) }
}

/// Everything that is held is preserved, as well as it can be.
pub(crate) fn demands() -> proto::Demands {
    proto::Demands {
        devices: vec![proto::DeviceRule {
            name: "all".into(),
            on_update: proto::OnUpdate::Preserve.into(),
            ..Default::default()
        }],
        acknowledged: vec!["VfioPciLiveUpdate".into()],
        ..Default::default()
    }
}

pub(crate) fn preserve() -> Message {
    preserve_but(|_| {})
}

/// As a good agent asks for it, with a change.
pub(crate) fn preserve_but(edit: impl FnOnce(&mut Preserve)) -> Message {
    let mut asked = Preserve {
        target: Some(proto::Target {
            release: target().release,
            bundle: target().bundle,
            digest: target().digest,
            ..proto::Target::default()
        }),
        demands: Some(demands()),
        preserve: vec![GPU.into(), NIC.into(), DISK.into()],
        stop: vec![],
    };
    edit(&mut asked);
    Message::Preserve(asked)
}

pub(crate) fn settle() -> Message {
    Message::Settle(Settle {})
}

pub(crate) fn abort() -> Message {
    Message::Abort(Abort { reason: "the test says so".into() })
}

pub(crate) fn confirm() -> Message {
    Message::Confirm(Confirm {})
}

pub(crate) fn release() -> Message {
    Message::Release(Release {})
}

pub(crate) fn status() -> Request {
    Request { subject: None, message: Some(Message::Status(Status {})) }
}

/// The receipt that an agent makes of the gates as they are.
pub(crate) fn receipt(host: &dyn Host, attempt: &str) -> String {
    let boot_id = host.boot_id().unwrap();
    let demands = convert::demands(Some(&demands())).unwrap();
    let (verdict, gates) = judge(host, Some(&target()), &demands).unwrap();
    let attempt = Attempt {
        id: attempt.into(),
        target: target(),
        boot_id: boot_id.clone(),
        devices: verdict.scope(),
        holders: verdict.holders,
        acknowledged: demands.acknowledged,
        ..Attempt::default()
    };
    Receipt::check(&attempt, &boot_id, &gates).unwrap().id().to_owned()
}

/// As a good agent asks for the jump, now.
pub(crate) fn jump(host: &dyn Host) -> Jump {
    let boot = host.boot_id().unwrap();
    let now = u64::try_from(host.monotonic().unwrap().as_millis()).unwrap();
    Jump {
        receipt: receipt(host, &subject().attempt),
        receipt_boot_id: boot.clone(),
        permission_boot_id: boot,
        permission_until_ms: now + 20_000,
    }
}

pub(crate) fn report(reply: Reply) -> AttemptReport {
    match reply.message {
        Some(reply::Message::Attempt(report)) => report,
        other => panic!("no report: {other:?}"),
    }
}

pub(crate) fn refusal(reply: Reply) -> (Cause, String) {
    match reply.message {
        Some(reply::Message::Refusal(refusal)) => (refusal.cause(), refusal.message),
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) fn outcome_of(report: &AttemptReport, address: &str) -> Outcome {
    let found: Vec<_> = report.devices.iter().filter(|d| d.address == address).collect();
    assert_eq!(found.len(), 1, "one outcome for {address}: {:?}", report.devices);
    found[0].outcome()
}

/// One machine with its keeper.
pub(crate) struct Rig {
    pub(crate) world: World,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) keeper: Arc<Keeper>,
}

impl Rig {
    pub(crate) fn new(spec: WorldSpec) -> Self {
        Self::of(World::in_memory(spec))
    }

    pub(crate) fn of(world: World) -> Self {
        let host: Arc<dyn Host> = Arc::new(world.host().unwrap());
        Self::with_keeper_on(world, host)
    }

    /// The same machine with a disk that fails when it is told to.
    pub(crate) fn with_disk(world: World) -> (Self, Arc<Killer>) {
        let disk = Arc::new(Killer::never(Arc::new(world.host().unwrap())));
        (Self::with_keeper_on(world, Arc::clone(&disk) as Arc<dyn Host>), disk)
    }

    fn with_keeper_on(world: World, host: Arc<dyn Host>) -> Self {
        let keeper = Arc::new(Keeper::open(Arc::clone(&host)).unwrap());
        Self { world, host, keeper }
    }

    pub(crate) fn with_fault(fault: Fault) -> Self {
        Self::new(WorldSpec { faults: vec![fault], ..spec() })
    }

    pub(crate) fn ask(&self, message: Message) -> Reply {
        self.keeper.handle(&request(message))
    }

    pub(crate) fn status(&self) -> Reply {
        self.keeper.handle(&status())
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.status().message, Some(reply::Message::Idle(_)))
    }

    /// Staged, preserved, settled.
    pub(crate) fn settled(self) -> Self {
        self.host.stage(&target(), &mut |_, _| true).unwrap();
        assert_eq!(report(self.ask(preserve())).state(), NodeState::Settling);
        assert_eq!(report(self.ask(settle())).state(), NodeState::Settling);
        self
    }

    pub(crate) fn jump(&self) -> Reply {
        self.ask(Message::Jump(jump(&*self.host)))
    }

    /// What comes up after the jump, with a new keeper.
    pub(crate) fn booted(self) -> Self {
        self.world.boot().unwrap();
        Self::of(self.world)
    }

    /// The keeper dies and is started again on the same boot.
    pub(crate) fn reopened(self) -> Self {
        Self::of(self.world)
    }

    /// Nothing of an attempt is left on the machine.
    pub(crate) fn assert_undone(&self) {
        assert_eq!(self.host.preserved().unwrap(), None, "custody was given up");
        assert_eq!(self.host.staged().unwrap(), None, "the image was unloaded");
        let held = self.host.devices().unwrap().into_iter().filter(|d| d.holder.is_some()).count();
        assert_eq!(held, 3, "no holder was left stopped");
    }
}
