//! What an agent is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// One agent.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Name of its Node object.
    pub node: String,
    /// UID of its Node object; with [`AgentConfig::enrolment`] the certificate says it.
    pub node_uid: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Folder with `ca.crt`, `tls.crt` and `tls.key`.
    pub tls_dir: PathBuf,
    /// The controller's enrolment address (`host:port`); without it the agent calls no controller.
    pub controller: Option<String>,
    /// How it gets its certificate by itself; without it the files in `tls_dir` are somebody else's to write.
    pub enrolment: Option<Enrolment>,
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
            enrolment: None,
            registry: liveupdate_registry::Options::default(),
            limits: Limits::default(),
            #[cfg(feature = "faults")]
            misbehaviour: crate::Misbehaviour::default(),
        }
    }
}

/// What an agent needs to get a certificate of the controller.
#[derive(Clone, Debug)]
pub struct Enrolment {
    /// File with the pod's projected token for the enrolment's audience; read anew for each use.
    pub token: PathBuf,
    /// File with the CAs that are trusted; a change of it is taken over.
    pub trust: PathBuf,
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
    /// How often the file with the trusted CAs is looked at.
    pub watch_trust: Duration,
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
            watch_trust: Duration::from_secs(10),
        }
    }
}
