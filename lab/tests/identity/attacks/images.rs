//! Small kernels that say of themselves what real ones do.

use std::io::Write;

/// What a target is built with.
pub(super) const CONFIG: &str =
    "CONFIG_KEXEC_FILE=y\nCONFIG_KEXEC_HANDOVER=y\nCONFIG_LIVEUPDATE=y\nCONFIG_LIVEUPDATE_MEMFD=y\n";

pub(super) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(plain).unwrap();
    writer.finish().unwrap()
}

/// What a kernel says of itself first, and in `/proc/version`.
pub(super) fn banner(release: &str) -> String {
    format!("Linux version {release} (lab@lab) (gcc 12.2.0) #1 SMP\n")
}

/// A boot image that kexec_file_load(2) would take, with this configuration in it.
pub(super) fn kernel(release: &str, config: &str) -> Vec<u8> {
    const SETUP: usize = 5 * 512;
    let mut plain = b"\x7fELF\x02\x01\x01".to_vec();
    plain.resize(64 << 10, 0);
    plain.extend_from_slice(format!("{}\0", banner(release)).as_bytes());
    for format in ["kho-v4", "luo-v5", "memfd-v2"] {
        plain.extend_from_slice(format.as_bytes());
        plain.push(0);
    }
    plain.extend_from_slice(&[b"IKCFG_ST", gzip(config.as_bytes()).as_slice(), b"IKCFG_ED"].concat());
    let payload = gzip(&plain);
    let mut out = vec![0; SETUP];
    let numbers: [(usize, &[u8]); 13] = [
        (0, b"MZ"),
        (0x1f1, &[4]),
        (0x1fe, &[0x55, 0xaa]),
        (0x202, b"HdrS"),
        (0x206, &0x20f_u16.to_le_bytes()),
        (0x20e, &0x600_u16.to_le_bytes()),
        (0x211, &[1]),
        (0x230, &0x20_0000_u32.to_le_bytes()),
        (0x234, &[1]),
        (0x236, &0x7f_u16.to_le_bytes()),
        (0x238, &2047_u32.to_le_bytes()),
        (0x258, &0x100_0000_u64.to_le_bytes()),
        (0x260, &0x200_0000_u32.to_le_bytes()),
    ];
    for (at, bytes) in numbers {
        out[at..at + bytes.len()].copy_from_slice(bytes);
    }
    out[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    let version = format!("{release} (lab@lab) #1 SMP\0");
    out[0x800..0x800 + version.len()].copy_from_slice(version.as_bytes());
    out.extend_from_slice(&payload);
    let paragraphs = (out.len() - SETUP).div_ceil(16);
    out.resize(SETUP + paragraphs * 16, 0);
    out[0x1f4..0x1f8].copy_from_slice(&u32::try_from(paragraphs).unwrap().to_le_bytes());
    out
}
