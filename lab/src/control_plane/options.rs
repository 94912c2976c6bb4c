//! What a control plane should be made of.

use std::path::PathBuf;
use std::time::Duration;

use crate::Account;

/// Choices for [`super::ControlPlane::start`]. The default is all components and no audit log.
#[derive(Clone, Debug)]
pub struct Options {
    /// Garbage collection, evictions, node health. Without it their absence gives false results.
    pub controller_manager: bool,
    /// Binds pods to nodes.
    pub scheduler: bool,
    /// Which requests are written to the audit log.
    pub audit: Audit,
    /// Bearer tokens and whom they stand for.
    pub tokens: Vec<(String, Account)>,
    /// Manifests (files or folders) that are applied before the controller manager starts. Its garbage
    /// collector looks for new kinds only every 30 s, so kinds that tests rely on belong here.
    pub manifests: Vec<PathBuf>,
    /// After how long without a Lease renewal a node is `Unknown`; the component's own default is 50 s.
    pub node_monitor_grace_period: Option<Duration>,
    /// Further flags of kube-apiserver.
    pub api_server_args: Vec<String>,
    /// Further flags of kube-controller-manager.
    pub controller_manager_args: Vec<String>,
    /// Further flags of kube-scheduler.
    pub scheduler_args: Vec<String>,
    /// Until when everything must be ready.
    pub deadline: Duration,
}

/// Which requests are audited, always without bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audit {
    /// None.
    Off,
    /// Those of everybody. Large fleets write a lot of Leases.
    Everybody,
    /// Those of these users.
    Users(Vec<String>),
}

impl Default for Options {
    fn default() -> Options {
        Options {
            controller_manager: true,
            scheduler: true,
            audit: Audit::Off,
            tokens: Vec::new(),
            manifests: Vec::new(),
            node_monitor_grace_period: None,
            api_server_args: Vec::new(),
            controller_manager_args: Vec::new(),
            scheduler_args: Vec::new(),
            // Ready within 5 s on an idle machine; builds may run beside us.
            deadline: Duration::from_secs(90),
        }
    }
}
