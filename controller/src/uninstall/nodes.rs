//! Asking one node.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::{Api, Client};
use liveupdate_proto::causes::chain;
use liveupdate_proto::common::v1::{Epoch, Subject};
use liveupdate_proto::node::v1::UninstallRequest;
use liveupdate_proto::node::v1::node_client::NodeClient;
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::{Credentials, DialOptions, Identity, connect};
use liveupdate_proto::{MAX_MESSAGE_BYTES, MINOR_VERSION};
use tonic::Status;

use super::unavailable;

/// For one node.
const PATIENCE: Duration = Duration::from_secs(60);

/// The cluster's identity, as every epoch carries it.
pub(super) async fn cluster(client: &Client) -> Result<String, Status> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system = namespaces.get_metadata("kube-system").await.map_err(|error| unavailable(&error))?;
    Ok(system.metadata.uid.unwrap_or_default())
}

/// What an agent is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Whether its keeper would go. Nothing changes.
    Whether,
    /// To have it removed.
    Remove,
}

/// What became of a node's keeper, or would.
pub(super) enum Answer {
    /// It is gone; the UID of the node.
    Gone(String),
    /// The node is down.
    Down,
    /// It stays.
    Kept(String),
}

/// Who asks.
pub(super) struct Caller {
    pub(super) client: Client,
    pub(super) credentials: Arc<Credentials>,
    pub(super) cluster: String,
    pub(super) epoch: u64,
    pub(super) agent_port: u16,
}

impl Caller {
    /// Asks the agent of a node. `gone`: nodes of which it is known that their keeper does not answer any more.
    pub(super) async fn ask(
        &self,
        question: Question,
        name: String,
        gone: BTreeSet<String>,
    ) -> (String, Answer) {
        let answer = match tokio::time::timeout(PATIENCE, self.try_ask(question, &name, &gone)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => Answer::Kept(why),
            Err(_) => Answer::Kept(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        (name, answer)
    }

    async fn try_ask(
        &self,
        question: Question,
        name: &str,
        gone: &BTreeSet<String>,
    ) -> Result<Answer, String> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = nodes.get_opt(name).await.map_err(|error| chain(&error))?;
        let Some(node) = node else { return Ok(Answer::Down) };
        let status = node.status.unwrap_or_default();
        let ready = |kind: &str, state: &str| kind == "Ready" && state == "True";
        if !status.conditions.iter().flatten().any(|condition| ready(&condition.type_, &condition.status)) {
            return Ok(Answer::Down);
        }
        let uid = node.metadata.uid.unwrap_or_default();
        let annotations = node.metadata.annotations.unwrap_or_default();
        let internal = status.addresses.iter().flatten().find(|address| address.type_ == "InternalIP");
        let address = match (annotations.get(liveupdate_crds::AGENT_ADDRESS_ANNOTATION), internal) {
            (Some(address), _) => address.clone(),
            (None, Some(internal)) if internal.address.contains(':') => {
                format!("[{}]:{}", internal.address, self.agent_port)
            }
            (None, Some(internal)) => format!("{}:{}", internal.address, self.agent_port),
            (None, None) => return Err("the Node has no InternalIP".to_owned()),
        };
        let peer = Identity::node(name, &uid);
        let channel = connect(&self.credentials, &peer, &address, DialOptions::default());
        let channel = channel.await.map_err(|error| chain(&error))?;
        let subject = Subject {
            node: name.to_owned(),
            node_uid: uid.clone(),
            epoch: Some(Epoch { cluster: self.cluster.clone(), counter: self.epoch }),
            minor_version: MINOR_VERSION,
            ..Subject::default()
        };
        let mut agent = NodeClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let dry_run = question == Question::Whether;
        match agent.uninstall(UninstallRequest { subject: Some(subject), dry_run }).await {
            Ok(_) => Ok(Answer::Gone(uid)),
            Err(status)
                if Refusal::of(&status) == Some(Refusal::KeeperUnreachable) && gone.contains(&uid) =>
            {
                Ok(Answer::Gone(uid))
            }
            Err(status) => Err(status.message().to_owned()),
        }
    }
}
