//! Small kernels that say of themselves what real ones do, and goldens.

use std::fs;
use std::io::Write;
use std::path::Path;

pub(crate) const CONFIG: &str = "CONFIG_KEXEC_FILE=y\nCONFIG_KEXEC_HANDOVER=y\nCONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT=y\n\
    CONFIG_LIVEUPDATE=y\nCONFIG_LIVEUPDATE_MEMFD=y\nCONFIG_RELOCATABLE=y\nCONFIG_BLK_DEV_NVME=m\n";

pub(crate) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(plain).unwrap();
    writer.finish().unwrap()
}

/// A kernel's strings, as they lie in it.
pub(crate) fn kernel(config: Option<&str>, formats: &[&str]) -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(2 << 20, 0);
    out.extend_from_slice(b"Linux version 7.3.5-lu2 (lab@lab) (gcc 12.2.0) #1 SMP PREEMPT_DYNAMIC\n\0");
    for format in formats {
        out.extend_from_slice(format.as_bytes());
        out.push(0);
    }
    if let Some(config) = config {
        out.extend_from_slice(b"IKCFG_ST");
        out.extend_from_slice(&gzip(config.as_bytes()));
        out.extend_from_slice(b"IKCFG_ED");
    }
    out
}

/// The boot image around a packed kernel.
pub(crate) fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 5 * 512];
    out[0x1f1] = 4;
    for (at, bytes) in [
        (0x1fe, b"\x55\xaa".as_slice()),
        (0x202, b"HdrS"),
        (0x206, &0x20f_u16.to_le_bytes()),
        (0x20e, &0x600_u16.to_le_bytes()),
        (0x211, &[1]),
        (0x230, &0x20_0000_u32.to_le_bytes()),
        (0x234, &[1]),
        (0x236, &0x7f_u16.to_le_bytes()),
        (0x238, &2047_u32.to_le_bytes()),
        (0x24c, &u32::try_from(payload.len()).unwrap().to_le_bytes()),
        (0x260, &0x220_0000_u32.to_le_bytes()),
        (0x800, b"7.3.5-lu2 (lab@lab) #1 SMP\0"),
    ] {
        out[at..at + bytes.len()].copy_from_slice(bytes);
    }
    out.extend_from_slice(payload);
    let paragraphs = (out.len() - 5 * 512).div_ceil(16);
    out.resize(5 * 512 + paragraphs * 16, 0);
    out[0x1f4..0x1f8].copy_from_slice(&u32::try_from(paragraphs).unwrap().to_le_bytes());
    out
}

pub(crate) const FORMATS: [&str; 3] = ["kho-v4", "luo-v5", "memfd-v2"];

/// One that can be updated to.
pub(crate) fn good() -> Vec<u8> {
    bzimage(&gzip(&kernel(Some(CONFIG), &FORMATS)))
}

/// Holds what is printed against a file; `LIVEUPDATE_REFRESH_GOLDENS=1` writes it anew.
pub(crate) fn compare(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("LIVEUPDATE_REFRESH_GOLDENS").is_some() {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{} differs; LIVEUPDATE_REFRESH_GOLDENS=1 writes it anew", path.display());
}
