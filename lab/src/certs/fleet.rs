//! The certificates with which controller and agents know each other.

use liveupdate_proto::tls::Identity;

use super::{Authority, Certificate, Request, Validity};
use crate::Result;

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

    /// For the controller or the agent of a node. A node's certificate with another name or UID is one
    /// that the controller must refuse; write it with [`Certificate::write`] where the agent reads.
    ///
    /// # Errors
    /// When the name is not ASCII.
    pub fn issue(&self, identity: &Identity, validity: Validity) -> Result<Certificate> {
        self.authority.issue(&request(identity, validity))
    }

    /// The same for somebody else's key, as [`Authority::certify`].
    ///
    /// # Errors
    /// When the name is not ASCII, or the other one's request is none.
    pub fn certify(&self, identity: &Identity, validity: Validity, asked: &[u8]) -> Result<String> {
        self.authority.certify(&request(identity, validity), asked)
    }
}

fn request(identity: &Identity, validity: Validity) -> Request {
    let dns = identity.dns_name();
    Request::peer(&dns).dns(&dns).uri(identity.uri()).validity(validity)
}
