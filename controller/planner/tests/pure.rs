//! That the planner cannot do I/O: what the node's core is held to.

#[path = "../../../node-agent/core/tests/pure.rs"]
mod pure;
