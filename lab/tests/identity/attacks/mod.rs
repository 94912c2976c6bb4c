//! Everybody who should not get in: each is refused, the exact reason stands in the log of whoever refused, and
//! the legitimate one beside it gets in at the same time.
//!
//! Agents that are dialled and have a bad certificate, with what becomes of their nodes: `rollout/credentials`.

mod agents;
mod bundles;
mod certificates;
mod images;
mod messages;
mod numbers;
mod tokens;
mod yard;
