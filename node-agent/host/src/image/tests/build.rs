//! Small kernels, packed as the kernel's own build packs them.

use std::io::Write;

use crate::image::Compression;

pub(super) const CONFIG: &str = "#\n# Linux/x86 7.3.4 Kernel Configuration\n#\nCONFIG_LIVEUPDATE=y\nCONFIG_LIVEUPDATE_MEMFD=y\n\
    CONFIG_KEXEC_HANDOVER=y\n# CONFIG_KEXEC is not set\nCONFIG_BLK_DEV_NVME=m\nCONFIG_LOCALVERSION=\"-lu1\"\n";
pub(crate) const RELEASE: &str = "7.3.4-lu1";

/// All that the kernel's build offers for x86.
pub(super) const ALL: [Compression; 7] = [
    Compression::Gzip,
    Compression::Bzip2,
    Compression::Lzma,
    Compression::Xz,
    Compression::Lzo,
    Compression::Lz4,
    Compression::Zstd,
];

/// A kernel as it lies in memory: code of no sense, strings, a handler's structure, the configuration.
pub(super) fn kernel(config: Option<&str>, strings: &[&str]) -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    // What compresses well and badly, in turns, longer than any scanner's window.
    for round in 0..3000_u32 {
        out.extend_from_slice(&[0x48, 0x89, 0xe5, 0x5d, 0xc3, 0xcc, 0xcc, 0xe8]);
        out.extend_from_slice(&round.wrapping_mul(2_654_435_761).to_le_bytes());
    }
    out.extend_from_slice(b"\0Linux version %s (%s)\0");
    out.extend_from_slice(format!("Linux version {RELEASE} (lab@lab) (gcc 12.2.0) #1 SMP\n\0").as_bytes());
    for string in strings {
        // As in .data, behind a pointer into the kernel, then as in .rodata.str1.1.
        out.extend_from_slice(&0xffff_ffff_8212_3456_u64.to_le_bytes());
        out.extend_from_slice(string.as_bytes());
        out.push(0);
    }
    // Near misses: a longer string, one without an end, a format, a name of nobody.
    out.extend_from_slice(b"incompatible with 'luo-v9'\0some luo-v8\0luo-v7x\0xkho-v6\0other-v1\0luo-v\0");
    if let Some(config) = config {
        out.extend_from_slice(b"IKCFG_ST");
        out.extend_from_slice(&pack(Compression::Gzip, config.as_bytes()));
        out.extend_from_slice(b"IKCFG_ED");
    }
    out.resize(out.len() + 5000, 0);
    out
}

pub(super) const STRINGS: [&str; 4] = ["kho-v4", "luo-v5", "memfd-v2", "vfio-pci-v1"];

/// The kernel that a live update wants.
pub(crate) fn good_kernel() -> Vec<u8> {
    kernel(Some(CONFIG), &STRINGS)
}

/// One stream, as the command line tools make it.
pub(super) fn pack(compression: Compression, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        Compression::Gzip => {
            let mut writer = flate2::write::GzEncoder::new(&mut out, flate2::Compression::best());
            writer.write_all(plain).unwrap();
            writer.finish().unwrap();
        }
        Compression::Bzip2 => {
            let mut writer = bzip2::write::BzEncoder::new(&mut out, bzip2::Compression::best());
            writer.write_all(plain).unwrap();
            writer.finish().unwrap();
        }
        Compression::Lzma => {
            let options = lzma_rust2::LzmaOptions::with_preset(6);
            let mut writer = lzma_rust2::LzmaWriter::new_use_header(&mut out, &options, None).unwrap();
            writer.write_all(plain).unwrap();
            writer.finish().unwrap();
        }
        Compression::Xz => {
            // As scripts/xz_wrap.sh: CRC32 and the filter for x86.
            let mut options = lzma_rust2::XzOptions::with_preset(6);
            options.set_check_sum_type(lzma_rust2::CheckType::Crc32);
            options.prepend_pre_filter(lzma_rust2::filter::FilterType::BcjX86, 0);
            let mut writer = lzma_rust2::XzWriter::new(&mut out, options).unwrap();
            writer.write_all(plain).unwrap();
            writer.finish().unwrap();
        }
        Compression::Zstd => {
            out = ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest);
        }
        Compression::Lz4 => {
            out.extend_from_slice(&0x184c_2102_u32.to_le_bytes());
            for block in plain.chunks(8 << 20) {
                let packed = lz4_flex::block::compress(block);
                out.extend_from_slice(&u32::try_from(packed.len()).unwrap().to_le_bytes());
                out.extend_from_slice(&packed);
            }
        }
        Compression::Lzo => lzop(plain, &mut out),
        Compression::None | Compression::Unknown => out.extend_from_slice(plain),
    }
    out
}

/// As lzop 1.04 writes a pipe: Adler-32 of the plain data, no name; blocks that do not shrink are stored.
fn lzop(plain: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x89, b'L', b'Z', b'O', 0, 0x0d, 0x0a, 0x1a, 0x0a]);
    out.extend_from_slice(&[0x10, 0x40, 0x20, 0xa0, 0x09, 0x40, 3, 9]);
    out.extend_from_slice(&0x0300_0001_u32.to_be_bytes());
    out.extend_from_slice(&[0; 4 + 8 + 1 + 4]);
    for (index, block) in plain.chunks(256 << 10).enumerate() {
        let packed = lzokay_native::compress(block).unwrap();
        let stored = packed.len() >= block.len() || index == 1;
        let data = if stored { block } else { &packed };
        out.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
        out.extend_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(data);
    }
    out.extend_from_slice(&[0; 4]);
}

/// A payload as the build makes it: gzip by itself, the others with the plain size behind.
pub(crate) fn payload(compression: Compression, plain: &[u8]) -> Vec<u8> {
    let mut packed = pack(compression, plain);
    if compression != Compression::Gzip {
        packed.extend_from_slice(&u32::try_from(plain.len()).unwrap().to_le_bytes());
    }
    packed
}

/// A boot image around a payload.
pub(crate) fn bzimage(release: &str, payload: &[u8]) -> Vec<u8> {
    const SETUP: usize = 5 * 512;
    const BEFORE: usize = 0x3c0;
    let mut out = vec![0; SETUP];
    out[..2].copy_from_slice(b"MZ");
    out[0x1f1] = 4;
    out[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    out[0x202..0x206].copy_from_slice(b"HdrS");
    out[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    out[0x20e..0x210].copy_from_slice(&0x600_u16.to_le_bytes());
    out[0x211] = 1;
    out[0x230..0x234].copy_from_slice(&0x20_0000_u32.to_le_bytes());
    out[0x234] = 1;
    out[0x236..0x238].copy_from_slice(&0x7f_u16.to_le_bytes());
    out[0x238..0x23c].copy_from_slice(&2047_u32.to_le_bytes());
    out[0x248..0x24c].copy_from_slice(&u32::try_from(BEFORE).unwrap().to_le_bytes());
    out[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    out[0x258..0x260].copy_from_slice(&0x100_0000_u64.to_le_bytes());
    out[0x260..0x264].copy_from_slice(&0x200_0000_u32.to_le_bytes());
    let version = format!("{release} (lab@lab) #1 SMP\0");
    out[0x800..0x800 + version.len()].copy_from_slice(version.as_bytes());
    out.resize(SETUP + BEFORE, 0x90);
    out.extend_from_slice(payload);
    let paragraphs = (out.len() - SETUP).div_ceil(16);
    out.resize(SETUP + paragraphs * 16, 0);
    out[0x1f4..0x1f8].copy_from_slice(&u32::try_from(paragraphs).unwrap().to_le_bytes());
    out
}

/// An ELF file with `.modinfo`, and more behind it that is in no section.
pub(crate) fn module(modinfo: &str, more: &[u8]) -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let mut out = vec![0; 64];
    out[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    out[58..60].copy_from_slice(&64_u16.to_le_bytes());
    out[60..62].copy_from_slice(&3_u16.to_le_bytes());
    out[62..64].copy_from_slice(&2_u16.to_le_bytes());
    let (at, length) = (64_u64, modinfo.len() as u64);
    out.extend_from_slice(modinfo.as_bytes());
    out.extend_from_slice(names);
    out.extend_from_slice(more);
    let table = out.len() as u64;
    out[40..48].copy_from_slice(&table.to_le_bytes());
    for (name, offset, length) in [(0_u32, 0, 0), (1, at, length), (10, at + length, names.len() as u64)] {
        let mut header = [0; 64];
        header[..4].copy_from_slice(&name.to_le_bytes());
        header[24..32].copy_from_slice(&offset.to_le_bytes());
        header[32..40].copy_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&header);
    }
    out
}

/// A linked kernel: one loaded segment, and a section that is not loaded and must not count.
pub(super) fn vmlinux(machine: u16, loaded: &[u8], beside: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 64 + 56];
    out[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    out[18..20].copy_from_slice(&machine.to_le_bytes());
    out[32..40].copy_from_slice(&64_u64.to_le_bytes());
    out[54..56].copy_from_slice(&56_u16.to_le_bytes());
    out[56..58].copy_from_slice(&1_u16.to_le_bytes());
    out[64..68].copy_from_slice(&1_u32.to_le_bytes());
    out[72..80].copy_from_slice(&120_u64.to_le_bytes());
    out[96..104].copy_from_slice(&(loaded.len() as u64).to_le_bytes());
    out.extend_from_slice(loaded);
    out.extend_from_slice(beside);
    out
}
