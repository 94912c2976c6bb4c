//! What is known of a node that the planner does not need.

use std::rc::Rc;
use std::time::Duration;

use liveupdate_crds::node::GateStatus;
use liveupdate_planner::{NodeClass, Reason};
use liveupdate_proto::common::v1::NodeState;
use liveupdate_proto::node::v1::Permission;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::agents::facts::NodeFacts;

/// A `Run` that is under way.
#[derive(Debug)]
pub struct Session {
    /// Which attempt.
    pub attempt: String,
    /// Tells this run from a later one of the same attempt.
    pub serial: u64,
    /// Where permissions go.
    pub permits: UnboundedSender<Permission>,
    /// Ends it without another word.
    pub hang_up: oneshot::Sender<()>,
}

/// What can be seen of a node in its status: how it stands, why, and the state that it prepares in.
pub type Seen = (NodeClass, Reason, Option<NodeState>);

/// Beside a node of the snapshot. All times are by the monotonic clock.
#[derive(Debug, Default)]
pub struct NodeSide {
    /// Version of the Node that was seen.
    pub version: String,
    /// Its taints, for the test of a patch.
    pub taints: Vec<serde_json::Value>,
    /// It has annotations.
    pub has_annotations: bool,
    /// Our annotation is among them.
    pub has_mark: bool,
    /// `host:port` of its agent.
    pub address: Option<String>,
    /// What its agent said, for its status.
    pub facts: NodeFacts,
    /// When it is inspected next.
    pub inspect_due: Duration,
    /// Failed calls in a row.
    pub failures: u32,
    /// It answered this controller at least once.
    pub answered: bool,
    /// A `Run` that is under way.
    pub session: Option<Session>,
    /// Runs begun and hung up so far: what an agent was asked before the last of them is old news of an attempt.
    pub turns: u64,
    /// The attempt that we gave our permission for.
    pub permitted: Option<String>,
    /// The attempt that never began there, as its agent said when it was asked for the outcome.
    pub never_began: Option<String>,
    /// When an attempt's outcome may be asked for again.
    pub outcome_due: Duration,
    /// When the node's Lease may be read again.
    pub lease_due: Duration,
    /// Version of its Lease when its return was seen, with the boot that it is about.
    pub lease_base: Option<(String, String)>,
    /// What there is to be seen of it, and since when; written once it has lasted.
    pub class: Option<(Seen, Duration)>,
    /// Gates or devices differ from what was written last.
    pub facts_changed: bool,
    /// The gates that the last preflight rests on: those of its target, too.
    pub preflight_gates: Rc<Vec<GateStatus>>,
}

impl NodeSide {
    /// A run begins.
    pub fn begin(&mut self, session: Session) {
        self.turns += 1;
        // From here on it may.
        self.never_began = None;
        self.session = Some(session);
    }

    /// Ends the attempt's run without another word; false when it has none.
    pub fn hang_up(&mut self, attempt: &str) -> bool {
        let Some(session) = self.session.take_if(|session| session.attempt == attempt) else { return false };
        self.turns += 1;
        // Nobody listens when the run has ended at this very moment.
        let _ = session.hang_up.send(());
        true
    }

    /// What was asked at that turn is as new as what is known of the attempt: no run tells more, and none began
    /// or was hung up since.
    pub fn is_news(&self, turn: u64) -> bool {
        self.session.is_none() && self.turns == turn
    }
}
