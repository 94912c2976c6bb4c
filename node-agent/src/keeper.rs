//! The keeper, as the agent sees it.

use liveupdate_proto::keeper::v1::{Reply, Request};

/// Speaks to the keeper of this node. Synchronous, as the keeper is; called on blocking threads. Where the
/// keeper is a process of its own this is its socket, else the keeper itself.
pub trait Keeper: Send + Sync + 'static {
    /// Sends one request and waits for its reply.
    fn ask(&self, request: &Request) -> Result<Reply, KeeperError>;
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeeperError {
    /// Nobody answers.
    #[error("the keeper cannot be reached ({why}); see whether its unit runs")]
    Unreachable {
        /// What the system said.
        why: String,
    },
    /// It answers nonsense.
    #[error("the keeper's answer makes no sense: {why}")]
    Nonsense {
        /// What is wrong with it.
        why: String,
    },
    /// The machine has jumped or is off.
    #[error("the machine is off or has booted again")]
    PoweredOff,
}
