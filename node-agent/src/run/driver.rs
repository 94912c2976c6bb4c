//! Drives one attempt to its jump or undoes it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use liveupdate_node_core::Monotonic;
use liveupdate_node_core::gate;
use liveupdate_node_core::node as core;
use liveupdate_proto::common::v1::{AttemptReport, NodeState, Subject};
use liveupdate_proto::controller::v1::KnockCause;
use liveupdate_proto::keeper::v1::{Abort, Jump, Preserve, Settle, reply, request};
use liveupdate_proto::node::v1::Receipt;
use liveupdate_proto::refusal::Refusal;
use tonic::{Code, Status};

use super::attempt::{Attempt, End, Grant};
use super::states::{is_committed, is_over, is_undoable, name, status};
use crate::decide::{self, Decision};
use crate::node::{Node, refused};

/// How long an abort may take before the agent stops looking.
const UNDO: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(100);

/// Why an attempt does not go on.
enum Stop {
    /// Nothing of it stands in the keeper, or the keeper cannot be reached: nothing to undo from here.
    Broken(Status),
    /// The keeper ended it by itself.
    Ended(Box<AttemptReport>),
    /// The keeper refused a step; nothing was changed by it.
    Refused(Status),
    /// It must be undone, and this is why.
    Undo(String),
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Broken(status)
    }
}

/// Drives the attempt in a task of the agent's.
pub(super) fn spawn(node: Arc<Node>, attempt: Arc<Attempt>) {
    tokio::spawn(async move {
        let end = tokio::select! {
            // First what the attempt says: a jump ends the agent, too.
            biased;
            end = drive(&node, &attempt) => end,
            () = node.ending.cancelled() => End::Broken(Refusal::PoweredOff.status("the agent ends")),
        };
        if let End::Broken(status) = &end {
            if matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument) {
                let (reason, why) = (Refusal::of(status).map(Refusal::as_str), status.message());
                tracing::info!(
                    node = node.name,
                    attempt = attempt.id,
                    reason,
                    why,
                    "refused to run an attempt"
                );
            } else {
                tracing::warn!(node = node.name, attempt = attempt.id, %status, "the attempt is not followed further");
                tokio::spawn(adopt_orphan(Arc::clone(&node)));
            }
        }
        let jumping = matches!(end, End::Jumping { .. });
        attempt.end(end);
        if jumping {
            leave(&node).await;
        } else {
            node.knocker.knock(KnockCause::Changed);
        }
    });
}

/// A jump ends this process. Where it does not, since the machine is simulated, the agent ends by itself as
/// soon as the machine says that it is gone.
async fn leave(node: &Arc<Node>) {
    let deadline = tokio::time::Instant::now() + UNDO;
    while tokio::time::Instant::now() < deadline && !node.ending.is_cancelled() {
        // The answer does not matter: a machine that is gone ends the agent.
        let _ = node.on_host(|node| node.host.boot_id()).await;
        tokio::time::sleep(POLL / 4).await;
    }
}

/// Undoes an attempt that nobody drives, when nobody has come for it in time.
pub(crate) async fn adopt_orphan(node: Arc<Node>) {
    let waited = tokio::select! {
        () = tokio::time::sleep(node.limits.orphan) => undo_orphan(&node).await,
        () = node.ending.cancelled() => Ok(()),
    };
    if let Err(status) = waited {
        tracing::warn!(node = node.name, %status, "cannot see whether an attempt was left behind");
    }
}

async fn undo_orphan(node: &Arc<Node>) -> Result<(), Status> {
    let own = node.own_subject().await?;
    if let Some(report) = node.kept(own.clone(), status()).await?
        && is_undoable(report.state())
        && !node.runs.busy()
    {
        tracing::warn!(node = node.name, attempt = report.attempt, "nobody runs this attempt: it is undone");
        let subject = Subject { attempt: report.attempt, revision: report.revision, ..own };
        let reason = "its agent was started again and nobody joined in time".to_owned();
        node.kept(subject, request::Message::Abort(Abort { reason })).await?;
        node.knocker.knock(KnockCause::Changed);
    }
    Ok(())
}

async fn drive(node: &Arc<Node>, attempt: &Attempt) -> End {
    match steps(node, attempt).await {
        Ok(end) => end,
        Err(Stop::Broken(status)) => End::Broken(status),
        Err(Stop::Ended(report)) => {
            unstage(node).await;
            End::Report(report)
        }
        Err(Stop::Refused(status)) => undo(node, attempt, status.message().to_owned()).await,
        Err(Stop::Undo(why)) => undo(node, attempt, why).await,
    }
}

async fn steps(node: &Arc<Node>, attempt: &Attempt) -> Result<End, Stop> {
    let boot_id = node.on_host(|node| node.host.boot_id()).await?;
    let resumed = found(node, attempt).await?;

    let decision = match look(node, attempt).await {
        Ok(decision) => match decision.blocked() {
            None => decision,
            Some(why) if resumed.is_none() => return Err(Stop::Broken(Refusal::Blocked.status(why))),
            Some(why) => return Err(Stop::Undo(why)),
        },
        Err(status) if resumed.is_none() => return Err(Stop::Broken(status)),
        Err(status) => return Err(Stop::Undo(status.message().to_owned())),
    };

    match resumed {
        None => preserve(node, attempt, &decision).await?,
        Some(_) => preserved(node, attempt).await?,
    }
    enter(node, attempt, NodeState::Settling).await?;
    match ask(node, attempt, request::Message::Settle(Settle {})).await {
        // A second Settle does not fit: whoever drove the attempt before has settled it.
        Err(Stop::Refused(_)) if resumed.is_some() && is_kept(node, attempt).await? => {}
        settled => settled?,
    }

    let receipt = receipt(node, attempt, decision, &boot_id).await?;

    let grant = permitted(node, attempt).await?;
    let now = node.on_host(|node| node.host.monotonic()).await.map_err(|status| undo_for(&status))?;
    if grant.until <= Monotonic(now) {
        return Err(Stop::Undo("the permission to jump has run out".to_owned()));
    }
    enter(node, attempt, NodeState::Quiescing).await?;
    let jump = Jump {
        receipt: receipt.id().to_owned(),
        receipt_boot_id: boot_id.clone(),
        permission_boot_id: grant.boot_id,
        permission_until_ms: grant.until.as_millis(),
    };
    jump_now(node, attempt, jump, boot_id).await
}

/// The keeper takes custody.
async fn preserve(node: &Arc<Node>, attempt: &Attempt, decision: &Decision) -> Result<(), Stop> {
    enter(node, attempt, NodeState::Preserving).await?;
    let message = request::Message::Preserve(Preserve {
        target: attempt.order.start.target.clone(),
        demands: attempt.order.start.demands.clone(),
        preserve: decision.preserve(),
        stop: decision.stop(),
    });
    match ask(node, attempt, message).await {
        // The keeper took nothing for it, so that nothing is to be undone.
        Err(Stop::Refused(status)) if !is_kept(node, attempt).await? => Err(Stop::Broken(status)),
        done => done,
    }
}

/// Waits for a Preserve that somebody else asked for.
async fn preserved(node: &Arc<Node>, attempt: &Attempt) -> Result<(), Stop> {
    enter(node, attempt, NodeState::Preserving).await?;
    let limit = attempt.order.preserve_limit.unwrap_or(node.limits.preserve);
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let report = node.kept(attempt.subject(), status()).await?;
        match report.filter(|report| report.attempt == attempt.id).map(|report| report.state()) {
            Some(NodeState::Preserving) if tokio::time::Instant::now() > deadline => {
                return Err(Stop::Undo(format!("it is still Preserving after {limit:?}")));
            }
            Some(NodeState::Preserving) => tokio::select! {
                reason = attempt.aborted() => return Err(Stop::Undo(reason)),
                () = tokio::time::sleep(POLL) => {}
            },
            _ => return Ok(()),
        }
    }
}

/// Reads every gate again, and tells of the receipt. What the attempt needs was settled when it began: bystanders and stopped holders
/// are gone by now, so that nothing is judged anew.
async fn receipt(
    node: &Arc<Node>,
    attempt: &Attempt,
    decision: Decision,
    boot_id: &str,
) -> Result<core::Receipt, Stop> {
    let subject = attempt.subject();
    let judged = core::Attempt {
        id: attempt.id.clone(),
        update: subject.update,
        revision: subject.revision,
        target: attempt.order.target.clone(),
        nonce: core::Nonce(0),
        boot_id: boot_id.to_owned(),
        devices: decision.verdict.scope(),
        holders: decision.verdict.holders,
        acknowledged: attempt.order.demands.acknowledged.clone(),
        persist: false,
        deadlines: core::Deadlines::default(),
    };
    let target = attempt.order.target.clone();
    let (now, gates) = node
        .on_host(move |node| Ok((node.host.boot_id()?, node.host.gates(Some(&target))?)))
        .await
        .map_err(|status| undo_for(&status))?;
    match core::Receipt::check(&judged, &now, &gates) {
        Ok(receipt) => {
            let told = Receipt {
                id: receipt.id().to_owned(),
                boot_id: boot_id.to_owned(),
                gates: gates.iter().map(Into::into).collect(),
            };
            attempt.tell_receipt(receipt.clone(), told);
            Ok(receipt)
        }
        Err(why) => {
            let told = match &why {
                core::NoReceipt::Gates(short) => gate::explain(short, &gates),
                core::NoReceipt::OtherBoot { .. } => None,
            };
            let told = told.unwrap_or_else(|| why.to_string());
            Err(Stop::Undo(format!("read again before the jump: {told}")))
        }
    }
}

/// In which state the keeper already has the attempt; none when it is new here.
async fn found(node: &Arc<Node>, attempt: &Attempt) -> Result<Option<NodeState>, Stop> {
    let Some(report) = node.kept(attempt.subject(), status()).await? else { return Ok(None) };
    let state = report.state();
    if report.attempt != attempt.id {
        if report.confirmed {
            return Ok(None);
        }
        let other = format!("attempt {} is {} here and not confirmed", report.attempt, name(state));
        return Err(Stop::Broken(Refusal::OtherAttempt.status(other)));
    }
    if is_undoable(state) {
        return Ok(Some(state));
    }
    let leaving = matches!(state, NodeState::Committing | NodeState::Jumping | NodeState::Thawing);
    let word = if leaving { Refusal::Committed } else { Refusal::AttemptRepeated };
    let message = format!("attempt {} is {} here; an attempt runs at most once", report.attempt, name(state));
    Err(Stop::Broken(word.status(message)))
}

/// Reads everything and decides; fails when the image is not loaded.
async fn look(node: &Arc<Node>, attempt: &Attempt) -> Result<Decision, Status> {
    let (target, demands) = (attempt.order.target.clone(), attempt.order.demands.clone());
    let decision = node
        .on_host(move |node| {
            let staged = node.host.staged()?;
            if staged.as_ref() == Some(&target) {
                decide::read(&*node.host, Some(&target), &demands).map(Ok)
            } else {
                Ok(Err(target.bundle))
            }
        })
        .await?;
    decision.map_err(|bundle| {
        Refusal::NotStaged.status(format!("bundle {bundle} is not loaded; call Stage first"))
    })
}

async fn is_kept(node: &Arc<Node>, attempt: &Attempt) -> Result<bool, Stop> {
    let kept = node.kept(attempt.subject(), status()).await?;
    Ok(matches!(kept, Some(report) if report.attempt == attempt.id && is_undoable(report.state())))
}

async fn enter(node: &Arc<Node>, attempt: &Attempt, state: NodeState) -> Result<(), Stop> {
    if let Some(reason) = attempt.abort_asked() {
        return Err(Stop::Undo(reason));
    }
    let now = node.on_host(|node| node.host.wall()).await?;
    attempt.enter(state, now);
    Ok(())
}

/// One step by the keeper, within the state's deadline. An end that it reports is the attempt's. A wish to
/// abort does not wait for the step: the keeper leaves it where it is when it is told to undo.
async fn ask(node: &Arc<Node>, attempt: &Attempt, message: request::Message) -> Result<(), Stop> {
    let limit = attempt.order.preserve_limit.unwrap_or(node.limits.preserve);
    let reply = tokio::select! {
        biased;
        reply = tokio::time::timeout(limit, node.ask(attempt.subject(), message)) => reply,
        reason = attempt.aborted() => return Err(Stop::Undo(reason)),
    };
    match reply {
        Ok(Ok(reply::Message::Attempt(report))) if is_over(report.state()) => {
            Err(Stop::Ended(Box::new(report)))
        }
        Ok(Ok(reply::Message::Attempt(_))) => Ok(()),
        Ok(Ok(reply::Message::Refusal(refusal))) => Err(Stop::Refused(refused(&refusal))),
        Ok(Ok(reply::Message::Idle(_))) => Err(Stop::Undo("the keeper has no such attempt".to_owned())),
        Ok(Err(status)) => Err(Stop::Broken(status)),
        Err(_) => Err(Stop::Undo(format!("the keeper did not finish within {limit:?}"))),
    }
}

async fn permitted(node: &Arc<Node>, attempt: &Attempt) -> Result<Grant, Stop> {
    tokio::select! {
        biased;
        reason = attempt.aborted() => Err(Stop::Undo(reason)),
        grant = attempt.granted() => Ok(grant),
        () = tokio::time::sleep(node.limits.permission) => {
            Err(Stop::Undo(format!("no permission to jump came within {:?}", node.limits.permission)))
        }
    }
}

/// The point of no return is the keeper's. On a real machine a jump that succeeds brings no answer. A wish to abort is told
/// beside the jump: as long as holders come to rest it is undone, and past the commit the keeper refuses. What the jump is
/// answered tells which.
async fn jump_now(node: &Arc<Node>, attempt: &Attempt, jump: Jump, boot_id: String) -> Result<End, Stop> {
    let mut answer = pin!(node.ask(attempt.subject(), request::Message::Jump(jump)));
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        reason = attempt.aborted() => {
            let abort = request::Message::Abort(Abort { reason });
            tokio::join!(answer, node.ask(attempt.subject(), abort)).0
        }
    };
    match answer {
        Ok(reply::Message::Attempt(report)) => Ok(concluded(node, attempt, report, boot_id).await),
        Ok(reply::Message::Refusal(refusal)) => Err(Stop::Refused(refused(&refusal))),
        Ok(reply::Message::Idle(_)) => Err(Stop::Undo("the keeper has no such attempt".to_owned())),
        // No answer: the machine tells whether it has jumped. If it does not, only the keeper knows, and it
        // is asked when the controller asks.
        Err(status) => {
            let _ = node.on_host(|node| node.host.boot_id()).await;
            if node.powered_off() { Ok(End::Jumping { boot_id }) } else { Err(Stop::Broken(status)) }
        }
    }
}

/// Follows an attempt that was jumping or is being undone to the point where it is known which.
async fn concluded(node: &Arc<Node>, attempt: &Attempt, report: AttemptReport, boot_id: String) -> End {
    let mut report = report;
    let deadline = tokio::time::Instant::now() + UNDO;
    loop {
        let state = report.state();
        if is_over(state) {
            return End::Report(Box::new(report));
        }
        if is_committed(state) {
            return End::Jumping { boot_id };
        }
        if tokio::time::Instant::now() > deadline {
            let message = format!("attempt {} is still {} after {UNDO:?}", attempt.id, name(state));
            return End::Broken(Refusal::DeadlineExceeded.status(message));
        }
        tokio::time::sleep(POLL).await;
        match node.kept(attempt.subject(), status()).await {
            Ok(Some(now)) if now.attempt == attempt.id => report = now,
            Ok(_) => return End::Broken(Refusal::NeverBegan.status("the keeper has forgotten the attempt")),
            Err(_) if node.powered_off() => return End::Jumping { boot_id },
            Err(status) => return End::Broken(status),
        }
    }
}

async fn undo(node: &Arc<Node>, attempt: &Attempt, why: String) -> End {
    tracing::warn!(node = node.name, attempt = attempt.id, why, "the attempt is undone");
    let boot_id = node.on_host(|node| node.host.boot_id()).await.unwrap_or_default();
    let mut tries = 0;
    loop {
        let abort = request::Message::Abort(Abort { reason: why.clone() });
        match node.kept(attempt.subject(), abort).await {
            Ok(Some(report)) => {
                let end = concluded(node, attempt, report, boot_id).await;
                if matches!(end, End::Report(_)) {
                    unstage(node).await;
                }
                return end;
            }
            Ok(None) => {
                unstage(node).await;
                return End::Report(Box::new(undone(&attempt.subject(), why)));
            }
            Err(status) if status.code() == Code::Unavailable && tries < 5 && !node.powered_off() => {
                tries += 1;
                tokio::time::sleep(POLL * 2u32.pow(tries)).await;
            }
            Err(status) => return End::Broken(status),
        }
    }
}

/// What is told of an attempt that was undone before the keeper had anything of it.
pub(crate) fn undone(subject: &Subject, why: String) -> AttemptReport {
    AttemptReport {
        attempt: subject.attempt.clone(),
        revision: subject.revision.clone(),
        state: NodeState::Aborted.into(),
        reason: "AttemptAborted".to_owned(),
        message: why,
        ..AttemptReport::default()
    }
}

/// An image that stays loaded would be what the next ordinary `kexec` jumps into.
pub(crate) async fn unstage(node: &Arc<Node>) {
    if let Err(status) = node.on_host(|node| node.host.unstage()).await {
        tracing::warn!(node = node.name, %status, "the image stays loaded");
    }
}

fn undo_for(status: &Status) -> Stop {
    Stop::Undo(status.message().to_owned())
}
