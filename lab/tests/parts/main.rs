//! What the lab is made of, each part by itself: nothing here updates a node.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod certificates;
mod control_plane;
mod no_leftovers;
mod registry;
mod write_proxy;
