//! Custody and holders together: real processes, sockets and memory; kernels that are replaced in memory.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "helpers of tests are tests")]

mod after;
mod before;
mod claims;
mod devices;
mod hindered;
mod machine;
mod messages;
mod orchestrator;
mod present;
mod room;
mod undone;

/// Two crates say it, since what a VMM is linked with has nothing of the keeper's machine in it.
#[test]
fn holders_look_for_the_keeper_where_it_listens() {
    use liveupdate_host::linux::{machine::Options, root::Root};
    assert_eq!(liveupdate_holder::SOCKET, Options::at(Root::machine()).holders_socket());
}
