//! The kernel's log: there is no other place yet.

use std::fs::{File, OpenOptions};
use std::io::Write;

use liveupdate_host::bundle::shim;

/// The kernel's log, or nowhere.
pub(crate) struct Log(Option<File>);

impl Log {
    pub(crate) fn open() -> Self {
        Self(OpenOptions::new().write(true).open(shim::KMSG).ok())
    }

    /// One line; on the console too, unless it is quiet.
    pub(crate) fn say(&self, line: &str) {
        if let Some(mut file) = self.0.as_ref() {
            // One write is one line of the log. Where even that fails, nobody can be told.
            let _ = file.write_all(format!("<5>liveupdate-init: {line}\n").as_bytes());
        }
    }

    /// For a program's own words.
    pub(crate) fn file(&self) -> Option<File> {
        self.0.as_ref()?.try_clone().ok()
    }
}
