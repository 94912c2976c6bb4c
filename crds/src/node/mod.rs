//! `NodeLiveUpdate`: what is known of one node, and the controller's word for it.

mod spec;
mod status;

pub use spec::{NodeLiveUpdate, NodeLiveUpdateSpec};
pub use status::{DeviceStatus, GateStatus, HolderStatus, NodeLiveUpdateStatus, StepTime};
