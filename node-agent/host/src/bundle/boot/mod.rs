//! Making a bundle's kernel the one that the machine starts from cold: an entry of the Boot Loader Specification
//! (type 1) and systemd-boot's default. Without it the next power cut boots the kernel from before.
//!
//! ```text
//!  BOOT/loader/loader.conf                            default liveupdate-<release>-<12 hex digits>.conf
//!  BOOT/loader/entries/liveupdate-….conf              ours; all others are somebody else's and stay
//!  BOOT/liveupdate/<release>-<12 hex digits>/image    … initrd, shim
//! ```
//! BOOT is where systemd-boot reads `loader/loader.conf` from: the EFI system partition. The hex digits are the
//! bundle's, so that another bundle of the same release replaces nothing that still boots.
//!
//! ```text
//!  take away what no entry to keep names ─► copy the files, synced ─► write the entry ─► set the default
//! ```
//! Each step leaves a machine that boots: the default changes last, in one rename, and names an entry whose files
//! are all on the disk. Killed anywhere, the same call again does what is left. The entry that was the default
//! before is kept and named in a comment of `loader.conf`; our own entries beyond these two go.
//!
//! An EFI variable (`bootctl set-default`) outranks the file. It is not written here: then it is told
//! ([`BootError::Overridden`]) and nothing is changed.

mod disk;
mod entry;
mod plan;

use std::io;
use std::path::{Path, PathBuf};

use super::source::Progress;
use super::{Bundle, BundleError};
use crate::HostError;
use crate::linux::root::{ReadError, Root};
pub use disk::default_entry;

/// What is to start from cold.
#[derive(Clone, Copy, Debug)]
pub struct Persist<'a> {
    /// Folders where the EFI system partition may be mounted, by the machine's own names ([`BOOT`]
    /// by custom); the first that has systemd-boot's configuration counts.
    ///
    /// [`BOOT`]: crate::linux::fallback::BOOT
    pub boot: &'a [String],
    /// The bundle, staged.
    pub bundle: &'a Bundle,
    /// The command line, with what the target appends and removes.
    pub command_line: &'a str,
}

/// What starts from cold now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persisted {
    /// The entry's file name.
    pub entry: String,
    /// The default from before, as `loader.conf` had it; none when it had none.
    pub before: Option<String>,
    /// Something was written; false: it was so already.
    pub changed: bool,
}

/// Why the default was not changed. What starts from cold is what did before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// No boot loader that is known.
    #[error(
        "no systemd-boot was found ({looked}): mount the EFI system partition, name its folder (--boot), or none (--boot none)"
    )]
    NoLoader {
        /// Where it was looked for.
        looked: String,
    },
    /// Something outranks the file's default.
    #[error("{by} outranks the default of loader.conf and names {entry:?}: {remedy}")]
    Overridden {
        /// What.
        by: &'static str,
        /// The entry that it names.
        entry: String,
        /// What would mend it.
        remedy: &'static str,
    },
    /// The command line does not fit into an entry.
    #[error("the command line cannot be written into a boot entry: it has control characters")]
    CommandLine,
    /// The partition has no room.
    #[error("{} has {free} bytes free, {needed} are needed: make room on the boot partition", folder.display())]
    NoRoom {
        /// The boot partition.
        folder: PathBuf,
        /// Bytes that can be written there.
        free: u64,
        /// Bytes that the files take.
        needed: u64,
    },
    /// The bundle is not whole.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Something cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file cannot be written.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
}

impl BootError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

impl From<BootError> for HostError {
    fn from(error: BootError) -> Self {
        match error {
            BootError::Bundle(error) => error.into(),
            BootError::Io { doing, path, source } => {
                Self::Io { what: format!("{doing} {}", path.display()), why: source.to_string() }
            }
            other => Self::Io { what: "make the new kernel the default".into(), why: other.to_string() },
        }
    }
}

/// Makes a bundle's kernel the one that starts from cold. Idempotent; see the [module](self).
///
/// # Errors
/// [`BootError`]; [`BundleError::Cancelled`] within it when `progress` says so.
pub fn persist(root: &Root, wanted: Persist<'_>, progress: Progress<'_>) -> Result<Persisted, BootError> {
    if wanted.command_line.chars().any(char::is_control) {
        return Err(BootError::CommandLine);
    }
    let disk = disk::Disk::find(root, wanted.boot)?;
    let found = disk.read(root)?;
    let plan = plan::plan(&found, &entry::Entry::of(&wanted));
    let changed = disk.carry_out(&plan, wanted.bundle, progress)?;
    Ok(Persisted { entry: plan.entry.name, before: plan.before, changed })
}
