//! Giving agents their certificates.
//!
//! ```text
//!   token ──meant for us──► TokenReview ──our account──► pod ──our DaemonSet's──► node name ──► Node's UID
//!   PKCS#10 ──signed with its own key──► key ─────────────────────────────────────────────► certificate
//! ```
//! A kubelet gets such tokens for pods on its own node alone (NodeRestriction), and a pod reads its own alone:
//! whoever takes over one node can get that node's certificate and no other. Nothing that the request says of
//! itself counts but its key. Every process may do it, not only the one that leads.

mod decide;
mod read;
mod refused;

use std::net::SocketAddr;
use std::sync::Arc;

use kube::Client;
use liveupdate_proto::controller::v1::{EnrolReply, EnrolRequest};
use liveupdate_proto::tls::Identity;

use crate::pki::{self, IdentityOptions, Signer};
use crate::strangers::Strangers;

pub use decide::{Bearer, Expected};
pub use read::review;
pub use refused::{Reason, Refused};

/// Gives out certificates.
pub struct Enroller {
    client: Client,
    signer: Arc<Signer>,
    expected: Expected,
    daemonset: String,
    strangers: Arc<Strangers>,
}

impl std::fmt::Debug for Enroller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enroller").field("expected", &self.expected).finish_non_exhaustive()
    }
}

impl Enroller {
    /// For the agents that the flags name, in `namespace`.
    pub fn new(client: Client, signer: Arc<Signer>, namespace: &str, options: &IdentityOptions) -> Self {
        Self {
            client,
            signer,
            expected: Expected {
                namespace: namespace.to_owned(),
                service_account: options.agent_service_account.clone(),
                audience: options.enrol_audience.clone(),
            },
            daemonset: options.agent_daemonset.clone(),
            strangers: Arc::default(),
        }
    }

    /// What those who enrol may cost, to be shared with whatever else strangers come for.
    pub fn strangers(&self) -> Arc<Strangers> {
        Arc::clone(&self.strangers)
    }

    /// A certificate for whoever has the token; why not is logged here, once.
    pub async fn enrol(&self, peer: SocketAddr, request: &EnrolRequest) -> Result<EnrolReply, Refused> {
        if let Err(empty) = self.strangers.take(peer.ip()) {
            let refused = Refused::too_many();
            if empty.news {
                log(peer, &refused);
            }
            return Err(refused);
        }
        match self.decided(request).await {
            Ok((identity, reply)) => {
                tracing::info!(%peer, who = %identity, "enrolled");
                Ok(reply)
            }
            Err(refused) => {
                log(peer, &refused);
                Err(refused)
            }
        }
    }

    async fn decided(&self, request: &EnrolRequest) -> Result<(Identity, EnrolReply), Refused> {
        let wish = &request.certificate_request;
        if wish.len() > decide::MAX_REQUEST {
            let bytes = wish.len();
            return Err(Refused::new(Reason::RequestTooLarge, format!("the request has {bytes} bytes")));
        }
        let key = pki::requested_key(wish)
            .map_err(|error| Refused::new(Reason::RequestUnusable, error.to_string()))?;
        let Some(_turn) = self.strangers.turn().await else {
            return Err(Refused::new(Reason::CannotSign, "the process ends"));
        };
        let namespace = &self.expected.namespace;
        let bearer = read::review(&self.client, &request.token, &self.expected).await?;
        let pod = read::pod(&self.client, namespace, &bearer.pod).await?;
        let daemonset = read::daemonset_uid(&self.client, namespace, &self.daemonset).await?;
        let node = decide::node_of(&bearer, pod.as_ref(), daemonset.as_deref())?;
        let uid = read::node_uid(&self.client, &node).await?;
        let identity = decide::identity(&bearer, &node, uid)?;
        let issued = self.signer.sign(&identity, &key);
        let issued = issued.map_err(|error| Refused::new(Reason::CannotSign, error.to_string()))?;
        Ok((identity, EnrolReply { chain: vec![issued.leaf], authorities: issued.authorities }))
    }
}

fn log(peer: SocketAddr, refused: &Refused) {
    tracing::warn!(%peer, reason = refused.reason.as_str(), why = refused.detail, "refused to enrol");
}
