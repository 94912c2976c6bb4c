//! Agents in memory, with the kubelets of their nodes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use liveupdate_controller::agents::{AgentError, Agents, Messages, Peer, Result};
use liveupdate_controller::clock::Clock;
use liveupdate_controller::engine::Knock;
use liveupdate_proto::MINOR_VERSION;
use liveupdate_proto::common::v1::{
    AttemptReport, Blackout, DeviceOutcome, Gate, GateResult, NodeState, Outcome, Proof, StateTime, Subject,
};
use liveupdate_proto::node::v1::{
    AbortReply, AbortRequest, ConfirmRequest, Device, InspectReply, InspectRequest, Jumping, OutcomeReply,
    OutcomeRequest, Permission, PreflightReply, PreflightRequest, Receipt, ReleaseReply, ReleaseRequest,
    RunEvent, StageProgress, StageRequest, Start, run_event,
};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::{FakeCluster, TestClock};

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its agent does not answer.
    Silent,
    /// Its agent answers as another node.
    OtherName,
    /// A gate does not pass.
    Blocked,
    /// Another kernel comes up.
    WrongKernel,
    /// Nothing comes up.
    NeverBack,
    /// Its agent lies about the boot that runs.
    LiesAboutBoot,
    /// It asks for the permission and then waits.
    SlowToAsk,
    /// The knock on its return gets lost.
    LostKnock,
    /// It jumps without a word, and the connection stays as if somebody were there.
    NoFarewell,
    /// What its agent answers to an inspection takes a second to arrive.
    LateAnswer,
    /// Its copy of the bundle is damaged.
    DamagedBundle,
    /// It jumps, and a holder does not come for its files.
    HolderStaysAway,
    /// It cannot let go of files that are kept.
    HoldsFast,
    /// Its agent cannot ask the keeper.
    NoKeeper,
    /// Its agent does not say whether the keeper answered, as one of before.
    OldAgent,
    /// Its kubelet does not report its return.
    LateKubelet,
}

struct Node {
    uid: String,
    release: String,
    boots: u32,
    digest: String,
    attempt: Option<AttemptReport>,
    back_at: Option<Duration>,
    /// The kernel that is jumped to.
    target: (String, String),
    faults: Vec<Fault>,
    jumps: u32,
    renews: bool,
    epoch: u64,
}

pub struct FakeAgents {
    nodes: Rc<RefCell<BTreeMap<String, Node>>>,
    cluster: Rc<FakeCluster>,
    clock: TestClock,
    knocks: mpsc::Sender<Knock>,
    /// Calls so far.
    pub calls: Cell<usize>,
}

const JUMP: Duration = Duration::from_millis(700);

impl FakeAgents {
    pub fn new(cluster: Rc<FakeCluster>, clock: TestClock, knocks: mpsc::Sender<Knock>) -> Self {
        Self { nodes: Rc::default(), cluster, clock, knocks, calls: Cell::new(0) }
    }

    pub fn add(&self, name: &str, uid: &str) {
        let node = Node {
            uid: uid.into(),
            release: "6.12.0".into(),
            boots: 0,
            digest: String::new(),
            attempt: None,
            back_at: None,
            target: Default::default(),
            faults: Vec::new(),
            jumps: 0,
            renews: true,
            epoch: 0,
        };
        self.nodes.borrow_mut().insert(name.into(), node);
    }

    pub fn fault(&self, node: &str, fault: Fault) {
        self.nodes.borrow_mut().get_mut(node).unwrap().faults.push(fault);
    }

    pub fn heal(&self, node: &str) {
        self.nodes.borrow_mut().get_mut(node).unwrap().faults.clear();
    }

    pub fn knock(&self, node: &str) {
        let uid = self.nodes.borrow()[node].uid.clone();
        let _ = self.knocks.try_send(Knock::new(node, &uid));
    }

    /// How often each node jumped.
    pub fn jumps(&self) -> BTreeMap<String, u32> {
        self.nodes.borrow().iter().map(|(name, node)| (name.clone(), node.jumps)).collect()
    }

    /// Nodes that are between jump and return.
    pub fn down(&self) -> usize {
        self.nodes.borrow().values().filter(|node| node.back_at.is_some()).count()
    }

    /// Nodes that keep files in quarantine.
    pub fn keeping(&self) -> Vec<String> {
        let nodes = self.nodes.borrow();
        let keeps = |node: &Node| node.attempt.as_ref().is_some_and(|attempt| attempt.kept);
        nodes.iter().filter(|(_, node)| keeps(node)).map(|(name, _)| name.clone()).collect()
    }

    pub fn unconfirmed(&self) -> usize {
        self.nodes.borrow().values().filter(|n| n.attempt.as_ref().is_some_and(|a| !a.confirmed)).count()
    }

    /// Time goes on for the nodes: those that jumped return, kubelets renew their Leases.
    pub async fn live(&self) {
        let mut renew = Duration::ZERO;
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.tick(&mut renew);
        }
    }

    fn tick(&self, renew: &mut Duration) {
        let now = self.clock.monotonic();
        let renewing = now >= *renew;
        if renewing {
            *renew = now + Duration::from_secs(2);
        }
        let mut returned = Vec::new();
        for (name, node) in self.nodes.borrow_mut().iter_mut() {
            if node.back_at.is_none() && node.renews && renewing {
                self.cluster.renew_lease(name);
            }
            if node.faults.contains(&Fault::NeverBack) || node.back_at.is_none_or(|at| at > now) {
                continue;
            }
            node.back_at = None;
            let before = format!("boot-{}-{}", node.uid, node.boots);
            node.boots += 1;
            let boot = format!("boot-{}-{}", node.uid, node.boots);
            let wrong = node.faults.contains(&Fault::WrongKernel);
            if !wrong {
                (node.release, node.digest) = node.target.clone();
            }
            if let Some(report) = &mut node.attempt {
                report.set_state(NodeState::Verifying);
                if wrong {
                    report.set_state(NodeState::Failed);
                    report.reason = "WrongKernel".into();
                }
                if node.faults.contains(&Fault::HolderStaysAway) {
                    report.set_state(NodeState::Quarantined);
                    report.reason = "Quarantined".into();
                    report.message = "these holders did not take their files back: vmm".into();
                    report.kept = true;
                }
                report.proof = Some(Proof {
                    boot_id: boot.clone(),
                    boot_id_before: before,
                    release: node.release.clone(),
                    nonce_returned: true,
                });
                report.blackout = Some(Blackout { measured: true, milliseconds: 700, simulated: true });
                report.devices = vec![DeviceOutcome {
                    address: "0000:01:00.0".into(),
                    model: "10de:2330".into(),
                    holder: "vmm".into(),
                    outcome: Outcome::Paused.into(),
                    facts: None,
                    evidence: String::new(),
                }];
            }
            let knocks = !node.faults.contains(&Fault::LostKnock);
            returned.push((name.clone(), node.uid.clone(), node.release.clone(), boot, knocks));
        }
        for (name, uid, release, boot, knocks) in returned {
            let faulty = |fault| self.nodes.borrow()[&name].faults.contains(&fault);
            // What the kubelet reads is the truth; what the agent says may be none.
            let boot = if faulty(Fault::LiesAboutBoot) { format!("boot-{uid}-0") } else { boot };
            if !faulty(Fault::LateKubelet) {
                self.cluster.edit_node(&name, |node| {
                    node.release = release;
                    node.boot_id = boot;
                    node.ready = true;
                });
            }
            if knocks {
                let _ = self.knocks.try_send(Knock::returned(&name, &uid));
            }
        }
    }

    fn reach<'a>(
        &self,
        nodes: &'a mut BTreeMap<String, Node>,
        peer: &Peer,
        subject: Option<&Subject>,
    ) -> Result<&'a mut Node> {
        self.calls.set(self.calls.get() + 1);
        let refused = || AgentError::Unreachable("connection refused".into());
        let node = nodes.get_mut(&peer.node).ok_or_else(refused)?;
        if node.back_at.is_some() || node.faults.contains(&Fault::Silent) {
            return Err(refused());
        }
        if node.uid != peer.uid {
            return Err(AgentError::Misbehaves("the peer is another node".into()));
        }
        let counter = subject.and_then(|s| s.epoch.as_ref()).map_or(0, |epoch| epoch.counter);
        if counter < node.epoch {
            return Err(AgentError::Refused("StaleEpoch".into()));
        }
        node.epoch = counter;
        Ok(node)
    }

    /// As [`FakeAgents::reach`], for what an agent asks its keeper.
    fn reach_keeper<'a>(
        &self,
        nodes: &'a mut BTreeMap<String, Node>,
        peer: &Peer,
        subject: &Subject,
    ) -> Result<&'a mut Node> {
        let node = self.reach(nodes, peer, Some(subject))?;
        if node.faults.contains(&Fault::NoKeeper) {
            return Err(AgentError::Unreachable("the keeper cannot be reached".into()));
        }
        Ok(node)
    }

    async fn latency(&self) {
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

fn device() -> Device {
    Device {
        address: "0000:01:00.0".into(),
        vendor: "10de".into(),
        device: "2330".into(),
        class: "0302".into(),
        holder: "vmm".into(),
        ceiling: 2,
    }
}

fn boot(node: &Node) -> String {
    format!("boot-{}-{}", node.uid, node.boots)
}

fn event(event: run_event::Event) -> RunEvent {
    RunEvent { event: Some(event) }
}

impl Agents for FakeAgents {
    async fn inspect(&self, peer: &Peer, request: InspectRequest) -> Result<InspectReply> {
        self.latency().await;
        let mut nodes = self.nodes.borrow_mut();
        let node = self.reach(&mut nodes, peer, request.subject.as_ref())?;
        let other = node.faults.contains(&Fault::OtherName);
        let late = node.faults.contains(&Fault::LateAnswer);
        let heard = !node.faults.contains(&Fault::NoKeeper);
        let kept = node.attempt.clone().filter(|attempt| !attempt.confirmed || attempt.kept);
        let custody = Gate {
            id: "CustodySafe".into(),
            result: if heard { GateResult::Pass } else { GateResult::Fail }.into(),
            ..Gate::default()
        };
        let reply = InspectReply {
            node: if other { "somebody-else".into() } else { peer.node.clone() },
            node_uid: node.uid.clone(),
            boot_id: boot(node),
            release: node.release.clone(),
            bundle_digest: node.digest.clone(),
            simulated: true,
            devices: vec![device()],
            gates: vec![custody],
            attempt: kept.filter(|_| heard),
            keeper_heard: (!node.faults.contains(&Fault::OldAgent)).then_some(heard),
            minor_version: MINOR_VERSION,
            ..InspectReply::default()
        };
        drop(nodes);
        if late {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(reply)
    }

    async fn preflight(&self, peer: &Peer, request: PreflightRequest) -> Result<PreflightReply> {
        self.latency().await;
        let mut nodes = self.nodes.borrow_mut();
        let node = self.reach(&mut nodes, peer, request.subject.as_ref())?;
        let blocked = node.faults.contains(&Fault::Blocked);
        Ok(PreflightReply {
            clear: !blocked,
            reason: if blocked { "GateNotPassed".into() } else { String::new() },
            message: if blocked { "KexecHandover fails".into() } else { String::new() },
            boot_id: boot(node),
            release: node.release.clone(),
            bundle_digest: node.digest.clone(),
            simulated: true,
            node: peer.node.clone(),
            node_uid: peer.uid.clone(),
            ..PreflightReply::default()
        })
    }

    async fn stage(&self, peer: &Peer, request: StageRequest) -> Result<Messages<StageProgress>> {
        self.latency().await;
        let subject = request.subject.unwrap_or_default();
        let damaged = self
            .reach_keeper(&mut self.nodes.borrow_mut(), peer, &subject)?
            .faults
            .contains(&Fault::DamagedBundle);
        if damaged {
            return Ok(
                stream::iter([Err(AgentError::CannotStage("the image was changed".into()))]).boxed_local()
            );
        }
        Ok(stream::iter([Ok(StageProgress { bytes_done: 1, bytes_total: 1, done: true })]).boxed_local())
    }

    async fn run(
        &self,
        peer: &Peer,
        start: Start,
        mut permissions: UnboundedReceiver<Permission>,
    ) -> Result<Messages<RunEvent>> {
        self.latency().await;
        let subject = start.subject.clone().unwrap_or_default();
        let target = start.target.clone().unwrap_or_default();
        let (slow, mute) = {
            let mut nodes = self.nodes.borrow_mut();
            let node = self.reach_keeper(&mut nodes, peer, &subject)?;
            match &node.attempt {
                Some(old) if old.attempt == subject.attempt => {
                    if old.state() != NodeState::Settling {
                        return Err(AgentError::Refused("AttemptRepeated".into()));
                    }
                }
                Some(old) if old.kept => return Err(AgentError::Refused("OtherAttempt".into())),
                _ => {
                    let mut report = AttemptReport {
                        attempt: subject.attempt.clone(),
                        revision: subject.revision.clone(),
                        ..AttemptReport::default()
                    };
                    report.set_state(NodeState::Settling);
                    node.attempt = Some(report);
                }
            }
            (node.faults.contains(&Fault::SlowToAsk), node.faults.contains(&Fault::NoFarewell))
        };
        let receipt = Receipt {
            id: format!("receipt-{}", subject.attempt),
            boot_id: boot(&self.nodes.borrow()[&peer.node]),
            gates: Vec::new(),
        };
        let (sender, events) = mpsc::unbounded_channel();
        let (nodes, cluster, clock) = (Rc::clone(&self.nodes), Rc::clone(&self.cluster), self.clock);
        let (name, attempt) = (peer.node.clone(), subject.attempt);
        let state = StateTime { state: NodeState::Settling.into(), unix_ms: 1 };
        let _ = sender.send(Ok(event(run_event::Event::State(state))));
        let jump = async move {
            if slow {
                tokio::time::sleep(Duration::from_secs(30)).await;
            }
            let _ = sender.send(Ok(event(run_event::Event::Receipt(receipt.clone()))));
            let Some(permission) = permissions.recv().await else { return };
            let mut nodes = nodes.borrow_mut();
            let Some(node) = nodes.get_mut(&name) else { return };
            let current = node.attempt.as_ref().is_some_and(|a| a.state() == NodeState::Settling);
            if permission.receipt != receipt.id || !current {
                return;
            }
            node.jumps += 1;
            node.back_at = Some(clock.monotonic() + JUMP);
            node.target = (target.release.clone(), target.digest.clone());
            if let Some(report) = &mut node.attempt {
                report.set_state(NodeState::Jumping);
                assert_eq!(report.attempt, attempt);
            }
            drop(nodes);
            cluster.edit_node(&name, |node| node.ready = false);
            if mute {
                return std::future::pending().await;
            }
            let jumping = Jumping { boot_id: receipt.boot_id.clone() };
            let _ = sender.send(Ok(event(run_event::Event::Jumping(jumping))));
        };
        // The node works while somebody reads the stream; what it knows stays when nobody does.
        let events = tokio_stream::wrappers::UnboundedReceiverStream::new(events);
        let jump = stream::once(jump).filter_map(async |()| None);
        Ok(stream::select(events, jump).boxed_local())
    }

    async fn abort(&self, peer: &Peer, request: AbortRequest) -> Result<AbortReply> {
        self.latency().await;
        let subject = request.subject.unwrap_or_default();
        let mut nodes = self.nodes.borrow_mut();
        let node = self.reach_keeper(&mut nodes, peer, &subject)?;
        match &mut node.attempt {
            Some(report) if report.attempt == subject.attempt => {
                if report.state() == NodeState::Settling {
                    report.set_state(NodeState::Aborted);
                    report.reason = "Aborted".into();
                }
                Ok(AbortReply { attempt: Some(report.clone()) })
            }
            _ => Err(AgentError::NotFound("NeverBegan".into())),
        }
    }

    async fn outcome(&self, peer: &Peer, request: OutcomeRequest) -> Result<OutcomeReply> {
        self.latency().await;
        let subject = request.subject.unwrap_or_default();
        let mut nodes = self.nodes.borrow_mut();
        let node = self.reach_keeper(&mut nodes, peer, &subject)?;
        let attempt = node.attempt.clone().filter(|attempt| attempt.attempt == subject.attempt);
        let Some(attempt) = attempt else { return Err(AgentError::NotFound("NeverBegan".into())) };
        Ok(OutcomeReply { attempt: Some(attempt), boot_id: boot(node), release: node.release.clone() })
    }

    async fn confirm(&self, peer: &Peer, request: ConfirmRequest) -> Result<()> {
        self.latency().await;
        let subject = request.subject.unwrap_or_default();
        let mut nodes = self.nodes.borrow_mut();
        let node = self.reach_keeper(&mut nodes, peer, &subject)?;
        if let Some(report) = node.attempt.as_mut().filter(|a| a.attempt == subject.attempt) {
            report.confirmed = true;
        }
        Ok(())
    }

    async fn release(&self, peer: &Peer, request: ReleaseRequest) -> Result<ReleaseReply> {
        self.latency().await;
        let subject = request.subject.unwrap_or_default();
        let mut nodes = self.nodes.borrow_mut();
        let node = self.reach_keeper(&mut nodes, peer, &subject)?;
        if node.faults.contains(&Fault::HoldsFast) {
            return Err(AgentError::Refused("WrongState: it holds fast".into()));
        }
        let Some(report) = node.attempt.as_mut().filter(|a| a.attempt == subject.attempt) else {
            return Err(AgentError::Refused("OtherAttempt".into()));
        };
        if report.kept {
            report.set_state(NodeState::Failed);
            report.message.push_str("; an operator gave up the files that were kept");
            (report.kept, report.confirmed) = (false, false);
        }
        Ok(ReleaseReply { attempt: Some(report.clone()) })
    }
}
