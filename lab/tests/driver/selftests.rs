//! The kernel's own tests of live update, with the driver loaded in both kernels: it is one more handler of files, and in
//! nobody's way.

use std::collections::BTreeMap;

use liveupdate_lab::vm::debug;
use liveupdate_lab_guest::{MODULES_PARAMETER, Outcome};

use crate::bed::{BOOT, Bed, LONG, Wanted, in_guest};
use crate::console::quiet;

/// Single-boot tests that the kernel's source has, at least.
const LEAST: u32 = 10;
/// Tests that jump, and how each says that it passed.
const JUMPS: [(&str, &str); 2] = [
    ("luo_kexec_simple", "--- SIMPLE KEXEC TEST PASSED ---"),
    ("luo_multi_session", "--- MULTI-SESSION KEXEC TEST PASSED ---"),
];

/// The last line of a test in the kernel's form (KTAP): so many passed, failed, were skipped and so on.
fn totals(text: &str) -> Option<BTreeMap<&str, u32>> {
    let rest = text.lines().rev().find_map(|line| line.strip_prefix("# Totals: "))?;
    rest.split_whitespace()
        .map(|word| Some((word.split_once(':')?.0, word.split_once(':')?.1.parse().ok()?)))
        .collect()
}

async fn run(bed: &Bed, test: &str, args: &[&str]) -> Outcome {
    let outcome = bed.guest.control().run(&format!("/bin/{test}"), args, LONG).await.unwrap();
    assert_eq!(outcome.code, Some(0), "{test} {args:?}: {outcome:#?}");
    outcome
}

#[tokio::test]
async fn the_kernels_own_tests_pass_with_the_driver_loaded() {
    let module = debug::module().unwrap();
    let folder = debug::selftests().unwrap();
    let names = ["liveupdate"].into_iter().chain(JUMPS.map(|(name, _)| name));
    let programs = names.map(|name| (format!("/bin/{name}"), folder.join(name))).collect();
    let append = vec![format!("{MODULES_PARAMETER}={}:enable=1", in_guest())];
    let bed = Bed::start("selftests", Wanted { devices: 1, programs, append, ..Wanted::new(&module) }).await;
    let loaded = async || {
        let modules =
            bed.guest.control().output("/bin/liveupdate-lab-init", &["get", "/proc/modules"], BOOT).await;
        assert!(modules.unwrap().contains("vfio_pci_liveupdate"));
    };

    loaded().await;
    let outcome = run(&bed, "liveupdate", &[]).await;
    let counts = totals(&outcome.stdout).unwrap_or_else(|| panic!("no totals: {outcome:#?}"));
    println!("liveupdate: {counts:?}");
    let passed = counts.get("pass").copied().unwrap_or_default();
    // A skip is no pass.
    assert!(passed >= LEAST && passed == counts.values().sum::<u32>(), "{counts:?}\n{}", outcome.stdout);

    for (test, says) in JUMPS {
        run(&bed, test, &["-s", "1"]).await;
        bed.jumps_by_itself().await;
        loaded().await;
        let outcome = run(&bed, test, &["-s", "2"]).await;
        let text = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(text.contains(says) && !text.contains("SKIP"), "{test}: {text}");
        println!("{test}: {says}");
    }
    quiet(&bed.console());
}

#[test]
fn totals_are_read_and_others_are_none() {
    let text = "ok 1 a\n# Totals: pass:14 fail:0 xfail:0 xpass:0 skip:1 error:0\n";
    let counts = totals(text).unwrap();
    assert_eq!((counts["pass"], counts["skip"], counts.values().sum::<u32>()), (14, 1, 15));
    assert_eq!(totals("ok 1 a\n"), None);
}
