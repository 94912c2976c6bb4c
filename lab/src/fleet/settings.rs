//! What a person or test wants of a simulated node right now.

use std::path::PathBuf;

use liveupdate_agent::{Enrolment, Misbehaviour};

/// What shall run on a node. Changed at any time; the node follows.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The agent runs. Without it the node's Preserve goes on, and nobody answers.
    pub agent: bool,
    /// Raise it to have the agent killed and started again.
    pub agent_generation: u32,
    /// Raise it to have the keeper killed and started again (and the agent with it, as it is in one process).
    pub keeper_generation: u32,
    /// The kubelet runs: status is posted and the Lease renewed.
    pub kubelet: bool,
    /// What the kubelet says of the node.
    pub ready: bool,
    /// Folder with the agent's certificate.
    pub tls_dir: PathBuf,
    /// How the agent gets its certificate by itself; it then writes that folder.
    pub enrolment: Option<Enrolment>,
    /// How the agent lies.
    pub misbehaviour: Misbehaviour,
}

impl Settings {
    /// Everything runs and nobody lies.
    pub fn honest(tls_dir: PathBuf) -> Self {
        Self {
            agent: true,
            agent_generation: 0,
            keeper_generation: 0,
            kubelet: true,
            ready: true,
            tls_dir,
            enrolment: None,
            misbehaviour: Misbehaviour::default(),
        }
    }
}
