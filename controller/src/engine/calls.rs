//! Calls to agents: what is sent, and what of the answers is believed.

use std::rc::Rc;
use std::time::Duration;

use futures::stream::StreamExt;
use liveupdate_planner::{Epoch, Reason};
use liveupdate_proto::MINOR_VERSION;
use liveupdate_proto::common::v1::{self as common, AttemptReport, Demands, Subject, Target};
use liveupdate_proto::node::v1::{
    AbortRequest, ConfirmRequest, InspectReply, InspectRequest, OutcomeReply, OutcomeRequest, Permission,
    PreflightReply, PreflightRequest, Receipt, ReleaseRequest, StageRequest, Start, run_event,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::agents::{AgentError, Agents, Peer, check};
use crate::clock::Clock;

/// How long an agent may take to tell what it knows.
const SHORT: Duration = Duration::from_secs(10);
/// How long it may take to let go of files: their pages are freed one by one, seconds for a hundred GiB.
const RELEASE: Duration = Duration::from_secs(120);

/// What a run said.
#[derive(Clone, Debug)]
pub enum Said {
    /// A state began, at this time of the node's clock.
    State(common::NodeState, i64),
    /// It is ready to jump.
    Asks(Receipt),
    /// It ended without a jump.
    Ended(AttemptReport),
    /// It jumps.
    Jumping,
    /// It broke off.
    Broke(AgentError),
}

/// Something that a run said, to the loop.
#[derive(Clone, Debug)]
pub struct RunNews {
    /// The node.
    pub node: String,
    /// The attempt.
    pub attempt: String,
    /// Which run of it.
    pub serial: u64,
    /// What it said.
    pub said: Said,
}

/// What a call is about, from which every message's subject is made.
#[derive(Clone, Debug)]
pub struct About {
    /// The agent.
    pub peer: Peer,
    /// Name of the update; may be empty.
    pub update: String,
    /// Its UID; may be empty.
    pub update_uid: String,
    /// The revision; may be empty.
    pub revision: String,
    /// The attempt; may be empty.
    pub attempt: String,
    /// Our leadership.
    pub epoch: Epoch,
}

impl About {
    /// For the wire.
    pub fn subject(&self) -> Subject {
        Subject {
            node: self.peer.node.clone(),
            node_uid: self.peer.uid.clone(),
            update: self.update.clone(),
            update_uid: self.update_uid.clone(),
            revision: self.revision.clone(),
            attempt: self.attempt.clone(),
            epoch: Some(common::Epoch { cluster: self.epoch.cluster.clone(), counter: self.epoch.counter }),
            minor_version: MINOR_VERSION,
        }
    }
}

/// The agents with a clock: every call has a limit.
#[derive(Debug)]
pub struct Calls<A, K> {
    agents: Rc<A>,
    clock: Rc<K>,
}

impl<A, K> Clone for Calls<A, K> {
    fn clone(&self) -> Self {
        Self { agents: Rc::clone(&self.agents), clock: Rc::clone(&self.clock) }
    }
}

fn believed<T>(reply: T, checked: check::Verdict) -> Result<T, AgentError> {
    match checked {
        Ok(()) => Ok(reply),
        Err(why) => Err(AgentError::Misbehaves(format!("its answer makes no sense: {why}"))),
    }
}

impl<A: Agents, K: Clock> Calls<A, K> {
    /// Calls through `agents`.
    pub fn new(agents: Rc<A>, clock: Rc<K>) -> Self {
        Self { agents, clock }
    }

    async fn within<T>(
        &self,
        limit: Duration,
        about: &About,
        call: impl Future<Output = Result<T, AgentError>>,
    ) -> Result<T, AgentError> {
        self.clock.limit(limit, call).await.unwrap_or_else(|| {
            let text = format!("{} did not answer within {} s", about.peer.address, limit.as_secs());
            Err(AgentError::Unreachable(text))
        })
    }

    /// All that the agent knows.
    pub async fn inspect(&self, about: &About) -> Result<InspectReply, AgentError> {
        let request = InspectRequest { subject: Some(about.subject()) };
        let reply = self.within(SHORT, about, self.agents.inspect(&about.peer, request)).await?;
        let checked = check::inspect(&about.peer, &reply);
        believed(reply, checked)
    }

    /// Its verdict on a target.
    pub async fn preflight(
        &self,
        about: &About,
        target: Target,
        demands: Demands,
        limit: Duration,
    ) -> Result<PreflightReply, AgentError> {
        let request =
            PreflightRequest { subject: Some(about.subject()), target: Some(target), demands: Some(demands) };
        let reply = self.within(limit, about, self.agents.preflight(&about.peer, request)).await?;
        let checked = check::preflight(&about.peer, &reply);
        believed(reply, checked)
    }

    /// Undoes an attempt.
    pub async fn abort(&self, about: &About, why: String) -> Result<Option<AttemptReport>, AgentError> {
        let request = AbortRequest { subject: Some(about.subject()), reason: why };
        match self.within(SHORT, about, self.agents.abort(&about.peer, request)).await {
            Ok(reply) => match reply.attempt {
                Some(report) => {
                    let checked = check::report_of(&about.attempt, &report);
                    believed(Some(report), checked)
                }
                None => Ok(None),
            },
            Err(AgentError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What became of an attempt; none: it never began there.
    pub async fn outcome(&self, about: &About) -> Result<Option<OutcomeReply>, AgentError> {
        let request = OutcomeRequest { subject: Some(about.subject()) };
        match self.within(SHORT, about, self.agents.outcome(&about.peer, request)).await {
            Ok(reply) => {
                let checked = check::outcome(&about.attempt, &reply);
                believed(Some(reply), checked)
            }
            Err(AgentError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The outcome is on record. An agent that has forgotten the attempt needs no telling.
    pub async fn confirm(&self, about: &About) -> Result<(), AgentError> {
        let request = ConfirmRequest { subject: Some(about.subject()) };
        match self.within(SHORT, about, self.agents.confirm(&about.peer, request)).await {
            Err(AgentError::NotFound(_)) => Ok(()),
            other => other,
        }
    }

    /// Gives up what is kept of an attempt.
    pub async fn release(&self, about: &About) -> Result<AttemptReport, AgentError> {
        let request = ReleaseRequest { subject: Some(about.subject()) };
        let reply = self.within(RELEASE, about, self.agents.release(&about.peer, request)).await?;
        let report = reply.attempt.unwrap_or_default();
        let checked = check::report_of(&about.attempt, &report);
        believed(report, checked)
    }

    /// Stages and runs an attempt to its end, or joins it; what it says goes to `news`.
    pub async fn run(
        &self,
        run: Run,
        permits: UnboundedReceiver<Permission>,
        news: UnboundedSender<RunNews>,
    ) {
        let tell = |said| {
            // The loop is gone only when the process ends.
            let _ = news.send(RunNews {
                node: run.about.peer.node.clone(),
                attempt: run.about.attempt.clone(),
                serial: run.serial,
                said,
            });
        };
        let staged = self.within(run.stage_limit, &run.about, self.stage(&run)).await;
        match staged {
            Ok(()) => {}
            // It never began there, and would not the next time.
            Err(AgentError::CannotStage(why)) => return tell(Said::Ended(undone(&run.about, why))),
            Err(error) => return tell(Said::Broke(error)),
        }
        let start = Start {
            subject: Some(run.about.subject()),
            target: Some(run.target.clone()),
            demands: Some(run.demands.clone()),
        };
        let call = self.agents.run(&run.about.peer, start, permits);
        let mut events = match self.within(SHORT, &run.about, call).await {
            Ok(events) => events,
            Err(error) => return tell(Said::Broke(error)),
        };
        while let Some(event) = events.next().await {
            let said = match event.and_then(|event| read(&run.about.attempt, event.event)) {
                Ok(said) => said,
                Err(error) => return tell(Said::Broke(error)),
            };
            let last = matches!(said, Said::Ended(_) | Said::Jumping);
            tell(said);
            if last {
                return;
            }
        }
        tell(Said::Broke(AgentError::Unreachable("its run ended without saying how".to_owned())));
    }

    async fn stage(&self, run: &Run) -> Result<(), AgentError> {
        let request = StageRequest { subject: Some(run.about.subject()), target: Some(run.target.clone()) };
        let mut progress = self.agents.stage(&run.about.peer, request).await?;
        while let Some(step) = progress.next().await {
            if step?.done {
                return Ok(());
            }
        }
        Err(AgentError::Misbehaves("it stopped staging without saying that it is done".to_owned()))
    }
}

/// An attempt that ended before its agent took it up.
fn undone(about: &About, why: String) -> AttemptReport {
    AttemptReport {
        attempt: about.attempt.clone(),
        revision: about.revision.clone(),
        state: common::NodeState::Aborted.into(),
        reason: Reason::AttemptAborted.as_str().to_owned(),
        message: why,
        ..AttemptReport::default()
    }
}

/// What a run needs.
#[derive(Clone, Debug)]
pub struct Run {
    /// Node and attempt.
    pub about: About,
    /// The kernel.
    pub target: Target,
    /// What is asked for.
    pub demands: Demands,
    /// How long staging may take.
    pub stage_limit: Duration,
    /// Which run of the attempt.
    pub serial: u64,
}

fn read(attempt: &str, event: Option<run_event::Event>) -> Result<Said, AgentError> {
    match event {
        Some(run_event::Event::State(state)) => Ok(Said::State(state.state(), state.unix_ms)),
        Some(run_event::Event::Receipt(receipt)) => {
            let checked = check::receipt(&receipt);
            believed(Said::Asks(receipt), checked)
        }
        Some(run_event::Event::Ended(report)) => {
            let checked = check::report_of(attempt, &report);
            believed(Said::Ended(report), checked)
        }
        Some(run_event::Event::Jumping(_)) => Ok(Said::Jumping),
        // A newer agent says more than we know.
        None => Ok(Said::State(common::NodeState::Unspecified, 0)),
    }
}
