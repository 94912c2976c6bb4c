//! The boot entry: over a boot partition in a folder.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use liveupdate_host::bundle::boot::{BootError, Persist, Persisted, default_entry, persist};
use liveupdate_host::bundle::{Bundle, BundleError, Digest};
use liveupdate_host::linux::fallback::BOOT;
use liveupdate_host::linux::root::Root;

use crate::make::{Folder, names, on, parts, write};

fn boot() -> Vec<String> {
    BOOT.map(str::to_owned).into()
}

const LINE: &str = "root=/dev/vda kho=on liveupdate=on quiet";
const DEBIAN: &str = "title Debian\nlinux /debian/vmlinuz\n";

/// A machine with another system's entry as the default.
fn machine() -> Folder {
    let machine = Folder::new();
    fs::create_dir_all(machine.at("boot/loader/entries")).unwrap();
    fs::write(machine.at("boot/loader/loader.conf"), "timeout 3\ndefault debian.conf\n").unwrap();
    fs::write(machine.at("boot/loader/entries/debian.conf"), DEBIAN).unwrap();
    machine
}

fn bundle(machine: &Path, seed: u8) -> Bundle {
    let folder = machine.join(format!("bundle{seed}"));
    write(&folder, seed);
    Bundle::open(&folder).unwrap()
}

fn make_default(machine: &Folder, bundle: &Bundle) -> Result<Persisted, BootError> {
    persist(&Root::at(machine.path()), Persist { boot: &boot(), bundle, command_line: LINE }, &mut on)
}

fn name(digest: Digest) -> String {
    format!("liveupdate-7.3.5-lu2-{}.conf", &digest.hex()[..12])
}

/// The default names an entry that is there, and all that the entry names is there and whole.
fn boots(machine: &Path) -> String {
    let boot = machine.join("boot");
    let loader = fs::read_to_string(boot.join("loader/loader.conf")).unwrap();
    let default = loader.lines().find_map(|line| line.strip_prefix("default ")).unwrap().to_owned();
    let entry = fs::read_to_string(boot.join("loader/entries").join(&default)).unwrap();
    if default != "debian.conf" {
        let options = entry.lines().find_map(|line| line.strip_prefix("options    ")).unwrap();
        assert_eq!(options, LINE);
        for line in entry.lines().filter(|line| line.starts_with("linux ") || line.starts_with("initrd ")) {
            let path = line.split_whitespace().nth(1).unwrap();
            let length = fs::metadata(boot.join(path.trim_start_matches('/'))).unwrap().len();
            assert!(parts(0).values().any(|part| part.len() as u64 == length), "{path}: {length} bytes");
        }
    }
    default
}

#[test]
fn the_target_becomes_the_default_and_the_former_one_stays() {
    let machine = machine();
    let bundle = bundle(machine.path(), 0);
    let entry = name(bundle.digest());
    let done = make_default(&machine, &bundle).unwrap();
    let before = Some("debian.conf".to_owned());
    assert_eq!(done, Persisted { entry: entry.clone(), before: before.clone(), changed: true });
    assert_eq!(
        fs::read_to_string(machine.at("boot/loader/loader.conf")).unwrap(),
        format!("timeout 3\n# liveupdate: default before: debian.conf\ndefault {entry}\n")
    );
    let folder = format!("/liveupdate/7.3.5-lu2-{}", &bundle.digest().hex()[..12]);
    assert_eq!(
        fs::read_to_string(machine.at("boot/loader/entries").join(&entry)).unwrap(),
        format!(
            "# Written by liveupdate; changes are overwritten.\ntitle      Linux 7.3.5-lu2 (liveupdate)\n\
             version    7.3.5-lu2\nsort-key   liveupdate\narchitecture x64\nlinux      {folder}/image\n\
             initrd     {folder}/initrd\ninitrd     {folder}/shim\noptions    {LINE}\n"
        )
    );
    assert_eq!(fs::read_to_string(machine.at("boot/loader/entries/debian.conf")).unwrap(), DEBIAN);
    assert_eq!(names(&machine.at(&format!("boot{folder}"))), ["image", "initrd", "shim"]);
    assert_eq!(boots(machine.path()), entry);
    let found = default_entry(&Root::at(machine.path()), &BOOT).unwrap();
    assert_eq!(found, Some((entry.clone(), "/boot/loader/loader.conf".to_owned())));
    // Again: nothing changes.
    assert_eq!(make_default(&machine, &bundle).unwrap(), Persisted { entry, before, changed: false });
}

#[test]
fn the_third_kernel_takes_the_first_ones_room_and_keeps_the_second() {
    let machine = machine();
    let [one, two, three] = [0, 1, 2].map(|seed| bundle(machine.path(), seed));
    for bundle in [&one, &two, &three] {
        make_default(&machine, bundle).unwrap();
    }
    let mut left = vec!["debian.conf".to_owned(), name(two.digest()), name(three.digest())];
    left.sort_unstable();
    assert_eq!(names(&machine.at("boot/loader/entries")), left);
    assert_eq!(names(&machine.at("boot/liveupdate")).len(), 2);
    assert_eq!(boots(machine.path()), name(three.digest()));
    // Back to the second: the third is the one before now.
    assert_eq!(make_default(&machine, &two).unwrap().before, Some(name(three.digest())));
    assert_eq!(names(&machine.at("boot/loader/entries")), left);
}

#[test]
fn damaged_files_on_the_boot_partition_are_written_again() {
    let machine = machine();
    let bundle = bundle(machine.path(), 0);
    make_default(&machine, &bundle).unwrap();
    let image =
        machine.at("boot/liveupdate").join(format!("7.3.5-lu2-{}/image", &bundle.digest().hex()[..12]));
    let mut bytes = fs::read(&image).unwrap();
    bytes[100] ^= 1;
    fs::write(&image, bytes).unwrap();
    assert!(make_default(&machine, &bundle).unwrap().changed);
    assert_eq!(Digest::of(&fs::read(&image).unwrap()), bundle.manifest().image.digest);
}

#[test]
fn what_cannot_be_done_is_told_and_the_default_stays() {
    let machine = machine();
    let good = bundle(machine.path(), 0);
    let root = Root::at(machine.path());
    let bent =
        persist(&root, Persist { boot: &boot(), bundle: &good, command_line: "a\noptions b" }, &mut on);
    assert!(matches!(bent, Err(BootError::CommandLine)));
    let ended =
        persist(&root, Persist { boot: &boot(), bundle: &good, command_line: LINE }, &mut |done, _| {
            done == 0
        });
    assert!(matches!(ended, Err(BootError::Bundle(BundleError::Cancelled))), "{ended:?}");
    fs::write(machine.at("bundle0/initrd"), "changed").unwrap();
    let changed = make_default(&machine, &good);
    assert!(matches!(changed, Err(BootError::Bundle(BundleError::Truncated { .. }))), "{changed:?}");
    write(&machine.at("bundle0"), 0);

    let variable = "sys/firmware/efi/efivars/LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    fs::create_dir_all(machine.at("sys/firmware/efi/efivars")).unwrap();
    fs::write(machine.at(variable), b"\x06\0\0\0a\0.\0c\0\0\0").unwrap();
    let overridden = make_default(&machine, &good).unwrap_err();
    assert!(
        overridden.to_string().contains("names \"a.c\": take it away (bootctl set-default"),
        "{overridden}"
    );
    fs::remove_file(machine.at(variable)).unwrap();
    assert_eq!(boots(machine.path()), "debian.conf");

    fs::write(machine.at("boot/loader/loader.conf"), "default debian.conf\npreferred other.conf\n").unwrap();
    assert!(matches!(make_default(&machine, &good), Err(BootError::Overridden { .. })));
    fs::remove_file(machine.at("boot/loader/loader.conf")).unwrap();
    let none = make_default(&machine, &good).unwrap_err().to_string();
    assert!(none.contains("/boot/loader/loader.conf, /efi/loader/loader.conf, /boot/efi/"), "{none}");
}

const MACHINE: &str = "LIVEUPDATE_TEST_PERSIST_MACHINE";

/// The process that dies: this test in a child with this variable; without it, it does nothing.
#[test]
fn persists_until_killed() {
    let Some(machine) = std::env::var_os(MACHINE) else { return };
    let (bundle, root) = (Bundle::open(&Path::new(&machine).join("bundle1")).unwrap(), Root::at(machine));
    println!("begins");
    persist(&root, Persist { boot: &boot(), bundle: &bundle, command_line: LINE }, &mut on).unwrap();
    println!("ended");
}

#[test]
fn invariant_6_killed_at_any_point_the_machine_boots_and_the_same_call_ends_it() {
    let whole = {
        let machine = machine();
        let bundle = bundle(machine.path(), 1);
        let started = Instant::now();
        make_default(&machine, &bundle).unwrap();
        started.elapsed()
    };
    let mut seen = [0, 0];
    for step in 0..30 {
        let machine = machine();
        let (old, new) = (bundle(machine.path(), 0), bundle(machine.path(), 1));
        make_default(&machine, &old).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "boot::persists_until_killed", "--nocapture"])
            .env(MACHINE, machine.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("begins") {
            line.clear();
            assert_ne!(std::io::BufRead::read_line(&mut said, &mut line).unwrap(), 0, "it never began");
        }
        // Over all of it and beyond: the last ones end by themselves.
        thread::sleep(whole * step / 20 + Duration::from_micros(u64::from(step) * 37));
        child.kill().unwrap();
        child.wait().unwrap();
        let default = boots(machine.path());
        let changed = default == name(new.digest());
        assert!(changed || default == name(old.digest()), "{default}");
        seen[usize::from(changed)] += 1;
        make_default(&machine, &new).unwrap();
        assert_eq!(boots(machine.path()), name(new.digest()));
        let left = names(&machine.at("boot/loader/entries"));
        assert_eq!(left.len(), 3, "{left:?}");
    }
    assert!(seen[0] > 0, "never killed before its end: {seen:?}");
}
