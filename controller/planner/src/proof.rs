//! What a node that came back has to prove, and to whom it is compared.
//!
//! The agent's proof alone never makes a node updated: the boot id and the release in it must be those that
//! the kubelet wrote into the Node object, the node must be Ready, and its Lease must have been renewed
//! since the controller saw the return.

use crate::input::{Node, Proof};
use crate::output::Reason;

/// Whether the jump went to the target: another boot, with the nonce of this attempt (or the node's own record of the jump
/// where it handed nothing over), of this release. The release is not known here for an attempt of an older revision; the
/// node itself compared it then.
pub(crate) fn jump(proof: &Proof, release: Option<&str>) -> Result<(), Reason> {
    let other_boot = !proof.boot_id.is_empty() && proof.boot_id != proof.boot_id_before;
    let right_release = release.is_none_or(|release| release == proof.release);
    if other_boot && right_release && proof.nonce_returned { Ok(()) } else { Err(Reason::WrongKernel) }
}

/// What is missing before the node is verified.
pub(crate) fn missing(proof: &Proof, node: &Node) -> Option<Missing> {
    if node.boot_id != proof.boot_id || node.release != proof.release {
        Some(Missing::Kubelet)
    } else if !node.ready {
        Some(Missing::Ready)
    } else if !node.lease_renewed {
        Some(Missing::Lease)
    } else {
        None
    }
}

/// What is missing before a node is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The kubelet's word differs from the proof.
    Kubelet,
    /// The node is not Ready.
    Ready,
    /// Its Lease was not renewed since the return was seen.
    Lease,
}

impl Missing {
    /// For people.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Kubelet => {
                "back; the kubelet has not written the boot id and release that the agent proved"
            }
            Self::Ready => "back; the Node object is not Ready yet",
            Self::Lease => "back; its Lease was not renewed since",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn proof() -> Proof {
        Proof {
            boot_id: "after".to_string(),
            boot_id_before: "before".to_string(),
            release: "9.1".to_string(),
            nonce_returned: true,
        }
    }

    #[test]
    fn a_jump_is_proven_by_boot_release_and_nonce_together() {
        assert_eq!(jump(&proof(), Some("9.1")), Ok(()));
        let same_boot = Proof { boot_id: "before".to_string(), ..proof() };
        let no_boot = Proof { boot_id: "".to_string(), ..proof() };
        let no_nonce = Proof { nonce_returned: false, ..proof() };
        for bad in [same_boot, no_boot, no_nonce] {
            assert_eq!(jump(&bad, Some("9.1")), Err(Reason::WrongKernel), "{bad:?}");
        }
        assert_eq!(jump(&proof(), Some("9.2")), Err(Reason::WrongKernel));
    }

    #[test]
    fn an_attempt_of_an_older_revision_is_not_held_to_the_new_release() {
        assert_eq!(jump(&proof(), None), Ok(()));
    }
}
