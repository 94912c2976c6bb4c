//! What `bundle inspect` says of kernels that a distribution built and that nobody here ever saw.

use std::path::PathBuf;
use std::process::Command;

use liveupdate_lab::binaries;
use liveupdate_lab::vm::Kernel;
use serde_json::{Value, json};

/// What is switched on in every kernel that can take something over.
const NEEDED: [&str; 3] = ["CONFIG_KEXEC_HANDOVER", "CONFIG_LIVEUPDATE", "CONFIG_LIVEUPDATE_MEMFD"];

/// The plugin's word on an image.
pub(crate) async fn inspected(image: PathBuf) -> Value {
    let inspect = move || {
        let plugin = binaries::fresh("kubectl-liveupdate", "kubectl-liveupdate").unwrap();
        Command::new(plugin).args(["bundle", "inspect", "-o", "json"]).arg(image).output().unwrap()
    };
    let output = tokio::task::spawn_blocking(inspect).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The image was read whole, can be loaded, and is refused for what it lacks. It has no configuration: that is said, and not
/// taken for one in which all is off.
pub(crate) fn takes_over_nothing(image: &Value) {
    assert_eq!(
        (&image["format"], &image["architecture"]),
        (&json!("bzImage"), &json!("x86_64")),
        "{image:#}"
    );
    assert_eq!(image["boot"]["kexecProblems"], json!([]), "{image:#}");
    let unpacked = image["payload"]["unpacked"].as_u64();
    assert!(unpacked > image["payload"]["packed"].as_u64(), "{image:#}");
    let configuration = image["config"]["unknown"].as_str().unwrap();
    assert!(configuration.contains("CONFIG_IKCONFIG is not set"), "{image:#}");
    for format in ["kho", "luo", "memfd", "others"] {
        assert_eq!(image["abi"][format], json!([]), "{image:#}");
    }
    let gate = &image["targetKernel"];
    assert_eq!(gate["result"], "Fail", "{image:#}");
    for format in ["no kho-v*", "no luo-v*", "no memfd-v*", "it can take over nothing"] {
        assert!(gate["evidence"].as_str().unwrap().contains(format), "{format}: {image:#}");
    }
    assert!(gate["remedy"].as_str().unwrap().contains("CONFIG_LIVEUPDATE"), "{image:#}");
}

/// Its release has live update: only its own configuration has not. The file beside it is for us to compare with; the gate
/// does not know of it. What docs/adopting.md says of stock kernels is this.
#[tokio::test]
async fn a_distributions_newest_kernel_is_refused_for_what_its_own_configuration_leaves_out() {
    let (image, config) = tokio::task::spawn_blocking(|| Kernel::of_a_distribution().unwrap()).await.unwrap();
    let config = std::fs::read_to_string(config).unwrap();
    let on = |option: &str| config.lines().any(|line| line == format!("{option}=y"));
    let series = config.lines().find(|line| line.contains("Kernel Configuration")).unwrap();
    assert!(on("CONFIG_KEXEC_FILE"), "{series}");
    assert_eq!(NEEDED.map(on), [false; 3], "{series}");

    let image = inspected(image).await;
    takes_over_nothing(&image);
    let release = image["release"].as_str().unwrap();
    // `# Linux/x86 7.3.4 Kernel Configuration`
    let version = series.split_whitespace().nth(2).unwrap();
    assert!(release.starts_with(version) && release.ends_with("-cloud-amd64"), "{series}: {release}");
}
