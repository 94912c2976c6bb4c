//! A bundle's modules on the node.

use std::fs;

use liveupdate_host::bundle::cpio::Archive;
use liveupdate_host::bundle::{Bundle, BundleError, Digest, Part, install_modules};

use crate::make::{Folder, names, on, parts, write_parts};

const PLACE: &str = "lib/modules/7.3.5-lu2";

/// A bundle with a module of these bytes.
fn bundle(machine: &Folder, name: &str, module: &[u8]) -> Bundle {
    let mut archive = Archive::new();
    for folder in ["lib", "lib/modules", PLACE, "lib/modules/7.3.5-lu2/kernel"] {
        archive.folder(folder, 0o755);
    }
    archive.file(&format!("{PLACE}/kernel/nvme.ko"), 0o644, module);
    let mut parts = parts(0);
    parts.insert(Part::Modules, archive.finish());
    let folder = machine.at(name);
    write_parts(&folder, &parts);
    Bundle::open(&folder).unwrap()
}

fn install(machine: &Folder, bundle: &Bundle, staged: &[Digest]) -> Result<bool, BundleError> {
    install_under("7.3.4-lu1", machine, bundle, staged)
}

fn install_under(
    running: &str,
    machine: &Folder,
    bundle: &Bundle,
    staged: &[Digest],
) -> Result<bool, BundleError> {
    install_modules(bundle, machine.path(), running, staged, &mut on)
}

fn module(machine: &Folder) -> Vec<u8> {
    fs::read(machine.at(PLACE).join("kernel/nvme.ko")).unwrap()
}

#[test]
fn modules_lie_where_their_kernel_looks_for_them_and_go_with_their_bundle() {
    let machine = Folder::new();
    let one = bundle(&machine, "one", b"one");
    assert!(install(&machine, &one, &[]).unwrap());
    assert_eq!(module(&machine), b"one");
    assert!(!install(&machine, &one, &[]).unwrap(), "they are there already");
    // The same release, built again.
    let two = bundle(&machine, "two", b"two");
    assert!(install(&machine, &two, &[one.digest()]).unwrap());
    assert_eq!(module(&machine), b"two");

    let mut without = parts(0);
    without.remove(&Part::Modules);
    write_parts(&machine.at("three"), &without);
    let three = Bundle::open(&machine.at("three")).unwrap();
    assert!(!install(&machine, &three, &[two.digest()]).unwrap());
    assert_eq!(module(&machine), b"two", "its bundle is staged still");
    assert!(!install(&machine, &three, &[]).unwrap());
    assert_eq!(names(&machine.at("lib/modules")), Vec::<String>::new());
}

#[test]
fn invariant_7_modules_of_somebody_else_stay_as_they_are() {
    let machine = Folder::new();
    fs::create_dir_all(machine.at(PLACE).join("kernel")).unwrap();
    fs::write(machine.at(PLACE).join("kernel/nvme.ko"), b"a package's").unwrap();
    fs::write(machine.at(PLACE).join("modules.dep"), b"as depmod wrote it here").unwrap();
    let (packages, rebuilt) =
        (bundle(&machine, "packages", b"a package's"), bundle(&machine, "rebuilt", b"a bundle's "));
    assert!(!install(&machine, &packages, &[]).unwrap(), "made with the very package that is here");
    // Neither when they are another build's, nor when some are missing: the next kernel would do without.
    let refused = |bundle: &Bundle, running: &str| {
        let error = install_under(running, &machine, bundle, &[]).unwrap_err();
        assert!(matches!(&error, BundleError::ForeignModules { place, .. } if *place == machine.at(PLACE)));
        let told = error.to_string();
        assert!(told.contains("lib/modules/7.3.5-lu2/kernel/nvme.ko is missing there or not"), "{told}");
    };
    refused(&rebuilt, "7.3.4-lu1");
    refused(&rebuilt, "7.3.5-lu2");
    assert_eq!(module(&machine), b"a package's");
    assert!(names(&machine.at(PLACE)).contains(&"modules.dep".into()));
    let ended = install_modules(&packages, machine.path(), "7.3.4-lu1", &[], &mut |_, _| false);
    assert!(matches!(ended, Err(BundleError::Cancelled)), "{ended:?}");
    fs::remove_dir_all(machine.at(PLACE).join("kernel")).unwrap();
    refused(&packages, "7.3.4-lu1");
    assert_eq!(names(&machine.at(PLACE)), ["modules.dep"]);
}

#[test]
fn invariant_8_modules_of_the_running_kernel_are_neither_replaced_nor_removed() {
    const RUNS: &str = "7.3.5-lu2";
    let machine = Folder::new();
    let one = bundle(&machine, "one", b"one");
    assert!(install(&machine, &one, &[]).unwrap());
    // It runs from here on. The same release, built again.
    let two = bundle(&machine, "two", b"two");
    let refused = install_under(RUNS, &machine, &two, &[one.digest()]).unwrap_err();
    assert!(refused.to_string().contains("another CONFIG_LOCALVERSION"), "{refused}");
    assert_eq!(module(&machine), b"one");
    // Nor when nobody knows which bundle runs, and another release is staged.
    let mut without = parts(0);
    without.remove(&Part::Modules);
    write_parts(&machine.at("three"), &without);
    let three = Bundle::open(&machine.at("three")).unwrap();
    assert!(!install_under(RUNS, &machine, &three, &[]).unwrap());
    assert_eq!(module(&machine), b"one");
    assert!(!install_under(RUNS, &machine, &one, &[]).unwrap(), "back to the very bundle that runs");
}

#[test]
fn two_bundles_of_one_release_may_have_the_same_modules_and_those_go_with_the_last() {
    let machine = Folder::new();
    let one = bundle(&machine, "one", b"the same");
    assert!(install(&machine, &one, &[]).unwrap());
    let mut other = parts(1);
    other.insert(Part::Modules, fs::read(machine.at("one").join(Part::Modules.file())).unwrap());
    write_parts(&machine.at("two"), &other);
    let two = Bundle::open(&machine.at("two")).unwrap();
    assert_ne!(one.digest(), two.digest());
    assert!(!install_under("7.3.5-lu2", &machine, &two, &[one.digest()]).unwrap());
    assert!(!install_under("7.3.5-lu2", &machine, &two, &[one.digest()]).unwrap());
    for staged in [one.digest(), two.digest()] {
        let mut without = parts(0);
        without.remove(&Part::Modules);
        write_parts(&machine.at("three"), &without);
        let three = Bundle::open(&machine.at("three")).unwrap();
        assert!(!install(&machine, &three, &[staged]).unwrap());
        assert_eq!(module(&machine), b"the same", "a bundle of theirs is staged still");
        assert!(!install(&machine, &one, &[staged]).unwrap() && !install(&machine, &two, &[staged]).unwrap());
    }
}

#[test]
fn changed_modules_leave_what_was_there() {
    let machine = Folder::new();
    let one = bundle(&machine, "one", b"one");
    let file = machine.at("one").join(Part::Modules.file());
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(3).rposition(|window| window == b"one").unwrap();
    bytes[at] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let error = install(&machine, &one, &[]).unwrap_err();
    assert!(matches!(error, BundleError::Changed { .. }), "{error}");
    assert_eq!(names(&machine.at("lib/modules")), Vec::<String>::new());
    bytes[at] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let ended = install_modules(&one, machine.path(), "7.3.4-lu1", &[], &mut |_, _| false);
    assert!(matches!(ended, Err(BundleError::Cancelled)), "{ended:?}");
    // What a kill left behind is in nobody's way.
    fs::create_dir_all(machine.at("lib/modules/.liveupdate-7.3.5-lu2/kernel")).unwrap();
    assert!(install(&machine, &one, &[]).unwrap());
    assert_eq!(names(&machine.at("lib/modules")), ["7.3.5-lu2"]);
}

#[test]
fn what_a_kill_left_of_any_release_goes_and_what_somebody_else_calls_so_is_in_nobodys_way() {
    let machine = Folder::new();
    fs::create_dir_all(machine.at("lib/modules/.liveupdate-7.3.9/kernel")).unwrap();
    // Folders of others: where the mark would be, there is a folder, and what is no text.
    fs::create_dir_all(machine.at("lib/modules/odd/.liveupdate")).unwrap();
    fs::create_dir_all(machine.at("lib/modules/other")).unwrap();
    fs::write(machine.at("lib/modules/other/.liveupdate"), [0xff, 0xfe]).unwrap();
    assert!(install(&machine, &bundle(&machine, "one", b"one"), &[]).unwrap());
    assert_eq!(names(&machine.at("lib/modules")), ["7.3.5-lu2", "odd", "other"]);
}
