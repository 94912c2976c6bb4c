//! `bundle inspect` over small kernels made here, held against files; `UPDATE_GOLDEN=1` writes them anew.

#![allow(clippy::unwrap_used, reason = "helpers of tests; clippy.toml covers only the tests themselves")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use kubectl_liveupdate::bundle::inspect::inspect;
use kubectl_liveupdate::cli::SimulateOutput;

const CONFIG: &str = "CONFIG_KEXEC_FILE=y\nCONFIG_KEXEC_HANDOVER=y\nCONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT=y\n\
    CONFIG_LIVEUPDATE=y\nCONFIG_LIVEUPDATE_MEMFD=y\nCONFIG_RELOCATABLE=y\nCONFIG_BLK_DEV_NVME=m\n";

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(plain).unwrap();
    writer.finish().unwrap()
}

/// A kernel's strings, as they lie in it.
fn kernel(config: Option<&str>, formats: &[&str]) -> Vec<u8> {
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

fn bzimage(payload: &[u8]) -> Vec<u8> {
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

const FORMATS: [&str; 3] = ["kho-v4", "luo-v5", "memfd-v2"];

fn good() -> Vec<u8> {
    bzimage(&gzip(&kernel(Some(CONFIG), &FORMATS)))
}

fn compare(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{} differs; UPDATE_GOLDEN=1 writes it anew", path.display());
}

#[test]
fn images_are_told_as_text_and_as_json() {
    let mut arm64 = vec![0; 64];
    arm64[0x38..0x3c].copy_from_slice(b"ARM\x64");
    arm64.extend_from_slice(&kernel(Some(CONFIG), &FORMATS));
    for (name, file) in [
        ("good", good()),
        ("stock", bzimage(&gzip(&kernel(None, &[])))),
        ("no-configuration", bzimage(&gzip(&kernel(None, &FORMATS)))),
        ("unknown-packing", bzimage(b"\x01\x02\x03\x04 packed by nobody")),
        ("arm64", arm64),
    ] {
        compare(&format!("bundle-inspect-{name}.txt"), &inspect(&file, SimulateOutput::Table).unwrap());
        compare(&format!("bundle-inspect-{name}.json"), &inspect(&file, SimulateOutput::Json).unwrap());
    }
}

#[test]
fn a_file_that_is_no_kernel_ends_with_2_and_says_why_once() {
    let folder = std::env::temp_dir().join(format!("liveupdate-inspect-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let run = |name: &str, bytes: Option<&[u8]>| {
        let path = folder.join(name);
        if let Some(bytes) = bytes {
            fs::write(&path, bytes).unwrap();
        }
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-liveupdate"))
            .args(["bundle", "inspect"])
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap().replace(&format!("{}/", folder.display()), "");
        (output.status.code(), said)
    };
    let whole = good();
    let results = [
        run("initrd", Some(b"07070100000000")),
        run("half", Some(&whole[..whole.len() / 2])),
        run("absent", None),
        run("bzImage", Some(&whole)),
    ];
    fs::remove_dir_all(&folder).unwrap();
    let [initrd, half, absent, good] = results;
    assert_eq!(initrd.0, Some(2));
    assert_eq!(
        initrd.1,
        "Error: initrd cannot be inspected: not a kernel image: a cpio archive; this is an initrd\n"
    );
    assert_eq!(half.0, Some(2));
    assert!(
        half.1.starts_with("Error: half cannot be inspected: truncated: setup and system needs "),
        "{}",
        half.1
    );
    assert_eq!(absent.0, Some(2));
    assert!(absent.1.starts_with("Error: absent cannot be read: No such file"), "{}", absent.1);
    assert_eq!(good, (Some(0), String::new()));
}
