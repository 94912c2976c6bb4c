//! Calls to an agent as the controller would make them, or as a stale one would.

use std::sync::Arc;

use liveupdate_crds::Epoch;
use liveupdate_proto::common::v1::{NodeState, Subject};
use liveupdate_proto::node::v1::InspectRequest;
use liveupdate_proto::node::v1::node_client::NodeClient;
use liveupdate_proto::tls::{Credentials, DialOptions, Identity, connect};
use liveupdate_proto::{MAX_MESSAGE_BYTES, MINOR_VERSION};
use tonic::transport::Channel;

use super::Testbed;
use crate::certs::Validity;
use crate::fleet::SimulatedNode;
use crate::{Error, Result};

/// Sessions of one server are enough.
const PEERS: usize = 1;

impl Testbed {
    /// A client of an agent, with a controller's certificate.
    ///
    /// # Errors
    /// When the certificate cannot be made, or the agent cannot be reached or is another node's.
    pub async fn agent(&self, node: &SimulatedNode) -> Result<NodeClient<Channel>> {
        let fail = |source| Error::Tls { what: "a client of an agent", source };
        let folder = self.plane.run().folder("controllers")?.join("by-hand");
        let certificate = self.certificates.issue(&Identity::Controller, Validity::Current)?;
        certificate.write(self.certificates.authority().certificate_pem(), &folder)?;
        let credentials = Credentials::load(&folder, PEERS).map_err(|error| fail(error.into()))?;
        let peer = Identity::node(node.name(), node.uid());
        let address = node.address().to_string();
        let channel = connect(&Arc::new(credentials), &peer, &address, DialOptions::default()).await;
        let client = NodeClient::new(channel.map_err(|error| fail(error.into()))?);
        Ok(client.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// The state of the node's attempt as its agent tells it; none without one, or when it does not answer.
    pub async fn state_of(&self, node: &SimulatedNode, epoch: &Epoch) -> Option<NodeState> {
        let request = InspectRequest { subject: Some(subject(node, epoch, "")) };
        let reply = self.agent(node).await.ok()?.inspect(request).await.ok()?;
        reply.into_inner().attempt.map(|attempt| attempt.state())
    }
}

/// What a call to a node's agent is about.
pub fn subject(node: &SimulatedNode, epoch: &Epoch, attempt: &str) -> Subject {
    let counter = u64::try_from(epoch.counter).unwrap_or_default();
    Subject {
        node: node.name().to_owned(),
        node_uid: node.uid(),
        attempt: attempt.to_owned(),
        epoch: Some(liveupdate_proto::common::v1::Epoch { cluster: epoch.cluster.clone(), counter }),
        minor_version: MINOR_VERSION,
        ..Subject::default()
    }
}
