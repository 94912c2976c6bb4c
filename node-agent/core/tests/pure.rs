//! That a pure crate cannot do I/O: it is `no_std`, and so is all that it depends on. The planner runs this file, too.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::Command;

/// All that may be linked into a pure crate: the others.
const ALLOWED: &[&str] = &["liveupdate-node-core", "liveupdate-planner"];

/// Crates of the tree below this one, by what `cargo` itself resolves: normal and build dependencies, for
/// every platform and with every feature.
fn tree() -> Vec<(String, String)> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--all-features", "--target", "all"])
        .args(["--edges", "normal,build", "--prefix", "none", "--no-dedupe", "--format", "{p}"])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .output()
        .expect("cargo can be run");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let lines = String::from_utf8(tree.stdout).unwrap();
    // "liveupdate-node-core v0.1.0 (/where/it/is)"
    let one = |line: &str| {
        let (name, rest) = line.split_once(' ')?;
        let folder = rest.rsplit_once('(').map(|(_, folder)| folder.trim_end_matches(')'));
        Some((name.to_owned(), folder.unwrap_or_default().to_owned()))
    };
    lines.lines().filter_map(one).collect()
}

#[test]
fn nothing_in_the_dependency_tree_can_do_io() {
    let tree = tree();
    assert_eq!(tree.first().map(|(name, _)| name.as_str()), Some(env!("CARGO_PKG_NAME")));
    for (name, folder) in tree {
        assert!(
            ALLOWED.contains(&name.as_str()),
            "{} must stay pure: it may not depend on {name}",
            env!("CARGO_PKG_NAME")
        );
        let folder = Path::new(&folder);
        assert!(!folder.join("build.rs").exists(), "{name} has a build script");
        let source = std::fs::read_to_string(folder.join("src/lib.rs")).expect("it is a crate of ours");
        let attributes = source.lines().map(str::trim);
        assert!(attributes.clone().any(|line| line == "#![no_std]"), "{name} is not no_std");
    }
}

#[test]
fn std_is_nowhere_linked_by_hand() {
    fn look(folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(&path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(&path).unwrap();
                let linked = source.lines().find(|line| line.trim_start().starts_with("extern crate std"));
                assert_eq!(linked, None, "{}", path.display());
            }
        }
    }
    look(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")));
}
