//! Killed at any byte of staging: no bundle, or a whole one.

use std::path::Path;
use std::process::Command;

use liveupdate_host::bundle::{Limits, Store};

use crate::make::{Folder, on, write};

const ROOT: &str = "LIVEUPDATE_TEST_KILL_ROOT";
const AT: &str = "LIVEUPDATE_TEST_KILL_AT";
const LIMITS: Limits = Limits { keep: 2, reserve: 0 };

/// The process that dies: this test in a child with these variables; without them it does nothing.
#[test]
fn stages_and_dies() {
    let (Some(root), Ok(at)) = (std::env::var_os(ROOT), std::env::var(AT)) else { return };
    let at: u64 = at.parse().unwrap();
    let digest = write(&Path::new(&root).join("b"), 0);
    let mut calls = 0;
    let _ = Store::at(root, LIMITS).stage("b", digest, &[], &mut |_, _| {
        calls += 1;
        if calls > at {
            std::process::abort();
        }
        true
    });
    std::process::exit(3);
}

#[test]
fn invariant_6_killed_at_any_point_staging_ends_with_no_bundle_or_a_whole_one() {
    let mut died = 0;
    // Each chunk, and once past the last one.
    for at in 0..12 {
        let root = Folder::new();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::stages_and_dies", "--nocapture"])
            .env(ROOT, root.path())
            .env(AT, at.to_string())
            .output()
            .unwrap()
            .status;
        died += u32::from(status.code().is_none());
        let digest = write(&root.at("b"), 0);
        let store = Store::at(root.path(), LIMITS);
        if let Some(bundle) = store.staged(digest).unwrap() {
            bundle.verify(&mut on).unwrap();
            assert_eq!(status.code(), Some(3), "whole although it died at {at}");
        } else {
            assert!(status.code().is_none(), "nothing although it lived: {status}");
            assert!(root.names().iter().any(|name| name.starts_with(".staging-")) || at == 0, "{at}");
        }
        store.stage("b", digest, &[], &mut on).unwrap().verify(&mut on).unwrap();
        assert!(!root.names().iter().any(|name| name.starts_with(".staging-")));
    }
    assert!((5..12).contains(&died), "died {died} times");
}
