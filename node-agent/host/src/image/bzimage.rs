//! x86's boot image (Documentation/arch/x86/boot.rst).

use serde::Serialize;

use super::bytes::{c_string, part, u16_le, u32_le, u64_le};
use super::scan::Scanner;
use super::unpack::Unpacked;
use super::{Format, ImageError, KernelImage, Limits, Payload, unpack};

/// Offsets in the file, as boot.rst has them.
mod at {
    pub(super) const SETUP_SECTS: usize = 0x1f1;
    pub(super) const SYSSIZE: usize = 0x1f4;
    pub(super) const BOOT_FLAG: usize = 0x1fe;
    pub(super) const MAGIC: usize = 0x202;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const KERNEL_VERSION: usize = 0x20e;
    pub(super) const LOADFLAGS: usize = 0x211;
    pub(super) const KERNEL_ALIGNMENT: usize = 0x230;
    pub(super) const RELOCATABLE: usize = 0x234;
    pub(super) const XLOADFLAGS: usize = 0x236;
    pub(super) const CMDLINE_SIZE: usize = 0x238;
    pub(super) const PAYLOAD_OFFSET: usize = 0x248;
    pub(super) const PAYLOAD_LENGTH: usize = 0x24c;
    pub(super) const PREF_ADDRESS: usize = 0x258;
    pub(super) const INIT_SIZE: usize = 0x260;
    pub(super) const END: usize = 0x264;
}

const SECTOR: u64 = 512;
const LONGEST_VERSION: usize = 512;

/// What the header says, as far as it matters for a jump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BootHeader {
    /// Version of the boot protocol, `2.15`.
    pub protocol: String,
    /// Sectors of real-mode code after the first.
    pub setup_sectors: u8,
    /// It is loaded high (at 1 MiB or above), as every bzImage is.
    pub loaded_high: bool,
    /// It can run where it is loaded (CONFIG_RELOCATABLE).
    pub relocatable: bool,
    /// Names of the XLF flags that are set.
    pub flags: Vec<&'static str>,
    /// Bytes of contiguous memory that it needs before it can read the memory map.
    pub init_size: u32,
    /// Alignment of where it is loaded, in bytes.
    pub alignment: u32,
    /// Where it would like to be loaded.
    pub preferred_address: u64,
    /// Longest command line in bytes, without the final zero.
    pub command_line_limit: u32,
    /// Why kexec_file_load(2) would refuse the image; empty when it would not.
    pub kexec_problems: Vec<String>,
}

const FLAGS: [(u16, &str); 8] = [
    (0, "KERNEL_64"),
    (1, "CAN_BE_LOADED_ABOVE_4G"),
    (2, "EFI_HANDOVER_32"),
    (3, "EFI_HANDOVER_64"),
    (4, "EFI_KEXEC"),
    (5, "5LEVEL"),
    (6, "5LEVEL_ENABLED"),
    (7, "MEM_ENCRYPTION"),
];

/// Whether it has the header's two magic numbers.
pub(super) fn is(file: &[u8]) -> bool {
    u16_le(file, at::BOOT_FLAG) == Some(0xaa55) && file.get(at::MAGIC..at::MAGIC + 4) == Some(b"HdrS")
}

pub(super) fn inspect(file: &[u8], limits: Limits) -> Result<KernelImage, ImageError> {
    let has = file.len() as u64;
    let header =
        read(file).ok_or(ImageError::Truncated { what: "the boot header", needed: at::END as u64, has })?;
    let setup = (u64::from(header.setup_sectors) + 1) * SECTOR;
    let system = u64::from(u32_le(file, at::SYSSIZE).unwrap_or(0)) * 16;
    // The last paragraph may be cut short: syssize counts whole ones.
    if has + 15 < setup + system {
        return Err(ImageError::Truncated { what: "setup and system", needed: setup + system, has });
    }
    let length = u64::from(u32_le(file, at::PAYLOAD_LENGTH).unwrap_or(0));
    let offset = u64::from(u32_le(file, at::PAYLOAD_OFFSET).unwrap_or(0)) + setup;
    if length == 0 {
        let what = "its boot protocol tells of no payload (older than 2.08)".to_owned();
        return Err(ImageError::Malformed { what });
    }
    let packed = part(file, offset, length).ok_or(ImageError::Truncated {
        what: "the packed kernel",
        needed: offset + length,
        has,
    })?;

    let mut scanner = Scanner::new();
    let Unpacked { compression, outcome } =
        unpack::kernel(packed, limits.unpacked, &mut |chunk| scanner.feed(chunk));
    let found = scanner.finish();
    let (unpacked, problem) = match outcome {
        Ok(size) => (Some(size), None),
        Err(problem) => (None, Some(problem)),
    };
    let payload = Payload { compression, packed: length, unpacked, problem };
    let release = release(file).or_else(|| found.release());
    let other_release = found.release().filter(|inner| release.as_ref() != Some(inner));
    let bits64 = header.flags.contains(&"KERNEL_64");
    Ok(KernelImage {
        format: Format::BzImage,
        architecture: if bits64 { "x86_64" } else { "i686" }.into(),
        release,
        other_release,
        config: found.config(payload.problem.as_deref()),
        banner: found.banner,
        vermagic: found.vermagic,
        abi: found.abi,
        boot: Some(header),
        payload: Some(payload),
    })
}

fn read(file: &[u8]) -> Option<BootHeader> {
    let version = u16_le(file, at::VERSION)?;
    // Zero means four, for reasons of history.
    let setup_sectors = match *file.get(at::SETUP_SECTS)? {
        0 => 4,
        sectors => sectors,
    };
    let xlf = if version >= 0x20c { u16_le(file, at::XLOADFLAGS)? } else { 0 };
    let mut header = BootHeader {
        protocol: format!("{}.{:02}", version >> 8, version & 0xff),
        setup_sectors,
        loaded_high: file.get(at::LOADFLAGS)? & 1 != 0,
        relocatable: *file.get(at::RELOCATABLE)? != 0,
        flags: FLAGS.iter().filter(|(bit, _)| xlf & (1 << bit) != 0).map(|(_, name)| *name).collect(),
        init_size: u32_le(file, at::INIT_SIZE)?,
        alignment: u32_le(file, at::KERNEL_ALIGNMENT)?,
        preferred_address: u64_le(file, at::PREF_ADDRESS)?,
        command_line_limit: u32_le(file, at::CMDLINE_SIZE)?,
        kexec_problems: Vec::new(),
    };
    header.kexec_problems = problems(&header, version);
    Some(header)
}

/// What `bzImage64_probe()` of the running kernel looks at.
fn problems(header: &BootHeader, version: u16) -> Vec<String> {
    let mut problems = Vec::new();
    if version < 0x20c {
        problems.push(format!("boot protocol {} is older than 2.12", header.protocol));
    }
    if !header.loaded_high {
        problems.push("it is a zImage, which is loaded low".into());
    }
    if !header.flags.contains(&"KERNEL_64") {
        problems.push("it has no 64-bit entry point (XLF_KERNEL_64)".into());
    }
    if !header.flags.contains(&"CAN_BE_LOADED_ABOVE_4G") {
        problems.push("it cannot be loaded above 4 GiB: build it with CONFIG_RELOCATABLE=y".into());
    }
    problems
}

/// First word of the version string.
pub(super) fn release(file: &[u8]) -> Option<String> {
    let pointer = u16_le(file, at::KERNEL_VERSION).filter(|pointer| *pointer != 0)?;
    let text = c_string(file, usize::from(pointer) + 0x200, LONGEST_VERSION)?;
    let word = std::str::from_utf8(text).ok()?.split_whitespace().next()?;
    let fit = word.bytes().all(|byte| byte.is_ascii_graphic());
    (fit && word.starts_with(|first: char| first.is_ascii_digit())).then(|| word.to_owned())
}
