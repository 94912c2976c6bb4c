//! What a person reads of a bundle.

use std::fmt::Write as _;

use liveupdate_host::bundle::Bundle;

use super::size;

/// Lines with a name in front of each.
#[derive(Default)]
pub(super) struct Lines(String);

impl Lines {
    pub(super) fn line(&mut self, name: &str, value: &str) {
        // Writing into a String cannot fail.
        let _ = writeln!(self.0, "{name:<15}{value}");
    }

    /// What the manifest says.
    pub(super) fn manifest(&mut self, bundle: &Bundle) {
        let manifest = bundle.manifest();
        self.line("Release:", &format!("{}, {}", manifest.release, manifest.architecture));
        for (part, file) in manifest.parts() {
            self.line(&format!("{}:", capital(part.as_str())), &size(file.size));
        }
        self.line(
            "Command line:",
            if manifest.command_line.is_empty() { "none" } else { &manifest.command_line },
        );
        let formats = &manifest.formats;
        let names: Vec<&str> =
            [&formats.kho, &formats.luo, &formats.memfd].into_iter().flatten().map(String::as_str).collect();
        self.line("Formats:", &if names.is_empty() { "none".to_owned() } else { names.join(", ") });
        match &manifest.configuration {
            Some(options) => self.line("Configuration:", &format!("{} options of interest", options.len())),
            None => self.line("Configuration:", "not known"),
        }
        for (number, (name, fact)) in manifest.provenance.iter().enumerate() {
            self.line(if number == 0 { "Provenance:" } else { "" }, &format!("{name}: {fact}"));
        }
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}
