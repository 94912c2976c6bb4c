//! What a bundle says of itself: `manifest.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Digest;
use crate::image::Config;
use crate::linux::gates;
use crate::linux::kexec::COMMAND_LINE_LIMIT;

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";
/// Largest manifest in bytes; more is refused before it is parsed.
pub const LARGEST_MANIFEST: usize = 64 << 10;
/// Version of the format that this build reads and writes.
pub const VERSION: u32 = 1;

/// Longest release: what `utsname` can hold.
const LONGEST_RELEASE: usize = 64;
/// Longest of the other texts.
const LONGEST_TEXT: usize = 256;
/// Most options of the configuration, and most facts of provenance.
const MOST_ENTRIES: usize = 256;

/// A file of a bundle. Names are fixed, so that no manifest can name another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The kernel, as `kexec_file_load(2)` and boot loaders take it.
    Image,
    /// What it starts with.
    Initrd,
    /// `lib/modules/<release>/…`, to be unpacked on the node.
    Modules,
    /// An archive behind the initrd, with `/liveupdate-init`.
    Shim,
}

impl Part {
    /// All, in the order in which they are read.
    pub const ALL: [Self; 4] = [Self::Image, Self::Initrd, Self::Modules, Self::Shim];

    /// Its file name in the bundle's folder.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Initrd => "initrd",
            Self::Modules => "modules.cpio",
            Self::Shim => "shim.cpio",
        }
    }

    /// Its name in the manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Initrd => "initrd",
            Self::Modules => "modules",
            Self::Shim => "shim",
        }
    }

    /// Most bytes that it may have.
    pub const fn largest(self) -> u64 {
        match self {
            Self::Image => 1 << 30,
            // The boot protocol's field for its size has 32 bits, and the shim goes behind it.
            Self::Initrd => (2 << 30) - 1,
            Self::Modules => 4 << 30,
            Self::Shim => 512 << 20,
        }
    }
}

/// One file: how long it is, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    /// Bytes.
    pub size: u64,
    /// Of all of them.
    pub digest: Digest,
}

/// Versions of the formats that the image reads and writes; absent: the image has none, or does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Formats {
    /// `kho-v4`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kho: Option<String>,
    /// `luo-v5`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub luo: Option<String>,
    /// `memfd-v2`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memfd: Option<String>,
}

/// The manifest, as it stands in the file. See the [module](super) for the format as a contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// What `uname -r` will say.
    pub release: String,
    /// As `uname -m` has it.
    pub architecture: String,
    /// The kernel's command line, before a target's `append` and `remove`.
    pub command_line: String,
    /// The kernel.
    pub image: File,
    /// What it starts with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<File>,
    /// Its modules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modules: Option<File>,
    /// The archive behind the initrd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shim: Option<File>,
    /// Formats of the image.
    pub formats: Formats,
    /// Options of the kernel's configuration that decide about a live update (`CONFIG_LIVEUPDATE`: `y`); what
    /// is not named is not set. Absent: whoever made the manifest did not know the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<BTreeMap<String, String>>,
    /// Where it comes from, for people: `builder`, `banner` and what else the builder was told.
    pub provenance: BTreeMap<String, String>,
}

/// Why bytes are no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// More than a manifest may have.
    #[error("it has more than {LARGEST_MANIFEST} bytes")]
    TooLarge,
    /// Not the JSON of a manifest.
    #[error("it cannot be read: {why}")]
    Unreadable {
        /// Where and what.
        why: String,
    },
    /// Of another version.
    #[error(
        "it is of version {found}, this build reads {VERSION}: use the tool and the agent of one release"
    )]
    Version {
        /// Its version.
        found: u32,
    },
    /// A field that cannot be.
    #[error("{field}: {why}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl Manifest {
    /// Reads a manifest. Its size is checked before anything is parsed.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        if bytes.len() > LARGEST_MANIFEST {
            return Err(ManifestError::TooLarge);
        }
        let unreadable = |error: serde_json::Error| ManifestError::Unreadable { why: error.to_string() };
        // First, so that a later version is told as such and not by a field that is not known here.
        let found = serde_json::from_slice::<Versioned>(bytes).map_err(unreadable)?.version;
        if found != VERSION {
            return Err(ManifestError::Version { found });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(unreadable)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The bytes to write: the same manifest gives the same bytes.
    ///
    /// # Errors
    /// [`ManifestError`] when it would not be read again.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| ManifestError::Unreadable { why: error.to_string() })?;
        bytes.push(b'\n');
        if bytes.len() > LARGEST_MANIFEST {
            return Err(ManifestError::TooLarge);
        }
        Ok(bytes)
    }

    /// What it says of a file; none when the bundle has no such file.
    pub fn part(&self, part: Part) -> Option<File> {
        match part {
            Part::Image => Some(self.image),
            Part::Initrd => self.initrd,
            Part::Modules => self.modules,
            Part::Shim => self.shim,
        }
    }

    /// The files that it has.
    pub fn parts(&self) -> impl Iterator<Item = (Part, File)> + '_ {
        Part::ALL.into_iter().filter_map(|part| Some((part, self.part(part)?)))
    }

    /// Bytes of all files together.
    pub fn size(&self) -> u64 {
        self.parts().map(|(_, file)| file.size).sum()
    }

    /// What the gate `TargetKernel` may believe, for a manifest whose signature was checked.
    pub(super) fn vouched(&self) -> gates::Manifest {
        let Formats { kho, luo, memfd } = self.formats.clone();
        let config = self.configuration.as_ref().map(|options| {
            let lines: Vec<String> =
                options.iter().map(|(option, value)| format!("{option}={value}")).collect();
            Config::parse(&lines.join("\n"))
        });
        gates::Manifest { config, formats: gates::Formats { kho, luo, memfd } }
    }

    fn check(&self) -> Result<(), ManifestError> {
        let wrong = |field, why: &str| Err(ManifestError::Field { field, why: why.to_owned() });
        if self.version != VERSION {
            return Err(ManifestError::Version { found: self.version });
        }
        if !is_release(&self.release) {
            return wrong("release", "want what `uname -r` prints: 1 to 64 of A-Z a-z 0-9 . _ + ~ -");
        }
        if !is_word(&self.architecture) {
            return wrong("architecture", "want what `uname -m` prints");
        }
        if self.command_line.len() > COMMAND_LINE_LIMIT {
            return wrong("commandLine", "it is longer than the 2047 bytes that a kernel takes");
        }
        if self.command_line.chars().any(char::is_control) || self.command_line.trim() != self.command_line {
            return wrong("commandLine", "want one line without control characters and blanks around it");
        }
        self.check_files()?;
        let Formats { kho, luo, memfd } = &self.formats;
        if ![kho, luo, memfd].into_iter().flatten().all(|format| is_word(format)) {
            return wrong("formats", "want words such as luo-v5");
        }
        let options = self.configuration.iter().flatten();
        if !options.clone().all(|(name, value)| is_option(name) && is_text(value))
            || options.count() > MOST_ENTRIES
        {
            return wrong("configuration", "want up to 256 of CONFIG_NAME, each with a short value");
        }
        let facts = &self.provenance;
        if facts.len() > MOST_ENTRIES || !facts.iter().all(|(name, fact)| is_word(name) && is_text(fact)) {
            return wrong("provenance", "want up to 256 names, each with a line of at most 256 bytes");
        }
        Ok(())
    }

    fn check_files(&self) -> Result<(), ManifestError> {
        for (part, file) in self.parts() {
            if file.size == 0 || file.size > part.largest() {
                let why = format!("{} bytes; want 1 to {}", file.size, part.largest());
                return Err(ManifestError::Field { field: part.as_str(), why });
            }
        }
        if self.shim.is_some() && self.initrd.is_none() {
            let why = "it needs an initrd, whose init it runs".into();
            return Err(ManifestError::Field { field: "shim", why });
        }
        Ok(())
    }
}

/// Fit for `uname -r`, for a folder, and for a boot entry.
pub(super) fn is_release(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._+~-".contains(&byte);
    (1..=LONGEST_RELEASE).contains(&text.len()) && text.bytes().all(fine) && !text.starts_with(['.', '-'])
}

fn is_word(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST_RELEASE).contains(&text.len()) && text.bytes().all(fine)
}

fn is_option(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= LONGEST_TEXT
        && text.strip_prefix("CONFIG_").is_some_and(|name| !name.is_empty() && name.bytes().all(fine))
}

fn is_text(text: &str) -> bool {
    text.len() <= LONGEST_TEXT && !text.chars().any(char::is_control)
}
