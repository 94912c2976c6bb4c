//! What a kernel's image says of itself, before it runs: release, architecture, whether it can be jumped into,
//! its embedded configuration, and the versions of the formats in which state is handed over.
//!
//! ```text
//!  file ─► bzImage: header ─► payload ─► unpack ─┐
//!          vmlinux: ELF segments ────────────────┼─► scan ─► banner, configuration, ABI strings
//!          arm64 Image, EFI zboot ───────────────┘
//! ```
//! Pure: bytes in, facts out. The bytes are somebody else's: everything is bounded, nothing panics, and what
//! cannot be known is told with its reason. Memory stays small however large the unpacked kernel is.

mod arm64;
mod bytes;
mod bzimage;
pub mod config;
pub mod elf;
mod scan;
mod unpack;
mod zboot;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;

use serde::Serialize;

pub use bzimage::BootHeader;
pub use config::Config;
pub use unpack::Compression;

/// Bounds of an inspection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes that a payload may unpack to.
    pub unpacked: u64,
}

impl Default for Limits {
    /// Ten times the largest distribution kernel.
    fn default() -> Self {
        Self { unpacked: 1 << 30 }
    }
}

/// Why a file is no kernel image that anything could be said of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Something else.
    #[error("not a kernel image: {what}")]
    NotAKernel {
        /// What it looks like.
        what: String,
    },
    /// It ends too early.
    #[error("truncated: {what} needs {needed} bytes, the file has {has}")]
    Truncated {
        /// Which part.
        what: &'static str,
        /// To where that part would reach.
        needed: u64,
        /// The file's length.
        has: u64,
    },
    /// Its own account contradicts itself.
    #[error("malformed kernel image: {what}")]
    Malformed {
        /// What is wrong.
        what: String,
    },
}

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Format {
    /// x86's boot image: header, setup, packed kernel.
    BzImage,
    /// The kernel as linked.
    Vmlinux,
    /// arm64's unpacked boot image.
    Arm64Image,
    /// A packed boot image that EFI firmware runs (arm64, riscv, loongarch).
    Zboot,
}

impl Format {
    /// As people call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BzImage => "bzImage",
            Self::Vmlinux => "vmlinux (ELF)",
            Self::Arm64Image => "arm64 Image",
            Self::Zboot => "EFI zboot",
        }
    }
}

/// Result of unpacking the kernel proper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Payload {
    /// How it is packed.
    pub compression: Compression,
    /// Packed bytes.
    pub packed: u64,
    /// Bytes after unpacking; none when it could not be unpacked whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpacked: Option<u64>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Names and versions of the formats that the image can read and write, as found in its strings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Abi {
    /// Kexec handover's own (`kho-v4`).
    pub kho: BTreeSet<String>,
    /// The live update orchestrator's (`luo-v5`).
    pub luo: BTreeSet<String>,
    /// Its handler for memfds (`memfd-v2`).
    pub memfd: BTreeSet<String>,
    /// Other known handlers and parts (`vfio-pci-v1`).
    pub others: BTreeSet<String>,
    /// The driver for devices, where it is built in (`liveupdate.dev/vfio-pci-v1`).
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub driver: BTreeSet<String>,
    /// What the kernel was patched for, as far as it concerns devices.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub patches: BTreeSet<String>,
}

/// All that an image says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelImage {
    /// Kind of file.
    pub format: Format,
    /// As `uname -m` has it; `unknown (…)` for others.
    pub architecture: String,
    /// What `uname -r` will say; none when the image does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The release in the unpacked kernel, where it differs from the header's: one of the two was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_release: Option<String>,
    /// The whole line (`Linux version …`), from the unpacked kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub banner: Option<String>,
    /// What modules must have been built for (`7.3.4-lu1 SMP preempt mod_unload `), where that is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vermagic: Option<String>,
    /// x86's boot header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootHeader>,
    /// The packed kernel; none when it is not packed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Payload>,
    /// The embedded configuration, or why there is none.
    #[serde(serialize_with = "config::serialize_found")]
    pub config: Result<Config, String>,
    /// Formats found. Meaningful only when [`KernelImage::scanned`].
    pub abi: Abi,
}

impl KernelImage {
    /// The whole kernel proper was read: what was not found is not there.
    pub fn scanned(&self) -> bool {
        self.payload.as_ref().is_none_or(|payload| payload.unpacked.is_some())
    }
}

/// Reads an image.
///
/// # Errors
/// [`ImageError`] when the file is no whole kernel image. A payload that cannot be unpacked is no error: the
/// header still tells something, and [`Payload::problem`] tells what went wrong.
pub fn inspect(file: &[u8], limits: Limits) -> Result<KernelImage, ImageError> {
    if file.is_empty() {
        return Err(ImageError::NotAKernel { what: "the file is empty".into() });
    }
    if bzimage::is(file) {
        return bzimage::inspect(file, limits);
    }
    if elf::is(file) {
        return elf::inspect(file, limits);
    }
    if arm64::is(file) {
        return Ok(arm64::inspect(file));
    }
    if zboot::is(file) {
        return zboot::inspect(file, limits);
    }
    Err(ImageError::NotAKernel { what: guess(file).into() })
}

/// The release that the header of a bzImage names, by its first 68 KiB: what it is for certain, only
/// [`inspect`] tells. None when there is no such header, or it names none.
pub fn named_release(head: &[u8]) -> Option<String> {
    if bzimage::is(head) { bzimage::release(head) } else { None }
}

/// Unpacks a whole file into memory.
///
/// # Errors
/// Why that is not possible.
pub(crate) fn unpack_whole(compression: Compression, packed: &[u8], limit: u64) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    unpack::unpack(compression, packed, limit, &mut |piece| plain.extend_from_slice(piece))
        .map_err(|error| error.to_string())?;
    Ok(plain)
}

/// All strings of the driver for devices in a file, such as its module.
pub(crate) fn driver_strings(file: &[u8]) -> BTreeSet<String> {
    scan::driver_strings(file)
}

/// One run of a fuzzer: every reader of this module over the same bytes.
pub fn fuzz_one(bytes: &[u8]) {
    let limits = Limits { unpacked: 1 << 20 };
    // Results are of no interest; that there is one each time is the test.
    let _ = inspect(bytes, limits);
    if let Some(compression) = Compression::detect(bytes) {
        let _ = unpack::unpack(compression, bytes, limits.unpacked, &mut |_| {});
    }
    let mut scanner = scan::Scanner::new();
    scanner.feed(bytes);
    let _ = scanner.finish();
    let _ = elf::section(bytes, b".modinfo");
    let _ = Config::parse(&String::from_utf8_lossy(bytes));
}

/// What a file that is no kernel looks like, for the error.
fn guess(file: &[u8]) -> &'static str {
    if file.starts_with(b"MZ") {
        return "an EFI program without a Linux boot header; of a unified kernel image take its .linux section";
    }
    if file.starts_with(b"070701") || file.starts_with(b"070702") {
        return "a cpio archive; this is an initrd";
    }
    if file.starts_with(b"!<arch>\n") {
        return "a package or archive; take the image out of it";
    }
    if file.starts_with(&[0x27, 0x05, 0x19, 0x56]) {
        return "a U-Boot image; take the kernel out of it";
    }
    if file.starts_with(b"#!") {
        return "a script";
    }
    match Compression::detect(file) {
        Some(_) => {
            "compressed data without a boot header; an initrd, or an image that has to be unpacked first"
        }
        None => "no boot header that is known",
    }
}
