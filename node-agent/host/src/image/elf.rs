//! ELF files, as far as kernels and their modules need: what is loaded, and a section by its name.

use super::bytes::{array, part};
use super::scan::Scanner;
use super::{Format, ImageError, KernelImage, Limits};

const MAGIC: &[u8] = b"\x7fELF";
const LOADED: u32 = 1;
const NO_BITS: u32 = 8;

/// Whether it begins as ELF files do.
pub(super) fn is(file: &[u8]) -> bool {
    file.starts_with(MAGIC)
}

pub(super) fn inspect(file: &[u8], limits: Limits) -> Result<KernelImage, ImageError> {
    let elf = Elf::new(file)?;
    let segments = elf.loaded(limits.unpacked)?;
    if segments.is_empty() {
        let what = "an ELF file that loads nothing (a module or an object file)".to_owned();
        return Err(ImageError::NotAKernel { what });
    }
    let mut scanner = Scanner::new();
    for segment in segments {
        scanner.feed(segment);
        // Strings do not run on from one segment into the next.
        scanner.feed(&[0]);
    }
    let found = scanner.finish();
    if found.banner.is_none() {
        let what = "an ELF program without a kernel's version".to_owned();
        return Err(ImageError::NotAKernel { what });
    }
    Ok(KernelImage {
        format: Format::Vmlinux,
        architecture: elf.architecture(),
        release: found.release(),
        other_release: None,
        config: found.config(None),
        banner: found.banner,
        vermagic: found.vermagic,
        boot: None,
        payload: None,
        abi: found.abi,
    })
}

/// The contents of a section, if there is one of that name.
///
/// # Errors
/// [`ImageError`] when it is no ELF file, or its tables lie outside of it.
pub fn section<'a>(file: &'a [u8], name: &[u8]) -> Result<Option<&'a [u8]>, ImageError> {
    Elf::new(file)?.section(name)
}

struct Elf<'a> {
    file: &'a [u8],
    wide: bool,
    big: bool,
}

impl<'a> Elf<'a> {
    fn new(file: &'a [u8]) -> Result<Self, ImageError> {
        if !is(file) {
            return Err(ImageError::NotAKernel { what: "no ELF file".into() });
        }
        let truncated = ImageError::Truncated { what: "the ELF header", needed: 64, has: file.len() as u64 };
        let (class, data) = file.get(4).zip(file.get(5)).ok_or_else(|| truncated.clone())?;
        let elf = Self { file, wide: *class == 2, big: *data == 2 };
        elf.u16(if elf.wide { 62 } else { 50 }).map(|_| elf).ok_or(truncated)
    }

    fn u16(&self, at: u64) -> Option<u16> {
        let bytes = array(self.file, usize::try_from(at).ok()?)?;
        Some(if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(&self, at: u64) -> Option<u32> {
        let bytes = array(self.file, usize::try_from(at).ok()?)?;
        Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// A number as wide as the file's addresses.
    fn word(&self, at: u64) -> Option<u64> {
        if !self.wide {
            return self.u32(at).map(u64::from);
        }
        let bytes = array(self.file, usize::try_from(at).ok()?)?;
        Some(if self.big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// The one or the other, by the file's class.
    fn at(&self, wide: u64, narrow: u64) -> u64 {
        if self.wide { wide } else { narrow }
    }

    fn architecture(&self) -> String {
        match self.u16(18) {
            Some(62) => "x86_64".into(),
            Some(3) => "i686".into(),
            Some(183) => "aarch64".into(),
            Some(243) => "riscv64".into(),
            Some(258) => "loongarch64".into(),
            Some(22) => "s390x".into(),
            Some(21) if self.big => "ppc64".into(),
            Some(21) => "ppc64le".into(),
            Some(other) => format!("unknown (ELF machine {other})"),
            None => "unknown".into(),
        }
    }

    /// Contents of all loaded segments, which are no more than `most` bytes: any number of headers may name the same.
    fn loaded(&self, most: u64) -> Result<Vec<&'a [u8]>, ImageError> {
        let table = self.word(self.at(32, 28)).unwrap_or(0);
        let size = u64::from(self.u16(self.at(54, 42)).unwrap_or(0));
        let count = u64::from(self.u16(self.at(56, 44)).unwrap_or(0));
        let wanted = self.at(56, 32);
        if count > 0 && size != wanted {
            let what =
                format!("its program headers are of {size} bytes each, those of ELF files are of {wanted}");
            return Err(ImageError::Malformed { what });
        }
        let (mut found, mut total) = (Vec::new(), 0_u64);
        for index in 0..count {
            let header = table.saturating_add(index * size);
            let kind = self.u32(header).ok_or_else(|| self.outside("a program header", header))?;
            if kind != LOADED {
                continue;
            }
            let range = || {
                let offset = self.word(header.checked_add(self.at(8, 4))?)?;
                let length = self.word(header.checked_add(self.at(32, 16))?)?;
                Some((offset, length))
            };
            let (offset, length) = range().ok_or_else(|| self.outside("a program header", header))?;
            let segment = part(self.file, offset, length)
                .ok_or_else(|| self.outside("a loaded segment", offset.saturating_add(length)))?;
            total = total.saturating_add(length);
            if total > most {
                let what = format!("its segments are of more than {most} bytes together");
                return Err(ImageError::Malformed { what });
            }
            found.push(segment);
        }
        Ok(found)
    }

    fn section(&self, name: &[u8]) -> Result<Option<&'a [u8]>, ImageError> {
        let count = u64::from(self.u16(self.at(60, 48)).unwrap_or(0));
        let names = u64::from(self.u16(self.at(62, 50)).unwrap_or(0));
        if count == 0 {
            return Ok(None);
        }
        let names = self.contents(names)?;
        for index in 0..count {
            let header = self.header(index);
            let at = self.u32(header).ok_or_else(|| self.outside("a section header", header))?;
            let found = usize::try_from(at).ok().and_then(|at| names.get(at..));
            let matches = found.is_some_and(|text| {
                text.strip_prefix(name).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
            });
            if matches {
                return self.contents(index).map(Some);
            }
        }
        Ok(None)
    }

    fn header(&self, index: u64) -> u64 {
        let table = self.word(self.at(40, 32)).unwrap_or(0);
        let size = u64::from(self.u16(self.at(58, 46)).unwrap_or(0));
        table.saturating_add(index * size)
    }

    fn contents(&self, index: u64) -> Result<&'a [u8], ImageError> {
        let header = self.header(index);
        let range = || {
            let kind = self.u32(header.checked_add(4)?)?;
            let offset = self.word(header.checked_add(self.at(24, 16))?)?;
            let length = self.word(header.checked_add(self.at(32, 20))?)?;
            Some((offset, if kind == NO_BITS { 0 } else { length }))
        };
        let (offset, length) = range().ok_or_else(|| self.outside("a section header", header))?;
        part(self.file, offset, length)
            .ok_or_else(|| self.outside("a section", offset.saturating_add(length)))
    }

    fn outside(&self, what: &'static str, needed: u64) -> ImageError {
        ImageError::Truncated { what, needed, has: self.file.len() as u64 }
    }
}
