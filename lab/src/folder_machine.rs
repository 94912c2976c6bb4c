//! A machine that is a folder: what a real one says of itself in `/proc` and `/sys`, as the tests of the host have it, with
//! the product's own bundle store, signatures and readers over it. Its kernel only says that it has loaded something.
//!
//! For what a simulated machine does not look at: what lies in a bundle, and who signed it.

use std::convert::Infallible;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use liveupdate_host::Host;
use liveupdate_host::linux::kexec::{CommandLine, KexecError};
use liveupdate_host::linux::machine::{Calls, Ending, LinuxHost, Options, Role, Said};
use liveupdate_host::linux::root::Root;

use crate::{Error, Result};

const FIXTURE: &str = "../node-agent/host/tests/fixtures/luo-guest";
const LOADED: &str = "sys/kernel/kexec_loaded";

/// See the module.
#[derive(Clone, Debug)]
pub struct FolderMachine {
    root: PathBuf,
}

impl FolderMachine {
    /// Fills a folder, which is there already or not; what is in it beside stays.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(root: &Path) -> Result<FolderMachine> {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE);
        copy(&fixture, root).map_err(Error::file("fill", root))?;
        let machine = FolderMachine { root: root.to_owned() };
        machine.write("proc/self/mountinfo", "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n")?;
        machine.write(LOADED, "0\n")?;
        Ok(machine)
    }

    /// Writes a file of it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.path(path);
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        fs::write(&path, text).map_err(Error::file("write", &path))
    }

    /// Where a path of it is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The machine as its agent has it.
    ///
    /// # Errors
    /// When its records cannot be read.
    pub fn agents_host(&self) -> Result<Arc<dyn Host>> {
        let calls = Arc::new(Loads(self.path(LOADED)));
        let host = LinuxHost::with_calls(Options::at(Root::at(&self.root)), Role::Agent, calls);
        let node = self.root.display().to_string();
        Ok(Arc::new(host.map_err(|source| Error::Machine { node, source })?))
    }
}

/// A kernel that takes what it is given; an agent asks for nothing else.
struct Loads(PathBuf);

fn call(call: &'static str, source: io::Error) -> KexecError {
    KexecError::Call { call, thing: "a folder".into(), meaning: "it is no kernel", source }
}

fn no<T>() -> io::Result<T> {
    Err(ErrorKind::Unsupported.into())
}

impl Calls for Loads {
    fn load(
        &self,
        _: BorrowedFd<'_>,
        _: Option<BorrowedFd<'_>>,
        _: &CommandLine,
    ) -> std::result::Result<(), KexecError> {
        fs::write(&self.0, "1\n").map_err(|error| call("kexec_file_load", error))
    }

    fn unload(&self) -> std::result::Result<(), KexecError> {
        fs::write(&self.0, "0\n").map_err(|error| call("kexec_file_load", error))
    }

    fn reboot(&self) -> std::result::Result<Infallible, KexecError> {
        Err(call("reboot", ErrorKind::Unsupported.into()))
    }

    fn sync_all(&self, _: Duration) -> io::Result<()> {
        no()
    }

    fn sync(&self, _: &Path, _: Duration) -> io::Result<()> {
        no()
    }

    fn freeze(&self, _: &Path, _: Duration) -> io::Result<()> {
        no()
    }

    fn thaw(&self, _: &Path, _: Duration) -> io::Result<()> {
        no()
    }

    fn remount(&self, _: &Path, _: bool, _: &str, _: Duration) -> io::Result<()> {
        no()
    }

    fn lock_memory(&self) -> io::Result<()> {
        no()
    }

    fn unlock_memory(&self) -> io::Result<()> {
        no()
    }

    fn end(&self, _: u32, _: Ending) -> io::Result<()> {
        no()
    }

    fn systemctl(&self, _: &[&str]) -> io::Result<Said> {
        no()
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (target, kind) = (to.join(entry.file_name()), entry.file_type()?);
        if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, target)?;
        } else if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
