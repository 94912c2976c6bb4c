//! Knocking at the controller: "look at me". It carries no truth and nothing waits for it.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use liveupdate_proto::MAX_MESSAGE_BYTES;
use liveupdate_proto::common::v1::NodeState;
use liveupdate_proto::controller::v1::controller_client::ControllerClient;
use liveupdate_proto::controller::v1::{KnockCause, KnockRequest};
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::{Credentials, DialOptions, Identity, TlsError, connect};
use tokio::time::Instant;
use tonic::Status;

use crate::node::Node;
use crate::run;
use crate::spread::some;

/// For one call.
const CALL: Duration = Duration::from_secs(10);
/// How often the keeper is looked at where facts are not.
const SELDOM: Duration = Duration::from_mins(1);
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// Agents and controllers start in any order: what fails for less than this is no news.
const START_UP: Duration = Duration::from_secs(30);
/// A keeper that is started at the same time answers before this; without one there is nothing to be told in haste.
const KEEPER_STARTS: Duration = Duration::from_secs(5);
const KEEPER_POLL: Duration = Duration::from_millis(50);
/// A controller that asks for more quiet than this is not obeyed.
const LONGEST_QUIET: Duration = Duration::from_mins(10);

/// Begins to knock, and to look out for what is worth it.
pub(crate) fn spawn(node: &Arc<Node>, credentials: &Arc<Credentials>, controller: String) {
    tokio::spawn(keep_knocking(Arc::clone(node), Arc::clone(credentials), controller));
    tokio::spawn(watch(Arc::clone(node)));
}

/// Knocks at start, and then whenever somebody wishes it, until the agent ends.
async fn keep_knocking(node: Arc<Node>, credentials: Arc<Credentials>, controller: String) {
    let knocking = async {
        let cause = first_cause(&node).await;
        if cause != KnockCause::Returned {
            tokio::time::sleep(some(node.limits.knock_spread)).await;
        }
        node.knocker.knock(cause);
        let mut wanted = node.knocker.wishes();
        let mut quiet_until = Instant::now();
        loop {
            let Ok(Some(cause)) = wanted.wait_for(Option::is_some).await.map(|cause| *cause) else { return };
            if cause != KnockCause::Returned {
                tokio::time::sleep_until(quiet_until).await;
            }
            let Some(cause) = node.knocker.take() else { continue };
            let quiet = until_heard(&node, &credentials, &controller, cause).await;
            quiet_until = Instant::now() + quiet;
        }
    };
    tokio::select! {
        () = knocking => {}
        () = node.ending.cancelled() => {}
    }
}

/// Back from a jump, when the keeper has an attempt that is past it. A keeper that comes up beside this agent is
/// waited for: a return that is not told as one is seen only when the controller gives up the connection of before.
async fn first_cause(node: &Arc<Node>) -> KnockCause {
    let patient_until = Instant::now() + KEEPER_STARTS;
    loop {
        match kept_state(node).await {
            Ok(Some(state)) if run::is_committed(state) || run::is_over(state) => {
                return KnockCause::Returned;
            }
            Err(_) if Instant::now() < patient_until => tokio::time::sleep(KEEPER_POLL).await,
            _ => return KnockCause::Started,
        }
    }
}

async fn kept_state(node: &Arc<Node>) -> Result<Option<NodeState>, Status> {
    let own = node.own_subject().await?;
    match node.kept(own, run::status()).await? {
        Some(report) if !report.confirmed => Ok(Some(report.state())),
        _ => Ok(None),
    }
}

/// Tries until the controller has heard it; the pause grows and varies. Answers how long to be quiet.
async fn until_heard(
    node: &Arc<Node>,
    credentials: &Arc<Credentials>,
    controller: &str,
    cause: KnockCause,
) -> Duration {
    let mut pause = FIRST_BACKOFF;
    let mut silence = Silence::default();
    loop {
        let why = match tokio::time::timeout(CALL, once(node, credentials, controller, cause)).await {
            Ok(Ok(quiet)) => return quiet.min(LONGEST_QUIET),
            Ok(Err(why)) => why,
            Err(_) => format!("no answer within {CALL:?}"),
        };
        if silence.is_news(Instant::now(), node.limits.knock_backoff) {
            tracing::warn!(node = node.name, controller, why, "cannot knock; trying again");
        } else {
            tracing::debug!(node = node.name, controller, why, "cannot knock; trying again");
        }
        tokio::time::sleep(pause / 2 + some(pause / 2)).await;
        pause = (pause * 2).min(node.limits.knock_backoff);
    }
}

/// For how long nobody has heard, and when that was said.
#[derive(Debug, Default)]
struct Silence {
    began: Option<Instant>,
    said: Option<Instant>,
}

impl Silence {
    /// A knock failed: whether that is worth a warning. The first when it has lasted, then one for each time
    /// that the longest pause takes.
    fn is_news(&mut self, now: Instant, longest_pause: Duration) -> bool {
        let began = *self.began.get_or_insert(now);
        let news = now - began >= START_UP && self.said.is_none_or(|said| now - said >= longest_pause);
        if news {
            self.said = Some(now);
        }
        news
    }
}

/// One knock. The connection is closed after it: a fleet of idle connections would cost the controller more
/// than a resumed handshake does.
async fn once(
    node: &Arc<Node>,
    credentials: &Arc<Credentials>,
    controller: &str,
    cause: KnockCause,
) -> Result<Duration, String> {
    let channel = connect(credentials, &Identity::Controller, controller, DialOptions::default())
        .await
        .map_err(|error| said(&error))?;
    let request = KnockRequest { node: node.name.clone(), node_uid: node.uid.clone(), cause: cause.into() };
    let reply = ControllerClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
        .knock(request)
        .await
        .map_err(|status| match TlsError::of_status(&status) {
            Some(error) => said(&error),
            None => match Refusal::of(&status) {
                Some(word) => format!("{word}: {}", status.message()),
                None => status.to_string(),
            },
        })?;
    Ok(Duration::from_millis(reply.into_inner().quiet_ms))
}

fn said(error: &TlsError) -> String {
    format!("{}: {error}", error.reason())
}

/// Knocks when facts change, and when a return goes on, until the agent ends. What the controller itself
/// sets in motion needs no watching.
async fn watch(node: Arc<Node>) {
    let watching = async {
        let mut known = kept_state(&node).await.unwrap_or(None);
        let mut print = fingerprint(&node).await;
        loop {
            let moving = known.is_some_and(run::is_moving);
            let rarely = node.limits.watch_facts.unwrap_or(SELDOM);
            tokio::time::sleep(if moving { node.limits.watch_return } else { rarely / 2 + some(rarely) })
                .await;
            let state = kept_state(&node).await.unwrap_or(known);
            let now = if moving { print } else { fingerprint(&node).await };
            // A reading that failed is no change.
            if state != known || (now.is_some() && print.is_some() && now != print) {
                node.knocker.knock(KnockCause::Changed);
            }
            known = state;
            print = now.or(print);
        }
    };
    tokio::select! {
        () = watching => {}
        () = node.ending.cancelled() => {}
    }
}

/// A fingerprint of everything that a verdict rests on; none when it is not wanted or cannot be read.
async fn fingerprint(node: &Arc<Node>) -> Option<u64> {
    node.limits.watch_facts?;
    let read = node.on_host(|node| {
        let host = &node.host;
        let facts = format!("{:?}{:?}{:?}", host.gates(None)?, host.devices()?, host.holders()?);
        Ok(fixed_hash(&facts))
    });
    read.await.ok()
}

fn fixed_hash(value: &impl Hash) -> u64 {
    std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default().hash_one(value)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Silence;

    #[test]
    fn a_race_at_the_start_is_no_news_and_a_long_silence_is_said_now_and_then() {
        let start = Instant::now();
        let mut silence = Silence::default();
        let failures = [0, 1, 29, 30, 45, 89, 90, 120, 149, 151];
        let news = failures.iter().copied().filter(|seconds| {
            silence.is_news(start + Duration::from_secs(*seconds), Duration::from_secs(60))
        });
        assert_eq!(news.collect::<Vec<_>>(), [30, 90, 151]);
    }
}
