//! The kernel driver on a kernel that watches it: KASAN, lockdep, the leak detector, handover's own checks, and memory
//! that it does not get. And the kernel's own tests of live update, with the driver loaded.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

mod bed;
mod console;
mod defects;
mod selftests;
mod trial;
