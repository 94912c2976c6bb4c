//! What is read of an artifact's manifest, and what is not.

use super::*;

fn artifact() -> Artifact {
    let blob = |text: &[u8]| Blob { digest: Digest::of(text), size: text.len() as u64 };
    Artifact {
        manifest: blob(b"manifest"),
        signatures: Some(blob(b"signatures")),
        parts: [(Part::Image, blob(b"image")), (Part::Modules, blob(b"modules"))].into(),
    }
}

fn text() -> String {
    String::from_utf8(artifact().to_bytes("7.3.5-lu2").unwrap()).unwrap()
}

#[test]
fn an_artifact_reads_back_and_is_always_the_same() {
    assert_eq!(Artifact::parse(text().as_bytes()), Ok(artifact()));
    assert_eq!(
        Digest::of(text().as_bytes()).to_string(),
        "sha256:6a979ad695c485af3f01146192686d99698efa92e2bf20997bf815f1fab98b19",
        "what was pushed by one release has the same digest when it is pushed by the next"
    );
}

/// What other tools add, and what they call the files, changes nothing.
#[test]
fn titles_and_annotations_name_no_place() {
    let other = text()
        .replace("image.title\": \"image\"", "image.title\": \"boot/..image\"")
        .replace("\"schemaVersion\": 2,", "\"schemaVersion\": 2, \"subject\": {\"x\": 1},");
    assert!(other.contains("boot/..image") && other.contains("subject"));
    assert_eq!(Artifact::parse(other.as_bytes()), Ok(artifact()));
}

#[test]
fn a_title_that_leads_out_of_the_folder_is_refused() {
    for title in ["../../../etc/passwd", "/etc/passwd", "a/../../b", "..", "a\\\\..\\\\b"] {
        let hostile = text().replace("image.title\": \"image\"", &format!("image.title\": \"{title}\""));
        assert_ne!(hostile, text());
        let why = Artifact::parse(hostile.as_bytes()).unwrap_err();
        assert!(
            why.starts_with("image has the title ") && why.ends_with(", which climbs out"),
            "{title}: {why}"
        );
    }
}

#[test]
fn what_is_no_bundle_is_refused_by_name() {
    let refused = |from: &str, to: &str| {
        let changed = text().replace(from, to);
        assert_ne!(changed, text(), "{from}");
        Artifact::parse(changed.as_bytes()).unwrap_err()
    };
    let says = |from: &str, to: &str, what: &str| {
        let why = refused(from, to);
        assert!(why.contains(what), "{to}: {why}");
    };
    says(MANIFEST_KIND, "application/vnd.oci.image.index.v1+json", "no index");
    says("\"schemaVersion\": 2", "\"schemaVersion\": 1", "want application/vnd.oci");
    says(ARTIFACT_KIND, "application/vnd.example", "it is no bundle");
    says(
        "bundle.image.v1",
        "bundle.image.v1+zstd",
        "layers are not packed, want application/vnd.liveupdate.bundle.image.v1",
    );
    says("bundle.image.v1", "bundle.image.v1.tar+gzip", "layers are not packed");
    says("bundle.image.v1", "bundle.firmware.v1", "which no bundle has");
    says("bundle.modules.v1", "bundle.image.v1", "it has image twice");
    says("bundle.manifest.v1", "bundle.manifest.v2", "which no bundle has");
    says("\"size\": 5", "\"size\": 0", "image: 0 bytes");
    says("\"size\": 5", "\"size\": 1073741825", "image: 1073741825 bytes; want 1 to 1073741824");
    says("\"size\": 5", "\"size\": -1", "invalid value");
    says("\"size\": 8", "\"size\": 65537", "manifest.json: 65537 bytes");
    says("sha256:", "sha512:", "no digest");
    assert!(Artifact::parse(b"{").is_err());
    let large = format!("{}{}", text(), " ".repeat(LARGEST_ARTIFACT));
    assert!(Artifact::parse(large.as_bytes()).unwrap_err().contains("more than 65536 bytes"));
}

#[test]
fn layers_are_those_that_the_bundles_own_manifest_names() {
    let file = |blob: Blob| super::super::File { size: blob.size, digest: blob.digest };
    let good = artifact();
    let manifest = Manifest {
        version: super::super::VERSION,
        release: "7.3".into(),
        architecture: "x86_64".into(),
        command_line: String::new(),
        image: file(good.parts[&Part::Image]),
        initrd: None,
        modules: Some(file(good.parts[&Part::Modules])),
        shim: None,
        formats: super::super::Formats::default(),
        configuration: None,
        provenance: BTreeMap::new(),
    };
    assert_eq!(good.fits(&manifest), Ok(()));
    let says = |edit: &dyn Fn(&mut Artifact), what: &str| {
        let mut changed = artifact();
        edit(&mut changed);
        let why = changed.fits(&manifest).unwrap_err();
        assert!(why.contains(what), "{why}");
    };
    says(&|of| of.parts.retain(|part, _| *part != Part::Modules), "modules.cpio is missing");
    says(&|of| of.parts.extend([(Part::Shim, of.manifest)]), "shim.cpio is there and not in manifest.json");
    says(&|of| of.parts.get_mut(&Part::Image).unwrap().size += 1, "image is another one");
    says(&|of| of.parts.get_mut(&Part::Image).unwrap().digest = Digest::of(b"x"), "image is another one");
}
