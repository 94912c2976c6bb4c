//! A packed image that EFI firmware unpacks and runs (drivers/firmware/efi/libstub/zboot-header.S): no
//! architecture of ours uses it, and it is read so that it can be named.

use super::bytes::{part, u16_le, u32_le};
use super::scan::Scanner;
use super::{Compression, Format, ImageError, KernelImage, Limits, Payload, unpack};

const NEW_HEADER_AT: usize = 0x3c;

pub(super) fn is(file: &[u8]) -> bool {
    file.starts_with(b"MZ") && file.get(4..8) == Some(b"zimg")
}

pub(super) fn inspect(file: &[u8], limits: Limits) -> Result<KernelImage, ImageError> {
    let has = file.len() as u64;
    let header = || Some((u64::from(u32_le(file, 8)?), u64::from(u32_le(file, 12)?)));
    let (offset, length) =
        header().ok_or(ImageError::Truncated { what: "the zboot header", needed: 64, has })?;
    let packed = part(file, offset, length).ok_or(ImageError::Truncated {
        what: "the packed kernel",
        needed: offset + length,
        has,
    })?;
    let mut scanner = Scanner::new();
    let compression = Compression::detect(packed).unwrap_or(Compression::Unknown);
    let outcome = unpack::unpack(compression, packed, limits.unpacked, &mut |piece| scanner.feed(piece));
    let found = scanner.finish();
    let (unpacked, problem) = match outcome {
        Ok(size) => (Some(size), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let payload = Payload { compression, packed: length, unpacked, problem };
    Ok(KernelImage {
        format: Format::Zboot,
        architecture: architecture(file),
        release: found.release(),
        other_release: None,
        config: found.config(payload.problem.as_deref()),
        banner: found.banner,
        vermagic: found.vermagic,
        boot: None,
        payload: Some(payload),
        abi: found.abi,
    })
}

/// By the machine type of the PE header.
fn architecture(file: &[u8]) -> String {
    let machine = u32_le(file, NEW_HEADER_AT)
        .and_then(|at| usize::try_from(at).ok()?.checked_add(4))
        .and_then(|at| u16_le(file, at));
    match machine {
        Some(0xaa64) => "aarch64".into(),
        Some(0x5064) => "riscv64".into(),
        Some(0x6264) => "loongarch64".into(),
        Some(other) => format!("unknown (PE machine {other:#06x})"),
        None => "unknown".into(),
    }
}
