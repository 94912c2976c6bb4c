//! The product's images, as the script makes them that ships them: who runs what is in them, and what that is.
//!
//! Agent, keeper and shim are those that guests run, built as they are shipped. The controller is this build's own, as no
//! guest runs one: of it is seen here who it runs as, and not how it is linked.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use liveupdate_lab::vm::static_binaries;
use liveupdate_lab::{RunDir, binaries};
use serde_json::{Value, json};

/// Package and binary of what is in the agent's image.
const AGENT: [(&str, &str); 3] = [
    ("liveupdate-agent", "liveupdate-agent"),
    ("liveupdate-keeper", "liveupdate-keeper"),
    ("liveupdate-shim", "liveupdate-init"),
];
const CONTROLLER: &str = "liveupdate-controller";

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn unpack(archive: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    output(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(to));
}

/// An image: what a runtime is told of it, its files as tar lists them, and where those are.
struct Image {
    config: Value,
    files: Vec<String>,
    root: PathBuf,
}

impl Image {
    fn read(archive: &Path) -> Image {
        let (layout, root) = (archive.with_extension("layout"), archive.with_extension("root"));
        unpack(archive, &layout);
        let json = |path: PathBuf| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
        let blob = |of: &Value| layout.join("blobs").join(of["digest"].as_str().unwrap().replace(':', "/"));
        let index = json(layout.join("index.json"));
        let manifest = json(blob(&index["manifests"][0]));
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!((index["manifests"].as_array().unwrap().len(), layers.len()), (1, 1), "{manifest}");
        let layer = blob(&layers[0]);
        let listed = output(Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(&layer));
        // Rights, owner and name; between them are size and time.
        let line = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            [words[0], words[1], words[words.len() - 1]].join(" ")
        };
        unpack(&layer, &root);
        Image { config: json(blob(&manifest["config"])), files: listed.lines().map(line).collect(), root }
    }

    /// Nothing but these is in it, and the first of them is what runs, as this user.
    fn has(&self, binaries: &[&str], user: &str) {
        let mut wanted: Vec<String> = binaries.iter().map(|name| format!("-rwxr-xr-x 0/0 {name}")).collect();
        wanted.sort_unstable();
        assert_eq!(self.files, wanted);
        let config = &self.config["config"];
        assert_eq!(config["User"], user, "{config}");
        assert_eq!(config["Entrypoint"], json!([format!("/{}", binaries[0])]), "{config}");
        assert!(config["Env"].is_null() && config["Cmd"].is_null(), "{config}");
        assert_eq!((&self.config["architecture"], &self.config["os"]), (&json!("amd64"), &json!("linux")));
    }
}

/// Whether a program of this machine needs nothing beside itself: no loader, no library.
fn stands_alone(elf: &[u8]) -> bool {
    const DYNAMIC: u64 = 2;
    const INTERPRETER: u64 = 3;
    const NEEDED: u64 = 1;
    let number = |at: usize, bytes: usize| {
        elf[at..at + bytes].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let place = |at: usize, bytes: usize| usize::try_from(number(at, bytes)).unwrap();
    assert_eq!(&elf[..5], b"\x7fELF\x02");
    let (first, size, count) = (place(0x20, 8), place(0x36, 2), place(0x38, 2));
    (0..count).map(|index| first + index * size).all(|header| match number(header, 4) {
        INTERPRETER => false,
        DYNAMIC => {
            let (from, length) = (place(header + 8, 8), place(header + 32, 8));
            (from..from + length).step_by(16).all(|entry| number(entry, 8) != NEEDED)
        }
        _ => true,
    })
}

/// The crates of which places in their sources are in a binary, for panics to name: `name-version`.
fn crates_in(binary: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(binary);
    // The registry's folder, and the crate's in it.
    let places = text.split("/cargo/registry/src/").skip(1).filter_map(|place| place.split('/').nth(1));
    places.map(str::to_owned).collect()
}

/// What Cargo would link into a package's binary.
fn crates_of(package: &str) -> BTreeSet<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let edges = ["--edges", "normal,no-proc-macro", "--target", "x86_64-unknown-linux-gnu"];
    let mut tree = Command::new("cargo");
    tree.args(["tree", "--locked", "--prefix", "none", "--format", "{p}", "--package", package]).args(edges);
    let tree = output(tree.arg("--manifest-path").arg(manifest));
    let names = tree.lines().filter_map(|line| {
        let (name, version) = line.split_once(" v")?;
        Some(format!("{name}-{}", version.split(' ').next()?))
    });
    names.collect()
}

/// The crates of a bill of materials. Each that came from elsewhere has the digest of what came.
fn crates_billed(bill: &Path) -> BTreeSet<String> {
    let bill: Value = serde_json::from_slice(&fs::read(bill).unwrap()).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&json!("CycloneDX"), &json!("1.6")));
    let text = |of: &Value, key: &str| of[key].as_str().unwrap().to_owned();
    let components = bill["components"].as_array().unwrap().iter();
    let crates = components.filter(|component| text(component, "purl").starts_with("pkg:cargo/"));
    let name = |component: &Value| {
        let name = text(component, "name");
        let digest = component["hashes"][0]["content"].as_str().map_or(0, str::len);
        assert_eq!(digest, if name.starts_with("liveupdate-") { 0 } else { 64 }, "{component}");
        assert!(!text(&component["licenses"][0], "expression").is_empty(), "{component}");
        format!("{name}-{}", text(component, "version"))
    };
    crates.map(name).collect()
}

#[test]
fn images_have_static_binaries_alone_with_a_bill_of_each_and_the_controller_is_not_root() {
    let run = RunDir::create().unwrap();
    let (built, images) = (run.folder("built").unwrap(), run.path().join("images"));
    for (package, binary) in AGENT {
        let path = static_binaries::fresh(package, binary).unwrap();
        fs::copy(path, built.join(binary)).unwrap();
    }
    let controller = binaries::fresh(CONTROLLER, CONTROLLER).unwrap();
    // What is shipped has no names and lines either: packed with them it takes half a minute.
    output(Command::new("strip").arg("-o").arg(built.join(CONTROLLER)).arg(controller));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/images.sh");
    output(Command::new(script).arg("--of").arg(&built).arg(&images));

    Image::read(&images.join("liveupdate-controller.tar")).has(&[CONTROLLER], "65532:65532");
    let agent = Image::read(&images.join("liveupdate-agent.tar"));
    agent.has(&AGENT.map(|(_, binary)| binary), "0:0");
    let mut seen = BTreeSet::new();
    for (package, binary) in AGENT {
        let bytes = fs::read(agent.root.join(binary)).unwrap();
        assert!(stands_alone(&bytes), "{binary} needs more than itself");
        let (billed, within) =
            (crates_billed(&images.join(format!("{package}.cdx.json"))), crates_in(&bytes));
        assert_eq!(billed, crates_of(package), "{package}");
        let missing: Vec<&String> = within.difference(&billed).collect();
        assert!(missing.is_empty(), "{binary} has what is in no bill: {missing:?}");
        // The shim has none that can panic.
        seen.extend(within);
    }
    assert!(seen.len() > 20, "{seen:?}");
    // This test itself is a program that needs a loader.
    assert!(!stands_alone(&fs::read("/proc/self/exe").unwrap()));
    let billed = crates_billed(&images.join(format!("{CONTROLLER}.cdx.json")));
    assert_eq!(billed, crates_of(CONTROLLER));
}
