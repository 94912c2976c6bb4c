//! The bundle root: staging, bounds, room, leftovers.

use std::fs;
use std::os::unix::fs::symlink;

use liveupdate_host::bundle::{
    Bundle, BundleError, Digest, Limits, MANIFEST, SIGNATURES, SigningKey, Store, Trust,
};

use rustix::process::{PidfdFlags, PidfdGetfdFlags};

use crate::make::{Folder, on, sign, signers, write};

const STARVED: &str = "LIVEUPDATE_TEST_STARVED_ROOT";
const LIMITS: Limits = Limits { keep: 2, reserve: 0 };

fn store(root: &Folder) -> Store {
    Store::at(root.path(), LIMITS)
}

/// Says how long ago a staged bundle was used.
fn used(root: &Folder, digest: Digest, seconds_ago: u64) {
    let manifest = fs::File::options().write(true).open(root.at(&digest.hex()).join(MANIFEST)).unwrap();
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds_ago);
    manifest.set_modified(then).unwrap();
}

#[test]
fn a_bundle_is_staged_whole_and_stays_when_its_source_goes() {
    let root = Folder::new();
    let digest = write(&root.at("7.3.5-lu2"), 0);
    let store = store(&root);
    assert_eq!(store.to_fetch("7.3.5-lu2", digest).unwrap(), (3 << 20) + 1001 + 5000 + 4096);
    let staged = store.stage("7.3.5-lu2", digest, &[], &mut on).unwrap();
    assert_eq!((staged.digest(), staged.path()), (digest, root.at(&digest.hex()).as_path()));
    fs::remove_dir_all(root.at("7.3.5-lu2")).unwrap();
    staged.verify(&mut on).unwrap();
    assert_eq!(store.to_fetch("7.3.5-lu2", digest).unwrap(), 0);
    let again = store.stage("7.3.5-lu2", digest, &[], &mut on).unwrap();
    assert_eq!(again.digest(), digest);
    assert_eq!(root.names(), [".lock", &digest.hex()]);
}

#[test]
fn a_bundle_is_found_by_digest_whatever_its_folder_is_called() {
    let root = Folder::new();
    let (one, other) = (write(&root.at("old"), 0), write(&root.at("new"), 1));
    fs::create_dir(root.at("broken")).unwrap();
    let store = store(&root);
    assert_eq!(store.find("old", one).unwrap().path(), root.at("old"));
    assert_eq!(store.find("elsewhere", other).unwrap().path(), root.at("new"));
    let wanted = Digest::of(b"nobody");
    let error = store.find("old", wanted).unwrap_err();
    assert!(matches!(error, BundleError::OtherDigest { found, .. } if found == one), "{error}");
    for name in ["elsewhere", "", "../old", ".hidden", "/old"] {
        assert!(matches!(store.find(name, wanted), Err(BundleError::NotFound { .. })), "{name}");
    }
    // Of its name there is one, and it is broken.
    assert!(matches!(store.find("broken", wanted), Err(BundleError::NoManifest { .. })));
    assert!(matches!(
        Store::at(root.at("nowhere"), LIMITS).find("old", one),
        Err(BundleError::NotFound { .. })
    ));
}

#[test]
fn a_damaged_source_leaves_nothing_staged() {
    let root = Folder::new();
    let digest = write(&root.at("b"), 0);
    fs::write(root.at("b/initrd"), "short").unwrap();
    let error = store(&root).stage("b", digest, &[], &mut on).unwrap_err();
    assert!(matches!(error, BundleError::Truncated { .. }), "{error}");
    assert_eq!(root.names(), [".lock", "b"]);
    write(&root.at("b"), 0);
    let error = store(&root).stage("b", digest, &[], &mut |done, _| done < 2 << 20).unwrap_err();
    assert!(matches!(error, BundleError::Cancelled), "{error}");
    assert_eq!(root.names(), [".lock", "b"]);
}

#[test]
fn a_staged_bundle_that_was_damaged_is_staged_anew_or_told() {
    let root = Folder::new();
    let digest = write(&root.at("b"), 0);
    let store = store(&root);
    store.stage("b", digest, &[], &mut on).unwrap();
    let image = root.at(&digest.hex()).join("image");
    let good = fs::read(&image).unwrap();
    let mut bad = good.clone();
    bad[7] ^= 1;
    fs::write(&image, &bad).unwrap();
    store.stage("b", digest, &[], &mut on).unwrap();
    assert_eq!(fs::read(&image).unwrap(), good);
    fs::write(&image, &bad).unwrap();
    fs::remove_dir_all(root.at("b")).unwrap();
    let error = store.stage("b", digest, &[], &mut on).unwrap_err();
    assert!(matches!(error, BundleError::NotFound { .. }), "{error}");
    assert_eq!(root.names(), [".lock"]);
}

/// As in [`crate::kill`]: the process whose files run out. Without the variable it does nothing.
#[test]
fn stages_without_descriptors() {
    let Some(root) = std::env::var_os(STARVED) else { return };
    let store = Store::at(&root, LIMITS);
    let digest = write(&std::path::Path::new(&root).join("b"), 0);
    let error = store
        .stage("b", digest, &[], &mut |_, _| {
            let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
            rustix::process::setrlimit(rustix::process::Resource::Nofile, none).unwrap();
            true
        })
        .unwrap_err();
    assert!(matches!(error, BundleError::Io { .. }), "{error}");
}

#[test]
fn a_staged_bundle_that_cannot_be_read_now_is_not_thrown_away() {
    let root = Folder::new();
    let digest = write(&root.at("b"), 0);
    let store = store(&root);
    store.stage("b", digest, &[], &mut on).unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::stages_without_descriptors", "--nocapture"])
        .env(STARVED, root.path())
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    store.staged(digest).unwrap().unwrap().verify(&mut on).unwrap();
}

#[test]
fn a_signature_of_the_named_bundle_is_seen_when_it_is_staged_already() {
    let root = Folder::new();
    let digest = write(&root.at("b"), 0);
    let store = store(&root);
    store.stage("b", digest, &[], &mut on).unwrap();
    let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let by = |bundle: &Bundle, key| matches!(bundle.trust(&signers(key)), Trust::Signed { .. });
    sign(&root.at("b"), &key);
    let found = store.find("b", digest).unwrap();
    assert!(by(&found, &key) && found.path() == root.at(&digest.hex()));
    assert!(!by(&store.find("other", digest).unwrap(), &key), "only the one of this name is asked");
    assert!(!by(&store.staged(digest).unwrap().unwrap(), &key), "looking writes nothing");
    assert!(by(&store.stage("b", digest, &[], &mut on).unwrap(), &key));
    // Those that are there stay when the named one has others, is broken, or is another bundle.
    sign(&root.at("b"), &other);
    let both = store.stage("b", digest, &[], &mut on).unwrap();
    assert!(by(&both, &key) && by(&both, &other));
    both.verify(&mut on).unwrap();
    fs::write(root.at("b").join(SIGNATURES), "no signatures").unwrap();
    assert!(by(&store.stage("b", digest, &[], &mut on).unwrap(), &key));
    write(&root.at("b"), 1);
    sign(&root.at("b"), &key);
    assert!(by(&store.find("b", digest).unwrap(), &other));
    fs::remove_file(root.at("b").join(MANIFEST)).unwrap();
    assert!(by(&store.find("b", digest).unwrap(), &other));
}

#[test]
fn leftovers_of_a_kill_are_cleaned_and_never_taken_for_a_bundle() {
    let root = Folder::new();
    let digest = write(&root.at("b"), 0);
    let hex = digest.hex();
    // Half a copy, with and without its manifest; half a removal.
    write(&root.at(&format!(".staging-{hex}")), 0);
    fs::remove_file(root.at(&format!(".staging-{hex}/image"))).unwrap();
    fs::create_dir(root.at(".removing-abc")).unwrap();
    fs::write(root.at(".removing-abc/image"), "x").unwrap();
    let store = store(&root);
    assert!(store.staged(digest).unwrap().is_none());
    assert!(store.list().unwrap().is_empty());
    store.stage("b", digest, &[], &mut on).unwrap().verify(&mut on).unwrap();
    let mut expected = [".lock", &hex, "b"];
    expected.sort_unstable();
    assert_eq!(root.names(), expected);
}

#[test]
fn a_bounded_number_is_kept_the_running_and_the_loaded_one_always() {
    let root = Folder::new();
    let digests: Vec<Digest> = (0..5).map(|seed| write(&root.at(&format!("b{seed}")), seed)).collect();
    let store = store(&root);
    for (ago, digest) in (0..4).zip(&digests) {
        store.stage("", *digest, &[], &mut on).unwrap();
        used(&root, *digest, 100 - ago);
    }
    // Two are kept: the one used last, and the next one.
    assert_eq!(store.list().unwrap(), [digests[3], digests[2]]);
    // The oldest is the running one: the other goes.
    store.stage("", digests[4], &[digests[2]], &mut on).unwrap();
    assert_eq!(store.list().unwrap(), [digests[4], digests[2]]);
    // All are needed: more than the bound, and nothing is removed.
    store.stage("", digests[0], &[digests[2], digests[4]], &mut on).unwrap();
    assert_eq!(store.list().unwrap().len(), 3);
    assert_eq!(store.tidy(&[digests[2], digests[0]]).unwrap(), [digests[4]]);
    // Staged again counts as used, and what people have put there is not ours to remove.
    used(&root, digests[0], 500);
    store.stage("", digests[0], &[], &mut on).unwrap();
    assert_eq!(store.list().unwrap()[0], digests[0]);
    assert!((0..5).all(|seed| root.at(&format!("b{seed}")).join("image").exists()));
}

#[test]
fn without_room_nothing_is_written() {
    let root = Folder::new();
    let digest = write(&root.at("b"), 0);
    let full = Store::at(root.path(), Limits { keep: 2, reserve: u64::MAX - (1 << 30) });
    let error = full.stage("b", digest, &[], &mut on).unwrap_err();
    assert!(matches!(error, BundleError::NoRoom { needed: 3_155_825, .. }), "{error}");
    assert_eq!(root.names(), [".lock", "b"]);
}

#[test]
fn two_at_once_do_not_disturb_each_other() {
    let root = Folder::new();
    let digest = write(&root.at("b"), 0);
    let store = store(&root);
    let mut other = None;
    store
        .stage("b", digest, &[], &mut |_, _| {
            other.get_or_insert_with(|| store.stage("b", digest, &[], &mut on).map(|_| ()));
            true
        })
        .unwrap();
    assert!(matches!(other, Some(Err(BundleError::Busy { .. }))), "{other:?}");
}

#[test]
fn a_process_that_is_being_started_does_not_keep_the_lock() {
    let root = Folder::new();
    let digest = write(&root.at("b"), 0);
    let store = store(&root);
    let mut kept = None;
    store
        .stage("b", digest, &[], &mut |_, _| {
            kept.get_or_insert_with(|| duplicate_of(&root.at(".lock")));
            true
        })
        .unwrap();
    assert!(kept.is_some());
    store.stage("b", digest, &[], &mut on).unwrap();
}

/// Another descriptor of the same open file of this process, as a fork makes it.
fn duplicate_of(path: &std::path::Path) -> std::os::fd::OwnedFd {
    let number = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(Result::ok)
        .find(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == path))
        .and_then(|entry| entry.file_name().to_str()?.parse().ok())
        .unwrap();
    let this = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).unwrap()
}

#[test]
fn a_link_under_the_root_is_no_bundle() {
    let (root, outside) = (Folder::new(), Folder::new());
    let digest = write(outside.path(), 0);
    symlink(outside.path(), root.at(&digest.hex())).unwrap();
    symlink(outside.path(), root.at("b")).unwrap();
    assert!(store(&root).staged(digest).unwrap().is_none());
    assert!(matches!(store(&root).find("b", digest), Err(BundleError::NotFound { .. })));
}

/// The name of a staged bundle is its digest, whoever put it there.
#[test]
fn another_bundle_under_a_digests_name_is_not_taken_for_it() {
    let root = Folder::new();
    let digest = write(&root.at("b"), 0);
    write(&root.at(&digest.hex()), 1);
    let store = store(&root);
    assert!(matches!(store.staged(digest), Err(BundleError::OtherDigest { .. })));
    assert_eq!(store.stage("b", digest, &[], &mut on).unwrap().digest(), digest);
    assert_eq!(Bundle::open(&root.at(&digest.hex())).unwrap().digest(), digest);
}
