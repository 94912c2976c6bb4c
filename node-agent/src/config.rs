//! What an agent is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// One agent.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Name of its Node object.
    pub node: String,
    /// UID of its Node object.
    pub node_uid: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Folder with `ca.crt`, `tls.crt` and `tls.key`.
    pub tls_dir: PathBuf,
    /// The controller's enrolment address (`host:port`); without it nobody is knocked at.
    pub controller: Option<String>,
    /// How registries are reached that bundles are fetched from.
    pub registry: liveupdate_registry::Options,
    /// Times and sizes.
    pub limits: Limits,
    /// How it lies.
    #[cfg(feature = "faults")]
    pub misbehaviour: crate::Misbehaviour,
}

impl AgentConfig {
    /// An agent with default limits that knocks at nobody.
    pub fn new(
        node: impl Into<String>,
        node_uid: impl Into<String>,
        listen: SocketAddr,
        tls_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            node: node.into(),
            node_uid: node_uid.into(),
            listen,
            tls_dir: tls_dir.into(),
            controller: None,
            registry: liveupdate_registry::Options::default(),
            limits: Limits::default(),
            #[cfg(feature = "faults")]
            misbehaviour: crate::Misbehaviour::default(),
        }
    }
}

/// Times of an agent.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For Preserving and for Settling each, where the update does not say.
    pub preserve: Duration,
    /// For Staging, where the call does not say.
    pub stage: Duration,
    /// From the receipt until the permission must be there; then the attempt is undone. Long enough for a
    /// controller that was restarted to join.
    pub permission: Duration,
    /// A new agent leaves an attempt that it found under way alone for so long; if nobody runs it by then,
    /// it is undone.
    pub orphan: Duration,
    /// A new agent knocks somewhere within this time, so that a fleet does not knock at once.
    pub knock_spread: Duration,
    /// The longest pause between two tries to knock.
    pub knock_backoff: Duration,
    /// How often facts are compared, so that a change is knocked about; none: never.
    pub watch_facts: Option<Duration>,
    /// How often the keeper is asked how far a return is.
    pub watch_return: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            preserve: Duration::from_mins(5),
            stage: Duration::from_mins(10),
            permission: Duration::from_mins(1),
            orphan: Duration::from_mins(2),
            knock_spread: Duration::from_secs(2),
            knock_backoff: Duration::from_secs(30),
            watch_facts: Some(Duration::from_mins(1)),
            watch_return: Duration::from_millis(250),
        }
    }
}
