//! The certificates with which controller and agents know each other.

use super::{Authority, Identity, Request, Validity};
use crate::Result;

/// The controller's DNS name in its certificate.
pub const CONTROLLER_NAME: &str = "controller.liveupdate.dev";
/// The controller's identity, checked by agents.
pub const CONTROLLER_URI: &str = "spiffe://liveupdate.dev/controller";

/// An agent's DNS name in its certificate.
pub fn node_name(node: &str) -> String {
    format!("{node}.node.liveupdate.dev")
}

/// An agent's identity, checked by the controller: a node made again under its name is another one.
pub fn node_uri(node: &str, uid: &str) -> String {
    format!("spiffe://liveupdate.dev/node/{node}/{uid}")
}

/// One authority for a fleet. A second one is a foreign authority to the first.
#[derive(Debug)]
pub struct FleetCertificates {
    authority: Authority,
}

impl FleetCertificates {
    /// A new authority.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> Result<FleetCertificates> {
        Ok(FleetCertificates { authority: Authority::new("liveupdate-lab fleet")? })
    }

    /// The authority that both ends must trust.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// For the agent of a node. Another node's name or UID gives the certificate that the controller
    /// must refuse.
    ///
    /// # Errors
    /// When the name is not ASCII.
    pub fn agent(&self, node: &str, uid: &str, validity: Validity) -> Result<Identity> {
        let request = Request::peer(node).dns(node_name(node)).uri(node_uri(node, uid));
        self.authority.issue(&request.validity(validity))
    }

    /// For the controller.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn controller(&self, validity: Validity) -> Result<Identity> {
        let request = Request::peer("controller").dns(CONTROLLER_NAME).uri(CONTROLLER_URI);
        // Agents of the lab reach the enrolment port on loopback.
        self.authority.issue(&request.address([127, 0, 0, 1]).validity(validity))
    }
}
