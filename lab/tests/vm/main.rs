//! Real kernels in QEMU guests: the kernel's own live update, and the product on it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

mod bed;
mod boot;
mod claims;
mod holders;
mod luo;
mod machine;
mod returns;
mod shim;
mod successors;
mod targets;
mod ten;
mod update;
