//! `bundle build`, `keygen`, `sign` and `verify` as a person runs them, held against files; `LIVEUPDATE_REFRESH_GOLDENS=1`
//! writes them anew.

#![allow(clippy::unwrap_used, reason = "helpers of tests; clippy.toml covers only the tests themselves")]

mod kernels;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use kernels::{CONFIG, FORMATS, bzimage, compare, good, gzip, kernel};
use liveupdate_host::bundle::{Bundle, Digest};

const LINE: &str = "root=/dev/vda1 ro kho=on liveupdate=on";
/// The first key of RFC 8032, as `openssl genpkey` would write it.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";

/// A folder to work in, with a kernel and what belongs to it.
struct Desk(PathBuf);

impl Desk {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("liveupdate-desk-{}-{number}", std::process::id()));
        let modules = folder.join("root/lib/modules/7.3.5-lu2");
        fs::create_dir_all(modules.join("kernel/drivers")).unwrap();
        fs::write(modules.join("modules.dep"), "kernel/drivers/nvme.ko:\n").unwrap();
        fs::write(modules.join("kernel/drivers/nvme.ko"), "\x7fELF nvme").unwrap();
        symlink("/usr/src/linux", modules.join("build")).unwrap();
        fs::create_dir_all(folder.join("signers")).unwrap();
        fs::write(folder.join("signers/release.pub"), PUBLIC).unwrap();
        for (name, bytes) in [
            ("bzImage", good()),
            ("stock", bzimage(&gzip(&kernel(None, &[])))),
            ("silent", bzimage(&gzip(&kernel(None, &FORMATS)))),
            ("initrd", b"070701 an initrd".to_vec()),
            ("liveupdate-init", b"\x7fELF init".to_vec()),
            ("vfio.ko", b"\x7fELF vfio".to_vec()),
            ("config", CONFIG.as_bytes().to_vec()),
            ("release.key", KEY.as_bytes().to_vec()),
        ] {
            fs::write(folder.join(name), bytes).unwrap();
        }
        Self(folder)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Exit code, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-liveupdate"))
            .arg("bundle")
            .args(arguments)
            .current_dir(&self.0)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// What it prints; it has to go well.
    fn fine(&self, arguments: &[&str]) -> String {
        let (code, said, error) = self.run(arguments);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{arguments:?}");
        said
    }

    fn build(&self, output: &str, more: &[&str]) -> String {
        self.fine(&[&["build", "-o", output, "--image", "bzImage", "--command-line", LINE], more].concat())
    }

    /// A whole one with everything, signed.
    fn whole(&self, output: &str) -> String {
        self.build(
            output,
            &[
                "--initrd",
                "initrd",
                "--modules",
                "root",
                "--shim",
                "liveupdate-init",
                "--driver",
                "vfio.ko ids=10de:1eb8",
                "--note",
                "build=1234",
                "--key",
                "release.key",
            ],
        )
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_bundle_is_made_signed_and_verified() {
    let desk = Desk::new();
    let built = desk.whole("7.3.5-lu2");
    compare("bundle-build.txt", &built);
    let bundle = Bundle::open(&desk.at("7.3.5-lu2")).unwrap();
    let digest = bundle.digest().to_string();
    assert!(built.contains(&digest));
    assert_eq!(bundle.manifest().command_line, format!("{LINE} rdinit=/liveupdate-init"));
    compare("bundle-manifest.json", &fs::read_to_string(desk.at("7.3.5-lu2/manifest.json")).unwrap());
    compare("bundle-manifest.sig", &fs::read_to_string(desk.at("7.3.5-lu2/manifest.sig")).unwrap());
    let verify = ["verify", "7.3.5-lu2", "--signers", "signers", "--digest", &digest];
    compare("bundle-verify.txt", &desk.fine(&verify));
    compare("bundle-verify.json", &desk.fine(&[&verify[..], &["-o", "json"]].concat()));
    let unsigned = desk.build("plain", &[]);
    assert!(unsigned.contains("Signed by:     nobody"), "{unsigned}");
    assert!(desk.fine(&["verify", "plain"]).contains("Signature:     not signed\n"));
    compare("bundle-sign.txt", &desk.fine(&["sign", "plain", "--key", "release.key"]));
    assert!(desk.fine(&["verify", "plain"]).contains("Signature:     not asked: give --signers\n"));
    desk.fine(&["verify", "plain", "--signers", "signers"]);
}

/// The same inputs under other names, at another time, listed by the file system in another order.
#[test]
fn the_same_inputs_give_the_same_bytes() {
    let (one, other) = (Desk::new(), Desk::new());
    one.whole("a");
    let modules = other.at("root/lib/modules/7.3.5-lu2");
    fs::rename(modules.join("modules.dep"), modules.join("x")).unwrap();
    fs::rename(modules.join("x"), modules.join("modules.dep")).unwrap();
    fs::set_permissions(modules.join("modules.dep"), fs::Permissions::from_mode(0o600)).unwrap();
    other.whole("b");
    for file in ["manifest.json", "manifest.sig", "image", "initrd", "modules.cpio", "shim.cpio"] {
        let (one, other) = (fs::read(one.at("a").join(file)), fs::read(other.at("b").join(file)));
        assert_eq!(Digest::of(&one.unwrap()), Digest::of(&other.unwrap()), "{file}");
    }
}

/// cpio's own word on the archives.
#[test]
fn modules_and_shim_are_archives_that_cpio_reads() {
    let desk = Desk::new();
    desk.whole("b");
    let list = |file: &str| {
        let archive = fs::File::open(desk.at("b").join(file)).unwrap();
        let output = Command::new("cpio").args(["--list", "--quiet"]).stdin(archive).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        list("modules.cpio"),
        [
            "lib",
            "lib/modules",
            "lib/modules/7.3.5-lu2",
            "lib/modules/7.3.5-lu2/kernel",
            "lib/modules/7.3.5-lu2/kernel/drivers",
            "lib/modules/7.3.5-lu2/kernel/drivers/nvme.ko",
            "lib/modules/7.3.5-lu2/modules.dep"
        ]
    );
    assert_eq!(
        list("shim.cpio"),
        [
            "liveupdate-init",
            "liveupdate",
            "liveupdate/proc",
            "liveupdate/kmsg",
            "liveupdate/drivers",
            "liveupdate/drivers/00-vfio.ko",
            "liveupdate/drivers.list"
        ]
    );
}

#[test]
fn a_silent_image_needs_its_configuration_and_a_stock_one_needs_force() {
    let desk = Desk::new();
    let build = |output: &'static str, image: &'static str| {
        vec!["build", "-o", output, "--image", image, "--command-line", LINE]
    };
    let said = desk.fine(&[build("silent-b", "silent"), vec!["--config", "config"]].concat());
    assert!(said.contains("TargetKernel:  Pass"), "{said}");
    let said = desk.fine(&[build("stock-b", "stock"), vec!["--force"]].concat());
    assert!(said.contains("TargetKernel:  Fail\n") && said.contains("Formats:       none\n"), "{said}");
    fs::write(desk.at("torn"), &good()[..1000]).unwrap();
    let torn = [build("torn-b", "torn"), vec!["--force", "--release", "7.3.5-lu2"]].concat();
    assert!(desk.fine(&torn).contains("TargetKernel:  the image cannot be read\n"));
    desk.fine(&["verify", "torn-b"]);
}

#[test]
fn keys_are_made_once_and_only_their_owner_reads_them() {
    let desk = Desk::new();
    let said = desk.fine(&["keygen", "mine"]);
    assert!(said.contains("Private key:   mine.key; whoever has it can sign\n"), "{said}");
    assert_eq!(fs::metadata(desk.at("mine.key")).unwrap().permissions().mode() & 0o777, 0o600);
    fs::rename(desk.at("mine.pub"), desk.at("signers/mine.pub")).unwrap();
    desk.build("b", &["--key", "mine.key"]);
    assert!(desk.fine(&["verify", "b", "--signers", "signers"]).contains("Signature:     by mine\n"));
    let before = fs::read(desk.at("mine.key")).unwrap();
    let (code, _, error) = desk.run(&["keygen", "mine"]);
    assert_eq!(code, Some(1));
    assert!(error.starts_with("Error: mine.key cannot be written: File exists"), "{error}");
    assert_eq!(fs::read(desk.at("mine.key")).unwrap(), before);
}

/// Everything that is refused, with exit code and words.
#[test]
fn what_is_refused_is_told() {
    let desk = Desk::new();
    let digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    for name in ["torn", "changed", "extra", "absent", "linked"] {
        desk.whole(name);
    }
    fs::write(desk.at("torn/image"), &good()[..1000]).unwrap();
    let mut image = good();
    image[3000] ^= 1;
    fs::write(desk.at("changed/image"), image).unwrap();
    fs::write(desk.at("extra/notes"), "hello").unwrap();
    fs::remove_file(desk.at("absent/initrd")).unwrap();
    fs::remove_file(desk.at("linked/image")).unwrap();
    symlink(desk.at("bzImage"), desk.at("linked/image")).unwrap();
    desk.build("unsigned", &[]);
    desk.whole("rewritten");
    let manifest = fs::read_to_string(desk.at("rewritten/manifest.json")).unwrap();
    fs::write(desk.at("rewritten/manifest.json"), manifest.replace("root=/dev/vda1", "root=/dev/vdb1"))
        .unwrap();
    desk.fine(&["keygen", "stranger"]);
    desk.build("strange", &["--key", "stranger.key"]);
    fs::write(desk.at("text"), "hello").unwrap();
    fs::create_dir(desk.at("empty")).unwrap();
    let build = |more: &[&'static str]| [&["build", "-o", "new", "--command-line", LINE], more].concat();
    let cases: Vec<Vec<&str>> = vec![
        build(&["--image", "stock"]),
        build(&["--image", "silent"]),
        build(&["--image", "text"]),
        build(&["--image", "nowhere"]),
        build(&["--image", "bzImage", "--initrd", "nowhere"]),
        build(&["--image", "bzImage", "--modules", "signers"]),
        build(&["--image", "bzImage", "--release", "7.3.6"]),
        build(&["--image", "bzImage", "--note", "hello"]),
        build(&["--image", "bzImage", "--key", "signers/release.pub"]),
        vec!["build", "-o", "new", "--image", "bzImage", "--command-line", "quiet"],
        vec!["build", "-o", "unsigned", "--image", "bzImage", "--command-line", LINE],
        vec!["verify", "torn"],
        vec!["verify", "changed"],
        vec!["verify", "extra"],
        vec!["verify", "absent"],
        vec!["verify", "linked"],
        vec!["verify", "empty"],
        vec!["verify", "nowhere"],
        vec!["verify", "unsigned", "--digest", digest],
        vec!["verify", "unsigned", "--digest", "sha256:0"],
        vec!["verify", "unsigned", "--signers", "nowhere"],
        vec!["verify", "unsigned", "--signers", "signers"],
        vec!["verify", "rewritten", "--signers", "signers"],
        vec!["verify", "strange", "--signers", "signers"],
        vec!["sign", "changed", "--key", "release.key"],
        vec!["sign", "unsigned", "--key", "text"],
    ];
    let mut text = String::new();
    for case in cases {
        let (code, said, error) = desk.run(&case);
        assert_ne!(code, Some(0), "{case:?}");
        assert_eq!(said.is_empty(), !error.contains("not trusted"), "{case:?}: {said}");
        // The key of the stranger is another one each time.
        let id = error.split("key ").nth(1).map(|rest| rest.trim().to_owned()).unwrap_or_default();
        let error = if id.len() == 32 { error.replace(&id, "…") } else { error };
        writeln!(text, "$ {}\n{}→ {}", case.join(" "), error, code.unwrap()).unwrap();
        assert!(!desk.at("new").exists() && !desk.at("new.new").exists(), "{case:?} left something");
    }
    compare("bundle-refused.txt", &text);
}

/// What needs a tool that is not ours: another program checks the signature.
#[test]
fn the_signature_is_over_the_exact_bytes_of_the_manifest() {
    let desk = Desk::new();
    desk.whole("b");
    let sig = fs::read_to_string(desk.at("b/manifest.sig")).unwrap();
    let hex = sig.split("\"signature\": \"").nth(1).unwrap().split('"').next().unwrap();
    let raw: Vec<u8> = (0..64).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
    fs::write(desk.at("raw"), raw).unwrap();
    let openssl = |manifest: &str| {
        Command::new("openssl")
            .args([
                "pkeyutl",
                "-verify",
                "-pubin",
                "-inkey",
                "signers/release.pub",
                "-rawin",
                "-in",
                manifest,
            ])
            .args(["-sigfile", "raw"])
            .current_dir(&desk.0)
            .output()
            .unwrap()
    };
    let output = openssl("b/manifest.json");
    assert!(output.status.success(), "{output:?}");
    fs::write(desk.at("other"), "other").unwrap();
    assert!(!openssl("other").status.success());
}
