//! One bundle: what is read, what is refused.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};

use liveupdate_host::bundle::cpio::Archive;
use liveupdate_host::bundle::{
    Bundle, BundleError, Contents, LARGEST_MANIFEST, MANIFEST, Manifest, ManifestError, Part, SIGNATURES,
    SigningKey, Trust,
};

use crate::make::{Folder, manifest, on, parts, sign, signers, write, write_parts};

fn refused(folder: &Folder) -> BundleError {
    match Bundle::open(folder.path()) {
        Ok(bundle) => bundle.verify(&mut on).unwrap_err(),
        Err(error) => error,
    }
}

/// The error's words, the folder's path left out.
fn said(folder: &Folder) -> String {
    refused(folder).to_string().replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn a_whole_bundle_is_verified_with_progress_and_read_as_the_kernel_takes_it() {
    let folder = Folder::new();
    let digest = write(folder.path(), 0);
    let bundle = Bundle::open(folder.path()).unwrap();
    assert_eq!(bundle.digest(), digest);
    assert_eq!(bundle.manifest(), &manifest(&parts(0)));
    let mut told = Vec::new();
    bundle
        .verify(&mut |done, all| {
            told.push((done, all));
            true
        })
        .unwrap();
    let all = bundle.manifest().size();
    assert_eq!((told.first(), told.last()), (Some(&(0, all)), Some(&(all, all))));
    assert!(told.is_sorted());

    let whole = parts(0);
    let mut image = Vec::new();
    bundle.image().unwrap().read_to_end(&mut image).unwrap();
    assert_eq!(image, whole[&Part::Image]);
    let (mut initrd, mut file) = (Vec::new(), bundle.initrd().unwrap().unwrap());
    file.read_to_end(&mut initrd).unwrap();
    // 1001 bytes, filled up to a multiple of four.
    assert_eq!(&initrd[..1001], whole[&Part::Initrd]);
    assert_eq!(&initrd[1001..1004], [0; 3]);
    assert_eq!(&initrd[1004..], whole[&Part::Shim]);
    assert!(file.write_all(b"x").is_err(), "what is loaded cannot be changed after it was verified");
}

#[test]
fn verification_can_be_cancelled() {
    let folder = Folder::new();
    write(folder.path(), 0);
    let bundle = Bundle::open(folder.path()).unwrap();
    let result = bundle.verify(&mut |done, _| done < 2 << 20);
    assert!(matches!(result, Err(BundleError::Cancelled)), "{result:?}");
}

#[test]
fn files_that_are_not_the_manifests_are_told_apart() {
    let folder = Folder::new();
    let whole = parts(0);
    let image = folder.at("image");
    let good = || write(folder.path(), 0);
    good();
    fs::write(&image, &whole[&Part::Image][..1000]).unwrap();
    assert_eq!(
        said(&folder),
        "image is truncated: 1000 bytes, the manifest says 3145728; copy the bundle again"
    );
    good();
    fs::File::options().append(true).open(&image).unwrap().write_all(b"more").unwrap();
    assert_eq!(
        said(&folder),
        "image is too long: 3145732 bytes, the manifest says 3145728; copy the bundle again"
    );
    good();
    let mut changed = whole[&Part::Image].clone();
    changed[2 << 20] ^= 1;
    fs::write(&image, changed).unwrap();
    assert!(matches!(refused(&folder), BundleError::Changed { path, .. } if path == image));
    let bundle = Bundle::open(folder.path()).unwrap();
    assert!(matches!(bundle.image(), Err(BundleError::Changed { .. })), "nothing unverified is handed out");
    assert!(bundle.initrd().unwrap().is_some());
    good();
    fs::remove_file(&image).unwrap();
    assert_eq!(said(&folder), "image is missing: the manifest has it; copy the bundle again, whole");
    good();
    fs::write(folder.at("notes"), "hello").unwrap();
    assert_eq!(said(&folder), "notes is not in the manifest: take it out of the bundle");
    fs::remove_file(folder.at("notes")).unwrap();
    assert!(Bundle::open(folder.path()).unwrap().verify(&mut on).is_ok());
}

/// Links, pipes and folders in a file's place, wherever they lead; nothing of them is read.
#[test]
fn what_is_no_file_is_refused_and_nothing_outside_is_read() {
    for name in ["image", "initrd", MANIFEST, SIGNATURES] {
        let (folder, outside) = (Folder::new(), Folder::new());
        write(folder.path(), 0);
        write(outside.path(), 0);
        sign(folder.path(), &SigningKey::generate().unwrap());
        sign(outside.path(), &SigningKey::generate().unwrap());
        fs::remove_file(folder.at(name)).unwrap();
        symlink(outside.at(name), folder.at(name)).unwrap();
        assert_eq!(said(&folder), format!("{name} is a link, want a file: a bundle holds nothing else"));
        fs::remove_file(folder.at(name)).unwrap();
        fs::create_dir(folder.at(name)).unwrap();
        assert_eq!(said(&folder), format!("{name} is a folder, want a file: a bundle holds nothing else"));
        fs::remove_dir(folder.at(name)).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            folder.at(name),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert_eq!(said(&folder), format!("{name} is a pipe, want a file: a bundle holds nothing else"));
    }
}

#[test]
fn a_folder_without_a_manifest_is_no_bundle() {
    let folder = Folder::new();
    assert!(matches!(refused(&folder), BundleError::NoManifest { .. }));
    assert!(matches!(Bundle::open(&folder.at("absent")), Err(BundleError::Io { .. })));
}

/// A change of the manifest's text and what is said of it.
#[test]
fn manifests_that_cannot_be_are_refused_with_the_field() {
    let good = String::from_utf8(manifest(&parts(0)).to_bytes().unwrap()).unwrap();
    assert_eq!(Manifest::parse(good.as_bytes()), Ok(manifest(&parts(0))));
    let parse = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        Manifest::parse(good.replacen(from, to, 1).as_bytes()).unwrap_err().to_string()
    };
    assert!(parse("\"version\": 1", "\"version\": 2").starts_with("it is of version 2, this build reads 1"));
    for (from, to, field) in [
        ("7.3.5-lu2", "../../etc", "release"),
        ("7.3.5-lu2", "", "release"),
        ("x86_64", "x86 64", "architecture"),
        ("root=/dev/vda", "root=/dev/vda\\nrdinit=/x", "commandLine"),
        ("root=/dev/vda", &"x".repeat(2048), "commandLine"),
        ("\"size\": 3145728", "\"size\": 1073741825", "image"),
        ("\"size\": 3145728", "\"size\": 0", "image"),
        ("luo-v5", "luo v5", "formats"),
        ("CONFIG_LIVEUPDATE", "LIVEUPDATE", "configuration"),
        ("a test", "a\\u001b[31mtest", "provenance"),
    ] {
        let said = parse(from, to);
        assert!(said.starts_with(&format!("{field}: ")), "{field}: {said}");
    }
    assert!(parse("\"size\": 3145728", "\"size\": -1").contains("invalid value"));
    assert!(parse("sha256:", "sha1:").contains("no digest"));
    // A file that the manifest would like to name itself.
    let escape = parse("\"size\": 3145728", "\"file\": \"../../shadow\", \"size\": 3145728");
    assert!(escape.contains("unknown field `file`"), "{escape}");
    assert!(parse("\"release\"", "\"more\": 1, \"release\"").contains("unknown field `more`"));
    let twice = parse("\"release\"", "\"release\": \"7.3.4\", \"release\"");
    assert!(twice.contains("duplicate field"), "{twice}");
    assert!(matches!(Manifest::parse(&good.as_bytes()[..100]), Err(ManifestError::Unreadable { .. })));
    let large = vec![b' '; LARGEST_MANIFEST + 1];
    assert_eq!(Manifest::parse(&large), Err(ManifestError::TooLarge));
    let mut lonely = manifest(&parts(0));
    lonely.initrd = None;
    assert!(lonely.to_bytes().unwrap_err().to_string().starts_with("shim: it needs an initrd"));
}

/// A huge file in the manifest's place is not read into memory.
#[test]
fn size_is_bounded_before_anything_is_parsed() {
    let folder = Folder::new();
    write(folder.path(), 0);
    let sparse = fs::File::options().write(true).open(folder.at(MANIFEST)).unwrap();
    sparse.set_len(1 << 40).unwrap();
    assert!(sparse.metadata().unwrap().blocks() < 1000);
    let error = refused(&folder);
    assert!(matches!(error, BundleError::Manifest { source: ManifestError::TooLarge, .. }), "{error}");
}

#[test]
fn a_signature_covers_every_byte_of_the_bundle() {
    let folder = Folder::new();
    write(folder.path(), 0);
    let key = SigningKey::generate().unwrap();
    let trust = |folder: &Folder| Bundle::open(folder.path()).unwrap().trust(&signers(&key));
    assert_eq!(trust(&folder), Trust::Unsigned);
    sign(folder.path(), &key);
    assert_eq!(trust(&folder), Trust::Signed { by: vec!["release".into()] });
    let vouched = Bundle::open(folder.path()).unwrap().vouched(&signers(&key)).unwrap();
    assert_eq!(vouched.manifest.formats.luo.as_deref(), Some("luo-v5"));
    assert!(vouched.manifest.config.unwrap().built_in("CONFIG_LIVEUPDATE"));

    let stranger = SigningKey::generate().unwrap();
    sign(folder.path(), &stranger);
    assert_eq!(trust(&folder), Trust::Stranger { keys: vec![stranger.public().id()] });
    assert!(Bundle::open(folder.path()).unwrap().vouched(&signers(&key)).is_none());

    sign(folder.path(), &key);
    let text = fs::read_to_string(folder.at(MANIFEST)).unwrap();
    fs::write(folder.at(MANIFEST), text.replace("liveupdate=on", "liveupdate=on init=/bin/sh")).unwrap();
    assert_eq!(trust(&folder), Trust::OtherBytes { by: vec!["release".into()] });
    // The same meaning in other bytes is another bundle, too.
    fs::write(folder.at(MANIFEST), format!("{text}\n")).unwrap();
    assert_eq!(trust(&folder), Trust::OtherBytes { by: vec!["release".into()] });
}

/// What the gates read of the archives, they remember by the bundle's digest.
#[test]
fn what_a_bundle_has_for_devices_counts_only_as_the_manifest_has_it() {
    let (folder, outside) = (Folder::new(), Folder::new());
    let mut whole = parts(0);
    for part in [Part::Shim, Part::Modules] {
        let mut archive = Archive::new();
        archive.file("lib/modules/7.3.5-lu2/modules.dep", 0o644, b"dependencies");
        whole.insert(part, archive.finish());
    }
    let said = |folder: &Folder| {
        let read = Contents::read(&Bundle::open(folder.path()).unwrap());
        read.map(|_| ()).map_err(|why| why.replace(&format!("{}/", folder.path().display()), ""))
    };
    for part in [Part::Shim, Part::Modules] {
        write_parts(folder.path(), &whole);
        assert_eq!(said(&folder), Ok(()));
        let (name, mut bytes) = (part.file(), whole[&part].clone());
        // Behind the archive's last entry, which is as far as it is looked at; and at its very beginning.
        for at in [bytes.len() - 1, 0] {
            bytes[at] ^= 1;
            fs::write(folder.at(name), &bytes).unwrap();
            let why = said(&folder).unwrap_err();
            assert!(why.starts_with(&format!("{name} was changed: its digest is")), "{why}");
        }
        fs::write(folder.at(name), b"short").unwrap();
        assert!(said(&folder).unwrap_err().starts_with(&format!("{name} is truncated: 5 bytes")));
        fs::write(outside.at(name), &whole[&part]).unwrap();
        fs::remove_file(folder.at(name)).unwrap();
        symlink(outside.at(name), folder.at(name)).unwrap();
        assert_eq!(said(&folder), Err(format!("{name} is a link, want a file: a bundle holds nothing else")));
        fs::remove_file(folder.at(name)).unwrap();
    }
}
