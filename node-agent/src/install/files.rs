//! The two files of an installed keeper.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use liveupdate_host::linux::installation::{PROGRAM_FILE, UNIT_FILE};
use liveupdate_host::linux::root::Root;

use super::InstallError;

/// Unit and program; none: there is no such file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) unit: Option<Vec<u8>>,
    pub(super) program: Option<Vec<u8>>,
}

impl Files {
    /// Makes the host have these. The unit comes last: it is what says that there is a keeper.
    pub(super) fn write(&self, root: &Root) -> Result<(), InstallError> {
        for (path, mode, bytes) in [(PROGRAM_FILE, 0o755, &self.program), (UNIT_FILE, 0o644, &self.unit)] {
            let file = root.path(path);
            let done = match bytes {
                Some(bytes) => replace(&file, mode, bytes),
                None => remove(&file),
            };
            done.map_err(|why| InstallError::Write { path, why })?;
        }
        Ok(())
    }
}

/// After a kill or a power cut it has either the old bytes or the new ones.
fn replace(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    if !folder.is_dir() {
        // As the unit makes the state's folder.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let new = path.with_extension("new");
    // One that was left behind may have another mode.
    remove(&new)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
