//! A real node: systemd, containerd, runc and a kubelet in a QEMU guest, the product installed in it as on any other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

mod bed;
mod update;
