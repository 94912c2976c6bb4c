//! arm64's unpacked boot image (Documentation/arch/arm64/booting.rst): known, so that it can be named.

use super::scan::Scanner;
use super::{Format, KernelImage};

const MAGIC_AT: usize = 0x38;
const MAGIC: &[u8] = b"ARM\x64";

pub(super) fn is(file: &[u8]) -> bool {
    file.get(MAGIC_AT..MAGIC_AT + MAGIC.len()) == Some(MAGIC)
}

pub(super) fn inspect(file: &[u8]) -> KernelImage {
    let mut scanner = Scanner::new();
    scanner.feed(file);
    let found = scanner.finish();
    KernelImage {
        format: Format::Arm64Image,
        architecture: "aarch64".into(),
        release: found.release(),
        other_release: None,
        config: found.config(None),
        banner: found.banner,
        vermagic: found.vermagic,
        boot: None,
        payload: None,
        abi: found.abi,
    }
}
