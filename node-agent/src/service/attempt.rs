//! Unary calls about one attempt.

use std::sync::Arc;

use liveupdate_proto::common::v1::{AttemptReport, Subject};
use liveupdate_proto::keeper::v1::{Abort, Confirm, Release, Uninstall, refusal::Cause, reply, request};
use liveupdate_proto::node::v1::{OutcomeReply, ReleaseReply};
use liveupdate_proto::refusal::Refusal;
use tonic::Status;

use crate::node::{Node, refused};
use crate::run::{self, End};
use crate::stage;

/// Undoes an attempt that is not committed.
pub(crate) async fn abort(node: &Arc<Node>, subject: Subject, reason: &str) -> Result<AttemptReport, Status> {
    let reason = if reason.is_empty() { "the controller wants it aborted" } else { reason };
    stage::cancel(node, &subject.attempt);
    if let Some(attempt) = node.runs.driven(&subject.attempt) {
        attempt.speak_as(subject);
        attempt.ask_to_abort(reason);
        return match attempt.ended().await {
            End::Report(report) => Ok(*report),
            End::Jumping { .. } => Err(committed(&attempt.id)),
            End::Broken(status) => Err(status),
        };
    }
    let message = request::Message::Abort(Abort { reason: reason.to_owned() });
    match node.kept(subject.clone(), run::status()).await? {
        Some(report) if report.attempt == subject.attempt => {
            if run::is_committed(report.state()) {
                return Err(committed(&report.attempt));
            }
            if run::is_over(report.state()) {
                return Ok(report);
            }
            let report = match node.kept(subject.clone(), message).await? {
                Some(report) => report,
                None => run::undone(&subject, reason.to_owned()),
            };
            run::unstage(node).await;
            Ok(report)
        }
        // Of another attempt's image nothing is touched.
        Some(report) if !report.confirmed && !run::is_over(report.state()) => {
            Err(Refusal::OtherAttempt.status(format!("attempt {} is under way here", report.attempt)))
        }
        _ => {
            // Staged at most: nothing but the image is to be undone.
            run::unstage(node).await;
            Ok(run::undone(&subject, reason.to_owned()))
        }
    }
}

fn committed(attempt: &str) -> Status {
    Refusal::Committed.status(format!("attempt {attempt} is past commit and can no longer be undone"))
}

/// What became of an attempt, or how far it is.
pub(crate) async fn outcome(node: &Arc<Node>, subject: Subject) -> Result<OutcomeReply, Status> {
    let attempt = subject.attempt.clone();
    match node.kept(subject, run::status()).await? {
        Some(report) if report.attempt == attempt => {
            let (boot_id, release) =
                node.on_host(|node| Ok((node.host.boot_id()?, node.host.release()?))).await?;
            let mut reply = OutcomeReply { attempt: Some(report), boot_id, release };
            node.misbehaviour.outcome(&mut reply);
            Ok(reply)
        }
        _ => Err(Refusal::NeverBegan.status(format!("attempt {attempt} never began here, or was confirmed"))),
    }
}

/// The controller has the outcome on record.
pub(crate) async fn confirm(node: &Arc<Node>, subject: Subject) -> Result<(), Status> {
    let attempt = subject.attempt.clone();
    match node.ask(subject, request::Message::Confirm(Confirm {})).await? {
        reply::Message::Attempt(_) | reply::Message::Idle(_) => Ok(()),
        reply::Message::Refusal(refusal) if refusal.cause() == Cause::WrongState => {
            Err(Refusal::NotEnded
                .status(format!("attempt {attempt} has not ended here: {}", refusal.message)))
        }
        reply::Message::Refusal(refusal) => Err(refused(&refusal)),
    }
}

/// Gives up what is kept of an attempt. The keeper alone knows whether it is in quarantine.
pub(crate) async fn release(node: &Arc<Node>, subject: Subject) -> Result<ReleaseReply, Status> {
    let attempt = subject.attempt.clone();
    match node.kept(subject, request::Message::Release(Release {})).await? {
        Some(report) => {
            tracing::warn!(node = node.name, attempt, "the files that were kept are given up");
            Ok(ReleaseReply { attempt: Some(report) })
        }
        None => Err(Refusal::NeverBegan.status(format!("attempt {attempt} never began here"))),
    }
}

/// Removes the keeper with its unit. It does so itself: it alone knows whether it is idle, and is on the host with all
/// the rights that this takes. A dry run only asks whether it could.
pub(crate) async fn uninstall(node: &Arc<Node>, subject: Subject, dry_run: bool) -> Result<(), Status> {
    if node.runs.busy() || node.stages.busy() {
        return Err(Refusal::Busy.status("an attempt is being staged or run here; wait, or abort it"));
    }
    node.kept(subject, request::Message::Uninstall(Uninstall { dry_run })).await?;
    if dry_run {
        return Ok(());
    }
    // What was staged for an attempt that never began is nobody's any more.
    run::unstage(node).await;
    tracing::info!(node = node.name, "the keeper is uninstalled");
    Ok(())
}
