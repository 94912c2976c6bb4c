//! The agent's own certificate, asked of the controller and renewed in good time.
//!
//! ```text
//!   start ──a certificate that holds──────────────────────────────► serve
//!     └────none──► ask, until it is granted ──► write the folder ────┘ │
//!                    ▲                                                 │ soon after a start, then between a half
//!                    └─────────────────────────────────────────────────┘ and two thirds of its life
//! ```
//! A renewal changes files; connections go on, and the next one is made with the new certificate. The token is
//! what speaks for the pod each time: an old certificate is worth nothing here, so that a node whose Node was
//! deleted ends with its certificate.

mod ask;
mod folder;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use liveupdate_proto::causes::chain;
use liveupdate_proto::tls::{Credentials, Identity, Leaf};

use crate::config::{AgentConfig, Enrolment};
use crate::node::Node;
use crate::spread::some;

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// As long as it fails for the same reason, that is said this often.
const SAID: Duration = Duration::from_secs(60);

/// What renews the certificate of one agent.
#[derive(Clone, Debug)]
pub(crate) struct Enroller {
    node: String,
    folder: PathBuf,
    controller: String,
    enrolment: Enrolment,
    /// The longest pause between two tries.
    backoff: Duration,
    /// After a start, the certificate is renewed somewhere within this.
    spread: Duration,
    watch_trust: Duration,
}

/// What was last written about tries that fail.
#[derive(Debug, Default)]
struct Said(Option<(String, tokio::time::Instant)>);

impl Said {
    fn say(&mut self, node: &str, why: &str) {
        let now = tokio::time::Instant::now();
        if self.0.as_ref().is_some_and(|(text, at)| text == why && now - *at < SAID) {
            return tracing::debug!(node, why, "cannot enrol; trying again");
        }
        tracing::warn!(node, why, "cannot enrol; trying again");
        self.0 = Some((why.to_owned(), now));
    }
}

/// The UID in a certificate, if it is for a node of this name and holds.
fn uid_in(leaf: &Leaf, node: &str) -> Option<String> {
    let now = SystemTime::now();
    let holds = leaf.not_before <= now && now < leaf.not_after;
    match &leaf.identity {
        Identity::Node { name, uid } if name == node && holds => Some(uid.clone()),
        _ => None,
    }
}

/// How long a certificate need not be renewed: between a half and two thirds of its life.
fn pause(leaf: &Leaf, now: SystemTime, share: f64) -> Duration {
    let due = leaf.not_before + leaf.lifetime().mul_f64(0.5 + share / 6.0);
    due.duration_since(now).unwrap_or_default()
}

impl Enroller {
    /// None when the agent's files are somebody else's to write.
    pub(crate) fn new(config: &AgentConfig) -> Option<Self> {
        let (enrolment, controller) = config.enrolment.clone().zip(config.controller.clone())?;
        Some(Self {
            node: config.node.clone(),
            folder: config.tls_dir.clone(),
            controller,
            enrolment,
            backoff: config.limits.knock_backoff,
            spread: config.limits.knock_spread,
            watch_trust: config.limits.watch_trust,
        })
    }

    /// Sees to it that there is a certificate that holds, and says whose it is: name and UID. Waits until there
    /// is one; why there is none is logged.
    pub(crate) async fn first(&self) -> String {
        let found = Leaf::read(&self.folder.join("tls.crt")).ok();
        // Files that do not belong together are no credentials.
        let found = found.filter(|_| Credentials::load(&self.folder, 1).is_ok());
        match found.and_then(|leaf| uid_in(&leaf, &self.node)) {
            Some(uid) => uid,
            None => self.until_granted().await.0,
        }
    }

    /// Tries until there is a new certificate; the UID in it, and the certificate.
    async fn until_granted(&self) -> (String, Leaf) {
        let mut pause = FIRST_BACKOFF;
        let mut said = Said::default();
        loop {
            match self.renew().await {
                Ok(granted) => return granted,
                Err(why) => said.say(&self.node, &why),
            }
            tokio::time::sleep(pause / 2 + some(pause / 2)).await;
            pause = (pause * 2).min(self.backoff.max(FIRST_BACKOFF));
        }
    }

    async fn renew(&self) -> Result<(String, Leaf), String> {
        let granted =
            ask::once(&self.enrolment, &self.controller).await.map_err(|error| error.to_string())?;
        let path = self.folder.join("tls.crt");
        let leaf = Leaf::parse(&path, granted.certificate.as_bytes())
            .map_err(|error| format!("Misbehaves: {}", chain(&error)))?;
        let uid = uid_in(&leaf, &self.node).ok_or_else(|| {
            format!("Misbehaves: the certificate is not one of node {} that holds now", self.node)
        })?;
        let contents = [&granted.authorities, &granted.certificate, &granted.key].map(String::as_str);
        folder::write(&self.folder, contents).map_err(|error| chain(&error))?;
        tracing::info!(node = self.node, uid, "the agent has a new certificate");
        Ok((uid, leaf))
    }

    /// Renews until the agent ends. When the certificate is for another Node of this name, the agent ends, to be
    /// started again as that one's.
    pub(crate) fn spawn(self, node: Arc<Node>) {
        let (trust, trust_node) = (self.clone(), Arc::clone(&node));
        tokio::spawn(async move {
            tokio::select! {
                () = trust.keep_trust() => {}
                () = trust_node.ending.cancelled() => {}
            }
        });
        tokio::spawn(async move {
            tokio::select! {
                () = self.keep_renewing(&node.uid) => {
                    tracing::warn!(node = node.name, "the Node was made again: the agent ends, to begin as that one's");
                    node.ending.cancel();
                }
                () = node.ending.cancelled() => {}
            }
        });
    }

    /// Returns when the certificate is for another UID.
    async fn keep_renewing(&self, uid: &str) {
        // What was found at the start may be of a Node that is gone, or of a CA that is about to be.
        tokio::time::sleep(some(self.spread)).await;
        loop {
            let (now, leaf) = self.until_granted().await;
            if now != uid {
                return;
            }
            let share = some(Duration::from_secs(1)).as_secs_f64();
            tokio::time::sleep(pause(&leaf, SystemTime::now(), share)).await;
        }
    }

    /// Takes over a change of the trusted CAs.
    async fn keep_trust(&self) {
        loop {
            tokio::time::sleep(self.watch_trust).await;
            let taken = ask::trust(&self.enrolment).map_err(|error| error.to_string()).and_then(|trusted| {
                let old = std::fs::read_to_string(self.folder.join("ca.crt")).unwrap_or_default();
                if old == trusted {
                    return Ok(false);
                }
                folder::write_authorities(&self.folder, &trusted)
                    .map(|()| true)
                    .map_err(|error| chain(&error))
            });
            match taken {
                Ok(true) => tracing::info!(node = self.node, "the trusted CAs have changed"),
                Ok(false) => {}
                Err(why) => tracing::warn!(node = self.node, why, "the trusted CAs cannot be read"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_between_a_half_and_two_thirds_of_its_life() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let leaf = Leaf {
            identity: Identity::node("worker-1", "u"),
            not_before: start,
            not_after: start + Duration::from_secs(600),
        };
        let after = |seconds, share| pause(&leaf, start + Duration::from_secs(seconds), share).as_secs();
        assert_eq!([after(0, 0.0), after(0, 0.999), after(100, 0.0), after(599, 0.5)], [300, 399, 200, 0]);
    }
}
