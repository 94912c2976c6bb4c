//! The loop: observe, plan, execute, in one thread.
//!
//! ```text
//!   watches ─┐                                        ┌─► writes to the API ──┐
//!   knocks ──┼─► World ──► planner ──► actions ──► Work ─► calls to agents ───┼─► folded into World
//!   time ────┘   (no truth: read again after a start)  └─► runs ─► news ───────┘
//! ```
//! Every step is derived anew from what is observed. Whatever was under way when the process is killed is
//! found out again and done again (invariant 6).

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::StreamExt;
use liveupdate_planner::{Plan, Time};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use crate::admin::Shared;
use crate::agents::Agents;
use crate::clock::Clock;
use crate::cluster::{Cluster, ClusterError};
use crate::lease::Term;
use crate::world::{World, flies};

mod act;
pub mod calls;
mod fold;
mod notes;
mod statuses;
pub mod work;

use calls::{Calls, RunNews};
use work::{Key, Work};

pub use fold::Done;

/// Shortest time between two passes: what happens together is planned together.
const BATCH: Duration = Duration::from_millis(20);
/// A pass that took long is followed by a pause of so many times its length, so that planning takes a tenth
/// of a processor at most, however large the fleet is.
const REST: u32 = 9;
/// Shortest time between two writes of one update's record: ends and admissions of a second share one write.
const RECORDS: Duration = Duration::from_secs(1);

/// An agent that asks to be looked at.
#[derive(Debug)]
pub struct Knock {
    /// Name of its Node.
    pub node: String,
    /// UID of its Node.
    pub uid: String,
    /// It says that its node is back from a jump.
    pub returned: bool,
    /// Who wants to know whether there is such a Node.
    pub answer: Option<oneshot::Sender<Standing>>,
}

/// Whether there is a Node of this name and UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is.
    Known,
    /// There is none: whoever knocks has outlived its Node.
    Unknown,
    /// The nodes are not listed yet.
    NotListed,
}

/// The loop's state while this process leads.
#[derive(Debug)]
pub struct Engine<C, A, K> {
    cluster: Rc<C>,
    agents: Rc<A>,
    clock: Rc<K>,
    term: Rc<Term>,
    shared: Arc<Shared>,
    calls: Calls<A, K>,
    /// What is known.
    pub world: World,
    work: Work<Done>,
    news: (UnboundedSender<RunNews>, UnboundedReceiver<RunNews>),
    serial: u64,
    planned: u64,
    next_pass: Duration,
    /// When time alone asks for a pass.
    wake: Option<Duration>,
    /// When each update's record and status were written last.
    records: HashMap<String, Duration>,
    /// Since when more nodes have something to be told than there is room for.
    untold: Option<Duration>,
    statuses: HashMap<String, Duration>,
    tidied: Duration,
}

impl<C: Cluster, A: Agents, K: Clock> Engine<C, A, K> {
    /// Leads for `term`; agents that say nothing else are on `agent_port`.
    pub fn new(
        (cluster, agents, clock): (Rc<C>, Rc<A>, Rc<K>),
        term: Rc<Term>,
        agent_port: u16,
        shared: Arc<Shared>,
    ) -> Self {
        let calls = Calls::new(Rc::clone(&agents), Rc::clone(&clock));
        let world = World::new(term.epoch.clone(), agent_port);
        Self {
            cluster,
            agents,
            clock,
            term,
            shared,
            calls,
            world,
            work: Work::default(),
            news: mpsc::unbounded_channel(),
            serial: 0,
            planned: 0,
            next_pass: Duration::ZERO,
            wake: None,
            records: HashMap::new(),
            untold: None,
            statuses: HashMap::new(),
            tidied: Duration::ZERO,
        }
    }

    /// Stamps the epoch on every unfinished update, so that the API server refuses an older leader from
    /// here on. Only then may anything be read that is planned from.
    ///
    /// # Errors
    /// The API server, for the first update that could not be stamped.
    pub async fn fence(&self) -> Result<(), ClusterError> {
        let epoch = crate::convert::wire_epoch(&self.term.epoch);
        for update in self.cluster.list_updates().await? {
            let stamped = update
                .status
                .as_ref()
                .is_ok_and(|s| s.finished_at.is_some() || s.epoch.as_ref().is_some_and(|e| *e == epoch));
            if stamped {
                continue;
            }
            match self.cluster.stamp_epoch(&update.name, &epoch).await {
                Ok(_) | Err(ClusterError::NotFound { .. }) => {}
                // It would be refused again: that one stays unfenced, and the rest goes on (invariant 9).
                Err(ClusterError::Refused { what, message }) => {
                    tracing::error!(what, message, "the epoch cannot be stamped");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Observes, plans and executes for as long as the term holds; returns when it does not.
    pub async fn lead(&mut self, knocks: &mut mpsc::Receiver<Knock>) {
        while let Err(error) = self.fence().await {
            tracing::warn!(%error, "cannot stamp the epoch; trying again");
            self.clock.sleep(Duration::from_secs(1)).await;
            if !self.term.holds(&*self.clock) {
                return;
            }
        }
        let mut observed = self.cluster.observe();
        loop {
            if !self.turn(&mut observed, knocks).await {
                return;
            }
        }
    }

    /// One thing that happens, and a pass if one is due. False when the term is over.
    pub async fn turn(
        &mut self,
        observed: &mut futures::stream::LocalBoxStream<'static, crate::cluster::Observed>,
        knocks: &mut mpsc::Receiver<Knock>,
    ) -> bool {
        let now = self.clock.monotonic();
        if !self.term.holds(&*self.clock) {
            tracing::error!("the lease was not renewed in time; nothing more is written");
            return false;
        }
        if self.due(now) {
            self.pass(now);
        }
        let pause = self.pause(self.clock.monotonic());
        let clock = Rc::clone(&self.clock);
        tokio::select! {
            biased;
            change = observed.next() => match change {
                Some(change) => self.observe(change),
                None => return false,
            },
            (key, done) = self.work.next() => self.fold(&key, done),
            news = self.news.1.recv() => {
                if let Some(news) = news {
                    self.heard(news);
                }
            }
            Some(mut knock) = knocks.recv() => {
                let standing = self.knocked(&knock);
                if let Some(answer) = knock.answer.take() {
                    // Nobody waits any more: nothing is lost.
                    let _ = answer.send(standing);
                }
            }
            () = clock.sleep(pause) => {}
        }
        true
    }

    /// The Lease of a node that came back is looked at at once: only what is renewed after that counts, and a
    /// kubelet that has just started renews it now and then not for a while.
    fn observe(&mut self, change: crate::cluster::Observed) {
        self.world.observe(change);
        for node in self.world.take_returned() {
            self.read_lease(&node, self.clock.monotonic());
        }
    }

    fn due(&self, now: Duration) -> bool {
        let changed = self.world.version() != self.planned;
        let woken = self.wake.is_some_and(|wake| wake <= now);
        (changed || woken) && now >= self.next_pass && self.world.complete()
    }

    /// How long nothing has to be done if nothing happens.
    fn pause(&self, now: Duration) -> Duration {
        let changed = self.world.version() != self.planned;
        let pass =
            if changed { Some(self.next_pass) } else { self.wake.map(|wake| wake.max(self.next_pass)) };
        // The lease is looked at every second at the latest.
        pass.map_or(Duration::from_secs(1), |at| at.saturating_sub(now)).min(Duration::from_secs(1))
    }

    /// One pass: plan, execute, write what shall be known.
    fn pass(&mut self, started: Duration) {
        self.planned = self.world.version();
        self.wake = None;
        let now = self.clock.now();
        let plan = liveupdate_planner::plan(&self.world.snapshot, now);
        let planned = self.clock.monotonic();
        self.execute(&plan, started);
        self.inspect_due(started);
        self.write_node_statuses(&plan.report, started);
        self.write_update_statuses(&plan.report, started);
        self.wake_with(&plan, now, started);
        if started.saturating_sub(self.tidied) >= Duration::from_secs(1) {
            self.tidied = started;
            self.agents.tidy();
            self.work.tidy(started);
        }
        let ended = self.clock.monotonic();
        self.next_pass = ended + BATCH.max((ended - started) * REST);
        self.shared.passed(plan.report, planned - started, ended - started);
    }

    fn wake_with(&mut self, plan: &Plan, now: Time, started: Duration) {
        if let Some(at) = plan.wake {
            // By the monotonic clock, and a little later than asked, so that it is then over.
            self.wake_at(started + at.since(now) + Duration::from_millis(1));
        }
        if let Some(at) = self.work.next_retry(started) {
            self.wake_at(at);
        }
    }

    /// There is something to do at that time.
    fn wake_at(&mut self, at: Duration) {
        if self.wake.is_none_or(|wake| at < wake) {
            self.wake = Some(at);
        }
    }

    /// Whether the operation may begin now.
    fn free(&self, key: &Key, version: &str) -> bool {
        self.work.free(key, version, self.clock.monotonic())
    }

    /// An agent asks to be looked at. It is believed no more than that.
    fn knocked(&mut self, knock: &Knock) -> Standing {
        let flying = flies(&self.world.snapshot.updates, &knock.node);
        let unknown = if self.world.complete() { Standing::Unknown } else { Standing::NotListed };
        let Some((node, side)) = self.world.node_mut(&knock.node) else { return unknown };
        if node.uid != knock.uid {
            return unknown;
        }
        side.outcome_due = Duration::ZERO;
        side.lease_due = Duration::ZERO;
        if !flying {
            side.inspect_due = Duration::ZERO;
        }
        if knock.returned {
            self.hang_up(&knock.node);
        }
        Standing::Known
    }

    /// A kernel that jumps says no farewell: what was open to the one before would be waited for until the
    /// connection is given up, and the node's return with it. A run before its permission stays: it cannot have
    /// ended in a jump. No more than that is believed: whether there was one is asked.
    fn hang_up(&mut self, node: &str) {
        self.agents.hang_up(node);
        let now = self.clock.now();
        let Some((_, side)) = self.world.node_mut(node) else { return };
        let Some(attempt) = side.permitted.clone() else { return };
        if side.hang_up(&attempt) {
            tracing::info!(node, attempt, "back before its run was seen to end");
            self.work.succeeded(&(node.to_owned(), work::Kind::Run));
            self.world.jumping(node, &attempt, now);
        }
    }
}
