//! Reading the examples. Each test file takes what it needs.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A path in this crate.
pub(crate) fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// A YAML file of this crate.
pub(crate) fn read(relative: &str) -> Value {
    let text = std::fs::read_to_string(path(relative)).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// The names, without their endings, of the files that must be refused.
pub(crate) fn invalid() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path("tests/invalid"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() > 30, "the folder of invalid examples is nearly empty");
    names
}
