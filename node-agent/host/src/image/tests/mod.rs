//! What images say, and that no bytes do harm.

pub(crate) mod build;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{Compression, Config, Format, ImageError, KernelImage, Limits, config, fuzz_one, inspect};
use build::{ALL, CONFIG, RELEASE, STRINGS, bzimage, good_kernel, kernel, pack, payload, vmlinux};

fn read(file: &[u8]) -> KernelImage {
    inspect(file, Limits::default()).unwrap()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn every_compression_of_the_kernel_is_seen_through() {
    let plain = good_kernel();
    for compression in ALL {
        let image = read(&bzimage(RELEASE, &payload(compression, &plain)));
        let packed = image.payload.clone().unwrap();
        assert_eq!((packed.compression, packed.problem), (compression, None));
        assert_eq!(packed.unpacked, Some(plain.len() as u64), "{compression:?}");
        assert!(image.scanned());
        assert_eq!((image.format, image.architecture.as_str()), (Format::BzImage, "x86_64"));
        assert_eq!(image.release.as_deref(), Some(RELEASE));
        assert_eq!(image.other_release, None);
        assert_eq!(image.config, Ok(Config::parse(CONFIG)), "{compression:?}");
        assert_eq!(image.abi.kho, set(&["kho-v4"]), "{compression:?}");
        assert_eq!(image.abi.luo, set(&["luo-v5"]));
        assert_eq!(image.abi.memfd, set(&["memfd-v2"]));
        assert_eq!(image.abi.others, set(&["vfio-pci-v1"]));
    }
}

/// A keeper's thread has 256 KiB for all that a request leads to, locked in memory.
#[test]
fn every_compression_is_seen_through_in_the_room_that_a_keepers_thread_has() {
    let plain = good_kernel();
    for compression in ALL {
        let file = bzimage(RELEASE, &payload(compression, &plain));
        let thread = std::thread::Builder::new().stack_size(192 << 10);
        let seen = thread.spawn(move || read(&file).scanned()).unwrap();
        assert!(seen.join().unwrap(), "{compression:?}");
    }
}

#[test]
fn strings_across_the_pieces_of_a_stream_are_found_and_parts_of_longer_ones_are_not() {
    // Pieces end at every 64 KiB of the stream: each padding moves the strings over that border.
    for padding in 0..40 {
        let mut plain = b"\x7fELF".to_vec();
        plain.resize((64 << 10) - padding, 0xcc);
        for text in ["xluo-v6", "luo-v5", "kho-v4"] {
            plain.push(0xff);
            plain.extend_from_slice(text.as_bytes());
            plain.push(0);
        }
        let image = read(&bzimage(RELEASE, &payload(Compression::Gzip, &plain)));
        assert_eq!((image.abi.luo, image.abi.kho), (set(&["luo-v5"]), set(&["kho-v4"])), "{padding}");
    }
}

#[test]
fn what_decides_about_devices_is_found_and_near_misses_are_not() {
    let strings = [
        "liveupdate.dev/vfio-pci-v1",
        "liveupdate.dev/vfio-pci-vx",
        "liveupdate.dev/vfio-pci-v",
        "vfio-pci-liveupdate-patches: keep-bus-master open-without-reset\n",
        "disagrees mod_unload ",
        "7.3.4-lu1 SMP preempt mod_unload ",
    ];
    let image = read(&bzimage(RELEASE, &payload(Compression::Zstd, &kernel(Some(CONFIG), &strings))));
    assert_eq!(image.abi.driver, set(&["liveupdate.dev/vfio-pci-v1"]));
    assert_eq!(image.abi.patches, set(&["keep-bus-master", "open-without-reset"]));
    assert_eq!(image.vermagic.as_deref(), Some("7.3.4-lu1 SMP preempt mod_unload "));
    let without = read(&bzimage(RELEASE, &payload(Compression::Zstd, &good_kernel())));
    assert_eq!((without.abi.driver, without.abi.patches, without.vermagic), (set(&[]), set(&[]), None));
}

#[test]
fn a_stock_kernel_has_neither_configuration_nor_formats_and_that_is_known() {
    let image = read(&bzimage(RELEASE, &payload(Compression::Xz, &kernel(None, &[]))));
    assert!(image.scanned());
    assert_eq!(image.config, Err("the image embeds none (CONFIG_IKCONFIG is not set)".into()));
    assert!(image.abi.luo.is_empty() && image.abi.kho.is_empty() && image.abi.memfd.is_empty());
}

#[test]
fn two_versions_of_one_format_are_both_told() {
    let plain = kernel(None, &["luo-v4", "luo-v5"]);
    let image = read(&bzimage(RELEASE, &payload(Compression::Gzip, &plain)));
    assert_eq!(image.abi.luo, set(&["luo-v4", "luo-v5"]));
}

#[test]
fn a_header_that_names_another_release_than_the_kernel_is_told() {
    let image = read(&bzimage("7.4.0", &payload(Compression::Gzip, &good_kernel())));
    assert_eq!(image.release.as_deref(), Some("7.4.0"));
    assert_eq!(image.other_release.as_deref(), Some(RELEASE));
}

#[test]
fn the_header_says_what_kexec_would_refuse() {
    let good = bzimage(RELEASE, &payload(Compression::Gzip, &good_kernel()));
    let boot = read(&good).boot.unwrap();
    assert_eq!((boot.protocol.as_str(), boot.setup_sectors, boot.relocatable), ("2.15", 4, true));
    assert_eq!((boot.init_size, boot.alignment, boot.command_line_limit), (32 << 20, 2 << 20, 2047));
    assert!(boot.kexec_problems.is_empty());

    let problems = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        read(&bad).boot.unwrap().kexec_problems
    };
    assert_eq!(problems(0x211, 0), ["it is a zImage, which is loaded low"]);
    assert!(problems(0x236, 0x01)[0].contains("CONFIG_RELOCATABLE"));
    assert!(problems(0x236, 0x02)[0].contains("XLF_KERNEL_64"));
    assert!(problems(0x206, 0x0b)[0].contains("2.11 is older"));
}

#[test]
fn a_linked_kernel_is_read_and_what_it_does_not_load_does_not_count() {
    let file = vmlinux(62, &kernel(Some(CONFIG), &["kho-v4"]), b"\0luo-v5\0memfd-v2\0");
    let image = read(&file);
    assert_eq!((image.format, image.architecture.as_str()), (Format::Vmlinux, "x86_64"));
    assert_eq!(image.release.as_deref(), Some(RELEASE));
    assert!(image.config.is_ok());
    assert_eq!(image.abi.kho, set(&["kho-v4"]));
    assert!(image.abi.luo.is_empty() && image.abi.memfd.is_empty());
    let short = inspect(&file[..file.len() / 2], Limits::default());
    assert!(matches!(short, Err(ImageError::Truncated { what: "a loaded segment", .. })));
}

/// A file of a few kilobytes may not be read for hours, whatever its headers say.
#[test]
fn headers_that_name_the_same_bytes_over_and_over_are_refused() {
    let kernel = kernel(Some(CONFIG), &["kho-v4"]);
    let mut file = vmlinux(62, &kernel, b"");
    let (header, table) = (file[64..120].to_vec(), file.len() as u64);
    file.extend(header.repeat(10));
    file[32..40].copy_from_slice(&table.to_le_bytes());
    file[56..58].copy_from_slice(&10_u16.to_le_bytes());
    let said = |file: &[u8], unpacked: usize| {
        let limits = Limits { unpacked: unpacked as u64 };
        inspect(file, limits).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(said(&file, kernel.len() * 10), Ok(()));
    let why = said(&file, kernel.len() * 10 - 1).unwrap_err();
    assert!(why.starts_with("malformed kernel image: its segments are of more than "), "{why}");
    // All in one place.
    file[54..56].copy_from_slice(&0_u16.to_le_bytes());
    let why = said(&file, kernel.len() * 10).unwrap_err();
    assert!(why.contains("its program headers are of 0 bytes each, those of ELF files are of 56"), "{why}");
}

#[test]
fn kernels_of_other_architectures_are_named() {
    assert_eq!(read(&vmlinux(183, &good_kernel(), b"")).architecture, "aarch64");

    let mut arm64 = vec![0; 64];
    arm64[0x38..0x3c].copy_from_slice(b"ARM\x64");
    arm64.extend_from_slice(&good_kernel());
    let image = read(&arm64);
    assert_eq!((image.format, image.architecture.as_str()), (Format::Arm64Image, "aarch64"));
    assert_eq!(image.release.as_deref(), Some(RELEASE));

    let packed = pack(Compression::Gzip, &arm64);
    let mut zboot = vec![0; 128];
    zboot[..2].copy_from_slice(b"MZ");
    zboot[4..8].copy_from_slice(b"zimg");
    zboot[8..12].copy_from_slice(&128_u32.to_le_bytes());
    zboot[12..16].copy_from_slice(&u32::try_from(packed.len()).unwrap().to_le_bytes());
    zboot[0x3c..0x40].copy_from_slice(&0x40_u32.to_le_bytes());
    zboot[0x44..0x46].copy_from_slice(&0xaa64_u16.to_le_bytes());
    zboot.extend_from_slice(&packed);
    let image = read(&zboot);
    assert_eq!((image.format, image.architecture.as_str()), (Format::Zboot, "aarch64"));
    assert_eq!(image.abi.luo, set(&["luo-v5"]));
}

#[test]
fn what_is_no_kernel_is_refused_by_name() {
    let message = |file: &[u8]| inspect(file, Limits::default()).unwrap_err().to_string();
    for (file, word) in [
        (b"".to_vec(), "the file is empty"),
        (b"070701000000".to_vec(), "a cpio archive"),
        (b"#!/bin/sh\n".to_vec(), "a script"),
        (b"MZ and no more".to_vec(), "unified kernel image"),
        (b"!<arch>\ndebian-binary".to_vec(), "a package"),
        (pack(Compression::Zstd, b"anything at all"), "compressed data without a boot header"),
        (b"hello, world".to_vec(), "no boot header that is known"),
        (vmlinux(62, b"int main(void)", b""), "without a kernel's version"),
    ] {
        let said = message(&file);
        assert!(said.starts_with("not a kernel image: ") && said.contains(word), "{said}");
    }
}

#[test]
fn a_file_that_ends_too_early_is_truncated_at_any_byte() {
    let whole = bzimage(RELEASE, &payload(Compression::Gzip, &good_kernel()));
    for length in [0x210, 0x250, 0x1000, whole.len() / 2, whole.len() - 17] {
        let error = inspect(&whole[..length], Limits::default()).unwrap_err();
        assert!(error.to_string().starts_with("truncated: "), "{length}: {error}");
    }
}

#[test]
fn damage_is_found_in_every_compression() {
    let plain = good_kernel();
    for compression in ALL {
        let mut packed = payload(compression, &plain);
        let end = packed.len() - 4;
        packed.copy_within(100..end - 50, 80);
        let image = read(&bzimage(RELEASE, &packed));
        assert!(!image.scanned(), "{compression:?}");
        assert!(image.payload.unwrap().problem.is_some());
        // The header is readable and tells.
        assert_eq!(image.release.as_deref(), Some(RELEASE));
    }
    // Whole, but not what was announced: blocks are missing at the end.
    let mut packed = payload(Compression::Lz4, &plain);
    let end = packed.len() - 4;
    packed[end] ^= 1;
    let problem = read(&bzimage(RELEASE, &packed)).payload.unwrap().problem.unwrap();
    assert!(problem.contains("announces"), "{problem}");
}

#[test]
fn a_payload_of_unknown_packing_says_so() {
    let image = read(&bzimage(RELEASE, b"\x01\x02\x03\x04 who knows"));
    let packed = image.payload.clone().unwrap();
    assert_eq!(packed.compression, Compression::Unknown);
    assert_eq!(
        packed.problem.as_deref(),
        Some("packed in a way that is not known (it begins with 01 02 03 04)")
    );
    assert!(image.config.unwrap_err().starts_with("the packed kernel cannot be read"));
}

#[test]
fn what_unpacks_to_more_than_the_limit_is_left() {
    let plain = vec![0; 4 << 20];
    for compression in ALL {
        let file = bzimage(RELEASE, &payload(compression, &plain));
        let image = inspect(&file, Limits { unpacked: 1 << 20 }).unwrap();
        let problem = image.payload.unwrap().problem.unwrap();
        assert_eq!(problem, "it unpacks to more than 1048576 bytes", "{compression:?}");
    }
}

#[test]
fn a_configuration_that_unpacks_to_more_than_it_may_is_none() {
    let of = |length: usize| {
        let text = b"CONFIG_X=y\n".repeat(length / 11);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &text).unwrap();
        let mut plain = kernel(None, &STRINGS);
        plain.extend_from_slice(&[b"IKCFG_ST", packed.finish().unwrap().as_slice(), b"IKCFG_ED"].concat());
        read(&bzimage(RELEASE, &payload(Compression::Gzip, &plain))).config
    };
    assert!(of(config::LARGEST / 2).is_ok());
    let told = of(config::LARGEST + 1024).unwrap_err();
    assert!(told.contains("larger than any configuration"), "{told}");
}

#[test]
fn a_configuration_that_cannot_be_unpacked_is_no_configuration() {
    let mut plain = kernel(None, &STRINGS);
    plain.extend_from_slice(b"IKCFG_ST\x1f\x8b\x08\0 rubbish IKCFG_ED");
    let image = read(&bzimage(RELEASE, &payload(Compression::Gzip, &plain)));
    assert!(image.config.unwrap_err().contains("cannot be unpacked"));
    let mut plain = kernel(None, &STRINGS);
    plain.extend_from_slice(b"IKCFG_ST\x1f\x8b\x08\0 without end");
    let image = read(&bzimage(RELEASE, &payload(Compression::Gzip, &plain)));
    assert!(image.config.unwrap_err().contains("does not end"));
}

#[test]
fn a_configuration_reads_as_people_know_it() {
    let config = Config::parse(CONFIG);
    assert_eq!(config.len(), 5);
    assert!(config.built_in("CONFIG_LIVEUPDATE") && !config.built_in("CONFIG_BLK_DEV_NVME"));
    assert_eq!(config.get("CONFIG_LOCALVERSION"), Some("\"-lu1\""));
    assert_eq!(config.line("CONFIG_BLK_DEV_NVME"), "CONFIG_BLK_DEV_NVME=m");
    assert_eq!(config.line("CONFIG_KEXEC"), "# CONFIG_KEXEC is not set");
}

/// As each kernel has it: compiled before the number of the build was known, and again with it.
#[test]
fn the_banner_is_that_of_the_running_kernel_with_the_number_of_the_build() {
    let early = b"Linux version 7.3.4-lu1 (lab@lab) (gcc 12.2.0) # SMP\n\0";
    let whole = "Linux version 7.3.4-lu1 (lab@lab) (gcc 12.2.0) #1 SMP";
    for far in [0, 3 << 20] {
        let mut plain = [early.as_slice(), &vec![0; far]].concat();
        plain.extend_from_slice(&kernel(None, &STRINGS));
        let image = read(&bzimage(RELEASE, &payload(Compression::Gzip, &plain)));
        assert_eq!(image.banner.as_deref(), Some(whole), "{far} bytes apart");
    }
    let plain = [kernel(None, &STRINGS).as_slice(), early].concat();
    let image = read(&bzimage(RELEASE, &payload(Compression::Gzip, &plain)));
    assert_eq!(image.banner.as_deref(), Some(whole));
}

#[test]
fn nothing_that_could_steer_a_terminal_is_passed_on() {
    let mut plain = kernel(None, &STRINGS);
    let at = plain.windows(14).rposition(|text| text == b"Linux version ").unwrap();
    plain[at + 20] = 0x1b;
    let image = read(&bzimage("7.3.4\x1b[2J", &payload(Compression::Gzip, &plain)));
    assert_eq!((image.release, image.banner), (None, None));
    let config = Config::parse("CONFIG_LIVEUPDATE=y\x1b[2J\nCONFIG_KEXEC=y\n");
    assert_eq!((config.get("CONFIG_LIVEUPDATE"), config.len()), (None, 1));
}

fn some_image() -> impl Strategy<Value = Vec<u8>> {
    let plain = kernel(Some(CONFIG), &STRINGS);
    let images: Vec<Vec<u8>> = ALL
        .iter()
        .map(|compression| bzimage(RELEASE, &payload(*compression, &plain[..plain.len().min(20_000)])))
        .chain([vmlinux(62, &plain, b""), vmlinux(3, &plain, b"")])
        .collect();
    proptest::sample::select(images)
}

/// Somewhere in the header or the payload's beginning, where it hurts, or anywhere.
fn mutations() -> impl Strategy<Value = Vec<(usize, u8)>> {
    let place = prop_oneof![0x1f0..0x270_usize, 0xdc0..0xe40_usize, 0..200_usize, 0..40_000_usize];
    proptest::collection::vec((place, any::<u8>()), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_damaged_image_does_harm(
        mut file in some_image(), changes in mutations(), cut in proptest::option::of(0.0..1.0_f64)
    ) {
        for (at, byte) in changes {
            let at = at % file.len();
            file[at] = byte;
        }
        if let Some(cut) = cut {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let length = (file.len() as f64 * cut) as usize;
            file.truncate(length);
        }
        fuzz_one(&file);
    }

    #[test]
    fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        fuzz_one(&bytes);
    }

    #[test]
    fn no_stream_does_harm(
        compression in proptest::sample::select(ALL.to_vec()),
        plain in proptest::collection::vec(any::<u8>(), 0..3000),
        changes in proptest::collection::vec((0..3000_usize, any::<u8>()), 1..6),
    ) {
        let mut packed = pack(compression, &plain);
        for (at, byte) in changes {
            let at = at % packed.len();
            packed[at] = byte;
        }
        fuzz_one(&packed);
    }
}
