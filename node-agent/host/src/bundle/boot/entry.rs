//! What is written: an entry, and `loader.conf` with another default. Pure.

use std::fmt::Write;

use super::Persist;
use crate::bundle::Part;

/// Our entries' names begin so; others are never touched.
pub(super) const PREFIX: &str = "liveupdate-";
/// And end so.
pub(super) const SUFFIX: &str = ".conf";
/// While they are written, they end so, and boot loaders pass over them.
pub(super) const NEW_SUFFIX: &str = ".new";
/// The folder with our kernels, under the boot partition.
pub(super) const KERNELS: &str = "liveupdate";
/// Before the former default in `loader.conf`.
const BEFORE: &str = "# liveupdate: default before: ";

/// A boot entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its file's name.
    pub(super) name: String,
    /// Its kernel's folder under [`KERNELS`].
    pub(super) folder: String,
    /// The file's text.
    pub(super) text: String,
}

/// Files that go to the boot partition, and their names there.
pub(super) const FILES: [(Part, &str); 3] =
    [(Part::Image, "image"), (Part::Initrd, "initrd"), (Part::Shim, "shim")];

impl Entry {
    pub(super) fn of(wanted: &Persist<'_>) -> Self {
        let manifest = wanted.bundle.manifest();
        // `+` and digits at a name's end count attempts to boot; `~` makes short names on FAT.
        let release = manifest.release.replace(['+', '~'], "_");
        let folder = format!("{release}-{}", &wanted.bundle.digest().hex()[..12]);
        let mut text = String::from("# Written by liveupdate; changes are overwritten.\n");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "title      Linux {} (liveupdate)", manifest.release);
        let _ = writeln!(text, "version    {}", manifest.release);
        let _ = writeln!(text, "sort-key   liveupdate");
        let _ = writeln!(text, "architecture {}", efi_architecture(&manifest.architecture));
        for (part, file) in FILES.into_iter().filter(|(part, _)| manifest.part(*part).is_some()) {
            let key = if part == Part::Image { "linux" } else { "initrd" };
            let _ = writeln!(text, "{key:<10} /{KERNELS}/{folder}/{file}");
        }
        let _ = writeln!(text, "options    {}", wanted.command_line);
        Self { name: format!("{PREFIX}{folder}{SUFFIX}"), folder, text }
    }
}

/// As the specification of boot entries has it; an entry of another architecture is not shown.
fn efi_architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "x64",
        "aarch64" => "aa64",
        other => other,
    }
}

/// What `loader.conf` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loader(String);

impl Loader {
    pub(super) fn parse(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The last of several counts.
    pub(super) fn default(&self) -> Option<&str> {
        self.value("default")
    }

    /// Outranks the default.
    pub(super) fn preferred(&self) -> Option<&str> {
        self.value("preferred")
    }

    /// The default before ours.
    pub(super) fn before(&self) -> Option<&str> {
        self.0.lines().rev().find_map(|line| line.strip_prefix(BEFORE)).map(str::trim)
    }

    /// With another default, and a word on the one before. All other lines stay as they are.
    pub(super) fn with_default(&self, entry: &str, before: Option<&str>) -> String {
        let mut text = String::new();
        let mut line = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        for old in self.0.lines().filter(|old| value(old, "default").is_none() && !old.starts_with(BEFORE)) {
            line(old);
        }
        if let Some(before) = before {
            line(&format!("{BEFORE}{before}"));
        }
        line(&format!("default {entry}"));
        text
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.0.lines().rev().find_map(|line| value(line, key))
    }
}

fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let rest = line.trim_start().strip_prefix(key)?;
    rest.starts_with([' ', '\t']).then(|| rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_replaced_and_all_else_stays() {
        let loader =
            Loader::parse("# mine\ntimeout 3\ndefault\tdebian-*\nconsole-mode max\n default other.conf");
        assert_eq!((loader.default(), loader.before()), (Some("other.conf"), None));
        let text = loader.with_default("liveupdate-1.conf", loader.default());
        assert_eq!(
            text,
            "# mine\ntimeout 3\nconsole-mode max\n# liveupdate: default before: other.conf\ndefault liveupdate-1.conf\n"
        );
        let again = Loader::parse(&text);
        assert_eq!((again.default(), again.before()), (Some("liveupdate-1.conf"), Some("other.conf")));
        assert_eq!(again.with_default("liveupdate-1.conf", again.before()), text);
        assert_eq!(Loader::parse("").with_default("a", None), "default a\n");
        assert_eq!(Loader::parse("defaults x\npreferred p\n").default(), None);
        assert_eq!(Loader::parse("defaults x\npreferred p\n").preferred(), Some("p"));
    }
}
