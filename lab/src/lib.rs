//! Everything real on one machine: a Kubernetes control plane, fleets of simulated nodes, QEMU guests with real kernels,
//! and the chart as it is installed. The demos, the integration tests and the benches are built on it.
//!
//! | | |
//! |---|---|
//! | [`control_plane`], [`tools`], [`process`], [`certs`] | etcd and Kubernetes, started and taken down |
//! | [`testbed`], [`fleet`] | that with the controller and simulated nodes |
//! | [`stand_in`], [`install`], [`helm`], [`pod_certificates`] | the chart, where no kubelet runs: its pods' programs as they are rendered |
//! | [`vm`] | guests with real kernels, their devices, the witness; a real node of Kubernetes |
//! | [`registry`], [`folder_machine`] | a registry of images; a machine that is a folder, with bundles in it |
//! | [`demo`], [`demo_vm`], [`mod@bench`], [`bench_blackout`] | what `make demo…` and `make bench…` run |
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
pub mod folder_machine;
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
pub mod trial_bundle;
pub mod vm;
pub mod wait;
pub mod write_proxy;

pub use account::Account;
pub use control_plane::{Audit, ControlPlane, Options};
pub use error::{Error, Result};
pub use folder_machine::FolderMachine;
pub use process::Process;
pub use registry::{Registry, RegistryOptions};
pub use run_dir::RunDir;
pub use test_cluster::TestCluster;
pub use testbed::{Testbed, TestbedOptions};
pub use tools::Tools;
pub use write_proxy::WriteProxy;
