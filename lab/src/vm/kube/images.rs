//! Images as the node finds them on its disk: nothing is pulled from anywhere.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::vm::static_binaries;
use crate::{Result, cargo};

/// The image of the lab's own pods, with the reference holder.
pub const POD_IMAGE: &str = "localhost/lab:lab";
/// The image of the agent.
pub const AGENT_IMAGE: &str = "localhost/liveupdate-agent:lab";
/// The image of sandboxes.
pub(super) const PAUSE_IMAGE: &str = "localhost/pause:lab";
const TAG: &str = "lab";
const SCRIPT: &str = "../scripts/oci-image.sh";
/// Of all that has one: an image is the same each time.
const TIME: &str = "1700000000";

/// An archive in the OCI layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// What pods call it, without its tag.
    pub(super) name: String,
    /// Where it is.
    pub(super) archive: PathBuf,
}

/// What every node has: sandboxes, and the lab's own pods.
pub(super) fn own(folder: &Path) -> Result<Vec<Image>> {
    let pod = static_binaries::fresh("liveupdate-lab-guest", "liveupdate-lab-pod")?;
    let hold = static_binaries::fresh("liveupdate-holder", "liveupdate-hold")?;
    let program = super::POD_PROGRAM;
    let pause = make(folder, "localhost/pause", &[&pod], &[program, "pause"])?;
    Ok(vec![pause, make(folder, "localhost/lab", &[&pod, &hold], &[program])?, agent(folder)?])
}

/// The agent's image, of the same files by the same script as the one that is shipped. That one has a controller beside
/// it, which takes minutes to build and that no node needs.
fn agent(folder: &Path) -> Result<Image> {
    let programs = [
        ("liveupdate-agent", "liveupdate-agent"),
        ("liveupdate-keeper", "liveupdate-keeper"),
        ("liveupdate-shim", "liveupdate-init"),
    ];
    let found = programs.map(|(package, program)| static_binaries::fresh(package, program));
    let found = found.into_iter().collect::<Result<Vec<PathBuf>>>()?;
    let paths: Vec<&Path> = found.iter().map(PathBuf::as_path).collect();
    make(folder, "localhost/liveupdate-agent", &paths, &["/liveupdate-agent"])
}

/// Makes one, of programs in its root folder.
fn make(folder: &Path, name: &str, programs: &[&Path], entrypoint: &[&str]) -> Result<Image> {
    let archive = folder.join(format!("{}.tar", name.replace('/', "_")));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(SCRIPT);
    let mut command = Command::new(&script);
    command
        .args([archive.as_os_str(), TAG.as_ref(), "0:0".as_ref(), name.as_ref()])
        .args(programs)
        .arg("--")
        .args(entrypoint)
        .env("SOURCE_DATE_EPOCH", TIME)
        .env_remove("LABELS")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    cargo::run(&format!("the making of image {name}"), &mut command)?;
    Ok(Image { name: name.to_owned(), archive })
}
