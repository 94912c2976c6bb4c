//! Who gets a certificate, for how long it is worth something, and what becomes of those who should have none: a
//! real control plane, a controller that keeps its own CA, and agents that enrol with real tokens of real pods.
//! What controllers write down is read from their logs; agents run in this process and write into memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

// Waits longest, for certificates that age: its name has it begin first.
mod ageing;
mod attacks;
mod bed;
mod enrolled;
mod logs;
mod revoked;
mod start;
mod wire;
