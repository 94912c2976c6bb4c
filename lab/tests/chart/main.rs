//! The chart on a real API server: what it renders, what it refuses, and what each account may do once it is
//! installed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail like tests"
)]

mod approval;
mod bed;
mod documents;
mod generated;
mod golden;
mod handshake;
#[cfg(feature = "vm")]
mod images;
mod install;
mod manifests;
mod monitoring;
mod notes;
mod own_certificates;
mod pod_certificates;
mod rights;
mod rollback;
mod trust;
mod used_rights;
mod values;
