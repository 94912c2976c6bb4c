//! One attempt as calls see it: what has happened so far, and a way to be told what comes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use liveupdate_host::Target;
use liveupdate_node_core::Monotonic;
use liveupdate_node_core::node::Receipt as Checked;
use liveupdate_node_core::verdict::Demands;
use liveupdate_proto::common::v1::{AttemptReport, NodeState, StateTime, Subject};
use liveupdate_proto::node::v1::{Jumping, Receipt, RunEvent, Start, run_event::Event};
use tokio::sync::watch;
use tonic::Status;

/// How an attempt ended here.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// Without a jump.
    Report(Box<AttemptReport>),
    /// By jumping from this boot.
    Jumping { boot_id: String },
    /// It did not begin, or could not be followed to its end.
    Broken(Status),
}

/// The permission, when it was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) boot_id: String,
    pub(crate) until: Monotonic,
}

#[derive(Default)]
struct Log {
    events: Vec<RunEvent>,
    receipt: Option<Checked>,
    end: Option<End>,
}

/// What the controller wants done; does not change over an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) target: Target,
    pub(crate) demands: Demands,
    pub(crate) preserve_limit: Option<Duration>,
    /// As it came, for the keeper.
    pub(crate) start: Start,
}

/// An attempt that this agent drives or drove.
pub(crate) struct Attempt {
    pub(crate) id: String,
    pub(crate) order: Order,
    subject: Mutex<Subject>,
    log: watch::Sender<Log>,
    grant: watch::Sender<Option<Grant>>,
    abort: watch::Sender<Option<String>>,
}

impl Attempt {
    pub(crate) fn new(subject: Subject, order: Order) -> Self {
        Self {
            id: subject.attempt.clone(),
            order,
            subject: Mutex::new(subject),
            log: watch::Sender::default(),
            grant: watch::Sender::default(),
            abort: watch::Sender::default(),
        }
    }

    /// In whose name the keeper is asked: the newest leadership that spoke about the attempt.
    pub(crate) fn subject(&self) -> Subject {
        self.subject.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn speak_as(&self, subject: Subject) {
        *self.subject.lock().unwrap_or_else(PoisonError::into_inner) = subject;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.log.borrow().end.is_some()
    }

    pub(crate) fn receipt(&self) -> Option<Checked> {
        self.log.borrow().receipt.clone()
    }

    /// Tells of a state, once and in order.
    pub(crate) fn enter(&self, state: NodeState, unix_ms: i64) {
        self.log.send_if_modified(|log| {
            let known = log.events.iter().any(
                |event| matches!(&event.event, Some(Event::State(known)) if known.state >= i32::from(state)),
            );
            if !known {
                let entered = StateTime { state: state.into(), unix_ms };
                log.events.push(RunEvent { event: Some(Event::State(entered)) });
            }
            !known
        });
    }

    pub(crate) fn tell_receipt(&self, receipt: Checked, told: Receipt) {
        self.log.send_modify(|log| {
            log.receipt = Some(receipt);
            log.events.push(RunEvent { event: Some(Event::Receipt(told)) });
        });
    }

    pub(crate) fn end(&self, end: End) {
        self.log.send_modify(|log| {
            let event = match &end {
                End::Report(report) => Some(Event::Ended(AttemptReport::clone(report))),
                End::Jumping { boot_id } => Some(Event::Jumping(Jumping { boot_id: boot_id.clone() })),
                End::Broken(_) => None,
            };
            log.events.extend(event.map(|event| RunEvent { event: Some(event) }));
            log.end = Some(end);
        });
    }

    pub(crate) fn grant(&self, grant: Grant) {
        self.grant.send_replace(Some(grant));
    }

    pub(crate) fn ask_to_abort(&self, reason: &str) {
        self.abort.send_replace(Some(reason.to_owned()));
    }

    pub(crate) fn abort_asked(&self) -> Option<String> {
        self.abort.borrow().clone()
    }

    /// Waits until somebody wants it aborted.
    pub(crate) async fn aborted(&self) -> String {
        wait_for_some(self.abort.subscribe()).await
    }

    /// Waits until it is permitted to jump.
    pub(crate) async fn granted(&self) -> Grant {
        wait_for_some(self.grant.subscribe()).await
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> End {
        let mut log = self.log.subscribe();
        match log.wait_for(|log| log.end.is_some()).await {
            Ok(log) => log.end.clone().unwrap_or_else(gone),
            Err(_) => gone(),
        }
    }

    /// Everything that has happened and will.
    pub(crate) fn follow(&self) -> Follower {
        Follower { log: self.log.subscribe(), next: 0 }
    }
}

fn gone() -> End {
    End::Broken(Status::unavailable("the agent ends"))
}

async fn wait_for_some<T: Clone>(mut receiver: watch::Receiver<Option<T>>) -> T {
    loop {
        if let Some(value) = receiver.borrow_and_update().clone() {
            return value;
        }
        if receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Reads an attempt's events from the first one on.
pub(crate) struct Follower {
    log: watch::Receiver<Log>,
    next: usize,
}

impl Follower {
    /// The next event; none when there will be no more. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Option<Result<RunEvent, Status>> {
        let next = self.next;
        let log = self.log.wait_for(|log| log.events.len() > next || log.end.is_some()).await.ok()?;
        self.next += 1;
        if let Some(event) = log.events.get(next) {
            return Some(Ok(event.clone()));
        }
        match &log.end {
            Some(End::Broken(status)) if log.events.len() == next => Some(Err(status.clone())),
            _ => None,
        }
    }
}
