//! Everything real on one machine: a Kubernetes control plane, certificates, processes and a proxy that
//! counts writes. The demo, the integration tests and the benches are built on it.
//!
//! ```text
//!  tools ──► binaries of etcd, kube-apiserver, … (built once, cached)
//!    │
//!    ▼
//!  ControlPlane ──► Process (one per component, on a leash) ──► RunDir (data, logs, certificates)
//!    │  ▲
//!    │  └── WriteProxy (between one client and the API server)
//!    ▼
//!  kube::Client, kubeconfig, kubectl, audit log
//! ```
//!
//! Nothing that it starts outlives the process that started it, however that process ends.

pub mod account;
pub mod bench;
pub mod bench_blackout;
pub mod binaries;
mod built;
mod cargo;
pub mod certs;
pub mod commands;
pub mod control_plane;
pub mod demo;
pub mod demo_vm;
pub mod error;
pub mod fleet;
pub mod helm;
pub mod install;
pub mod pod_certificates;
pub mod ports;
pub mod process;
pub mod registry;
pub mod run_dir;
pub mod stand_in;
pub mod test_cluster;
pub mod testbed;
pub mod tools;
pub mod vm;
pub mod wait;
pub mod write_proxy;

pub use account::Account;
pub use control_plane::{Audit, ControlPlane, Options};
pub use error::{Error, Result};
pub use process::Process;
pub use registry::{Registry, RegistryOptions};
pub use run_dir::RunDir;
pub use test_cluster::TestCluster;
pub use testbed::{Testbed, TestbedOptions};
pub use tools::Tools;
pub use write_proxy::WriteProxy;
