//! `bundle inspect` over small kernels made here, held against files; `LIVEUPDATE_REFRESH_GOLDENS=1` writes them anew.

#![allow(clippy::unwrap_used, reason = "helpers of tests; clippy.toml covers only the tests themselves")]

mod kernels;

use std::fs;
use std::path::Path;
use std::process::Command;

use kubectl_liveupdate::bundle::inspect::inspect;
use kubectl_liveupdate::cli::SimulateOutput;

use kernels::{CONFIG, FORMATS, bzimage, compare, good, gzip, kernel};

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
        for (format, ending) in [(SimulateOutput::Table, "txt"), (SimulateOutput::Json, "json")] {
            let said = inspect(Path::new(name), &file, format).unwrap();
            compare(&format!("bundle-inspect-{name}.{ending}"), &said);
        }
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
