//! Real kernels in QEMU guests: the kernel's own live update, and the product on it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

mod aborts;
mod again;
mod bed;
mod boot;
mod cadence;
mod ceilings;
mod claims;
mod device_faults;
mod device_targets;
mod devices;
mod holders;
mod images;
mod luo;
mod machine;
#[path = "../masks/mod.rs"]
mod masks;
mod matrix;
mod passthrough;
mod plane;
mod registry;
mod returns;
mod shim;
mod spoilt;
mod successors;
mod summary;
mod targets;
mod update;
