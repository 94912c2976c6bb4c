//! Calls that go on: staging, and the attempt itself. What is sent is bounded: a slow client holds up
//! nobody but itself.

use std::sync::Arc;
use std::time::Duration;

use liveupdate_node_core::Monotonic;
use liveupdate_node_core::node::{NoPermission, Permission as Granted};
use liveupdate_proto::common::v1::{Subject, Target};
use liveupdate_proto::convert;
use liveupdate_proto::node::v1::{
    Permission, RunEvent, RunRequest, StageProgress, Start, run_request::Message,
};
use liveupdate_proto::refusal::Refusal;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Sent, wanted};
use crate::node::Node;
use crate::run::{self, Attempt, Grant, Order};
use crate::stage;
use crate::stages::Stage;

/// For the first message of a Run.
const START: Duration = Duration::from_secs(10);
/// Progress is told no more often than this.
const PROGRESS: Duration = Duration::from_millis(200);

/// Stages the target and tells how far it is.
pub(crate) async fn stage(
    node: &Arc<Node>,
    subject: &Subject,
    target: Option<Target>,
) -> Result<Sent<StageProgress>, Status> {
    let wanted = wanted(target.as_ref())?;
    let target = convert::target(target.as_ref())?;
    if let Some(report) = node.kept(subject.clone(), run::status()).await? {
        if report.attempt == subject.attempt && run::is_over(report.state()) {
            return Err(Refusal::AttemptRepeated.status(format!("attempt {} has ended here", report.attempt)));
        }
        if report.attempt != subject.attempt && !report.confirmed {
            return Err(Refusal::OtherAttempt
                .status(format!("attempt {} is under way here or waits to be confirmed", report.attempt)));
        }
    }
    let mut progress = stage::begin(node, subject, target, wanted)?;
    let (sender, receiver) = mpsc::channel(4);
    let ending = node.ending.clone();
    tokio::spawn(async move {
        loop {
            let now = progress.borrow_and_update().clone();
            if sender.send(now.message()).await.is_err() || now.is_over() {
                return;
            }
            tokio::select! {
                changed = progress.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
                () = ending.cancelled() => return,
            }
            if !progress.borrow().is_over() {
                // The end is not held back: whoever waits for it waits for a change.
                let _ = tokio::time::timeout(PROGRESS, progress.wait_for(Stage::is_over)).await;
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// Begins or joins an attempt and follows it.
pub(crate) async fn run(
    node: &Arc<Node>,
    mut requests: Streaming<RunRequest>,
) -> Result<Sent<RunEvent>, Status> {
    let first = tokio::time::timeout(START, requests.message())
        .await
        .map_err(|_| Refusal::DeadlineExceeded.status(format!("no start came within {START:?}")))??;
    let Some(RunRequest { message: Some(Message::Start(start)) }) = first else {
        return Err(Refusal::malformed("message", "the first message of a Run must be start"));
    };
    let subject = node.admit_attempt(start.subject.clone()).await?;
    let order = Order {
        target: convert::target(start.target.as_ref())?,
        demands: convert::demands(start.demands.as_ref())?,
        preserve_limit: preserve_limit(&start),
        start,
    };
    let attempt = run::join(node, &subject, order)?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(relay(Arc::clone(node), attempt, requests, sender));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

fn preserve_limit(start: &Start) -> Option<Duration> {
    let deadlines = start.demands.as_ref()?.deadlines.as_ref()?;
    (deadlines.preserve_ms > 0).then(|| Duration::from_millis(deadlines.preserve_ms))
}

type Sender = mpsc::Sender<Result<RunEvent, Status>>;

async fn relay(node: Arc<Node>, attempt: Arc<Attempt>, mut requests: Streaming<RunRequest>, sender: Sender) {
    let mut events = attempt.follow();
    let mut listening = true;
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else { return };
                if sender.send(event).await.is_err() {
                    return;
                }
            }
            request = requests.message(), if listening => match request {
                Ok(Some(request)) => {
                    if let Err(status) = heard(&node, &attempt, request).await {
                        let _ = sender.send(Err(status)).await;
                        return;
                    }
                }
                // The caller has said all it wants to; it may still listen.
                Ok(None) => listening = false,
                // It is gone; the attempt is not.
                Err(_) => return,
            },
            () = sender.closed() => return,
        }
    }
}

/// A message after the start. What is wrong with it ends the call and not the attempt.
async fn heard(node: &Arc<Node>, attempt: &Attempt, request: RunRequest) -> Result<(), Status> {
    let Some(Message::Permission(permission)) = request.message else {
        return Err(Refusal::malformed("message", "after start only a permission may come"));
    };
    let subject = node.admit_attempt(permission.subject.clone()).await?;
    let now = Monotonic(node.on_host(|node| node.host.monotonic()).await?);
    let granted = granted(attempt, &subject, &permission, now)?;
    attempt.speak_as(subject);
    attempt.grant(Grant { boot_id: permission.boot_id, until: granted.until() });
    Ok(())
}

fn granted(
    attempt: &Attempt,
    subject: &Subject,
    permission: &Permission,
    now: Monotonic,
) -> Result<Granted, Status> {
    let void = |why: String| Refusal::PermissionVoid.status(why);
    let receipt = attempt
        .receipt()
        .ok_or_else(|| void("there is no receipt yet that the permission could answer".to_owned()))?;
    let duration = Duration::from_millis(permission.duration_ms);
    if duration.is_zero() {
        return Err(Refusal::malformed("permission.duration_ms", "must be from 1 to 30,000"));
    }
    let (answers, boot_id) = (&permission.receipt, &permission.boot_id);
    Granted::grant(&receipt, &subject.attempt, answers, boot_id, now, duration).map_err(|error| match error {
        NoPermission::TooLong(_) => Refusal::malformed("permission.duration_ms", &error.to_string()),
        _ => void(error.to_string()),
    })
}
