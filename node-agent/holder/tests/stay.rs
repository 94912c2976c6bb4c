//! Coming back to a socket that cannot be connected to.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use liveupdate_holder::messages::{Check, Declare, Grant, Resumed, Verdict};
use liveupdate_holder::{Guest, Handover, RunError, Stopped, stay};

/// Nobody ever asks it anything.
struct Vm;

impl Guest for Vm {
    type File = OwnedFd;

    fn declare(&mut self) -> (Declare, Vec<OwnedFd>) {
        unreachable!()
    }
    fn preserve(&mut self) -> Result<(), String> {
        unreachable!()
    }
    fn quiesce(&mut self, _: Duration) -> Result<Stopped, String> {
        unreachable!()
    }
    fn resume(&mut self, _: &str) -> Result<Resumed, String> {
        unreachable!()
    }
    fn attach(&mut self, _: &Grant, _: OwnedFd) -> Result<Vec<Check>, String> {
        unreachable!()
    }
    fn verdict(&mut self, _: &Verdict) {
        unreachable!()
    }
}

/// What the first three tries are told as; then it is ended.
fn tries(path: &Path) -> Vec<Result<(), RunError>> {
    let mut told = Vec::new();
    stay(path, &mut Handover::new("vm-a", Vm), |ended| {
        told.push(match ended {
            Err(RunError::Nobody { path }) => Err(RunError::Nobody { path: path.clone() }),
            Err(RunError::Connect { path, source }) => {
                Err(RunError::Connect { path: path.clone(), source: source.kind().into() })
            }
            other => panic!("{other:?}"),
        });
        told.len() < 3
    });
    told
}

#[test]
fn a_socket_that_is_not_there_yet_is_waited_for_and_any_other_hindrance_is_told() {
    let folder = std::env::temp_dir().join(format!("liveupdate-stay-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let is_quiet = |told: &Result<(), RunError>| matches!(told, Err(RunError::Nobody { .. }));
    let told = tries(&folder.join("holders.sock"));
    assert!(told.iter().all(is_quiet), "it can be ended then, too: {told:?}");

    // As a keeper that has died leaves it.
    let left = folder.join("left.sock");
    std::fs::write(&left, "").unwrap();
    let told = tries(&left);
    assert!(told.iter().all(is_quiet), "{told:?}");

    let (under_a_file, too_long) = (left.join("holders.sock"), folder.join("s".repeat(200)));
    for path in [under_a_file, too_long] {
        let told = tries(&path);
        assert!(!told.iter().any(is_quiet), "{told:?}");
        let text = told[0].as_ref().unwrap_err().to_string();
        assert_eq!(text, format!("cannot connect to the keeper at {}", path.display()));
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
