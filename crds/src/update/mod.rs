//! `LiveUpdate`: one bounded run of a kernel update over a set of nodes.

mod deadlines;
mod devices;
mod selector;
mod spec;
mod status;
mod strategy;
mod target;

pub use deadlines::Deadlines;
pub use devices::{DeviceMatch, DeviceRule, OnShortfall, OnUpdate};
pub use spec::{JoinPolicy, LiveUpdate, LiveUpdateSpec};
pub use status::{
    BlackoutSummary, Counts, Effective, FailingNode, InFlight, LiveUpdateStatus, OutcomeCount, StepStatus,
    WaitingGroup,
};
pub use strategy::{Approval, Cover, OnBlocked, OnFailure, Step, Strategy};
pub use target::{Bundle, Named, Target};
