//! The `liveupdate.dev/v1alpha1` API.
//!
//! Three cluster-scoped kinds: [`LiveUpdate`] (what a team asks for), [`NodeLiveUpdate`] (one per node:
//! the controller's word and what is known) and [`LiveUpdatePolicy`] (the platform's floor under all
//! updates). The schema holds only what works; `examples/full.yaml` shows every field.

// KubeSchema copies each type, `pub` and all, into a function.
#![allow(unreachable_pub)]

pub mod amount;
pub mod common;
pub mod conditions;
pub mod definition;
pub mod duration;
pub mod node;
pub mod planned;
pub mod policy;
pub mod revision;
mod rules;
pub mod update;
pub mod verbs;
pub mod yaml;

pub use amount::IntOrPercent;
pub use common::{Acknowledgement, Continuity, Epoch, UpdateRef};
pub use definition::{check, definition, definitions};
pub use duration::DurationString;
/// One enum of reasons for all statuses, conditions and Events; the planner gives them.
pub use liveupdate_planner::Reason;
pub use node::{NodeLiveUpdate, NodeLiveUpdateSpec, NodeLiveUpdateStatus};
pub use policy::{LiveUpdatePolicy, LiveUpdatePolicySpec, Signer};
pub use revision::revision;
pub use update::{LiveUpdate, LiveUpdateSpec, LiveUpdateStatus};

/// The API group of all kinds, and the prefix of every label, annotation, taint and finalizer of ours.
pub const GROUP: &str = "liveupdate.dev";
/// Field manager of every server-side apply by the controller.
pub const FIELD_MANAGER: &str = "liveupdate-controller";
/// Finalizer on a `LiveUpdate`, present only while it has attempts in flight or marks on nodes.
pub const FINALIZER: &str = "liveupdate.dev/in-flight";
/// Key of our own taint (`NoSchedule`); its value is the update's name. Never `unschedulable`.
pub const TAINT_KEY: &str = "liveupdate.dev/updating";
/// Annotation on a Node that carries our taint: `update-uid/attempt-id`, so that it can be cleaned up
/// when the update is gone.
pub const MARK_ANNOTATION: &str = "liveupdate.dev/mark";
/// Annotation on a Node: `host:port` of its agent when it is not `InternalIP:default port`. An
/// untrusted hint: trust is the certificate's node name and UID.
pub const AGENT_ADDRESS_ANNOTATION: &str = "liveupdate.dev/agent-address";
/// The agent's default gRPC port.
pub const AGENT_PORT: u16 = 9443;
