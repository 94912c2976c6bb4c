//! A machine's files, copied so that they can be changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use liveupdate_host::linux::clock::Clock;
use liveupdate_host::linux::fallback::{BOOT, Fallback};
use liveupdate_host::linux::kernel::Kernel;
use liveupdate_host::linux::kexec_state::KexecState;
use liveupdate_host::linux::kho::Kho;
use liveupdate_host::linux::memory::Memory;
use liveupdate_host::linux::pci::PciDevices;
use liveupdate_host::linux::processes::Processes;
use liveupdate_host::linux::root::Root;
use liveupdate_node_core::GateResult;
use liveupdate_node_core::gate::Gate;

pub(crate) struct Machine(PathBuf);

impl Machine {
    pub(crate) fn of(fixture: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("liveupdate-machine-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture), &folder);
        Self(folder)
    }

    pub(crate) fn guest() -> Self {
        Self::of("luo-guest")
    }

    pub(crate) fn root(&self) -> Root {
        Root::at(&self.0)
    }

    pub(crate) fn with(self, path: &str, text: &str) -> Self {
        self.with_bytes(path, text.as_bytes())
    }

    pub(crate) fn with_bytes(self, path: &str, bytes: &[u8]) -> Self {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    pub(crate) fn with_link(self, path: &str, target: &str) -> Self {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(target, path).unwrap();
        self
    }

    pub(crate) fn without(self, path: &str) -> Self {
        let path = self.0.join(path);
        let gone = if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        gone.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self
    }

    /// The text with one part of it replaced, which must be there.
    pub(crate) fn edit(self, path: &str, from: &str, to: &str) -> Self {
        let text = fs::read_to_string(self.0.join(path)).unwrap();
        assert!(text.contains(from), "{path} has no {from:?}");
        self.with(path, &text.replace(from, to))
    }

    /// Another kernel configuration, one option replaced.
    pub(crate) fn configure(self, from: &str, to: &str) -> Self {
        use std::io::{Read, Write};
        let packed = fs::read(self.0.join("proc/config.gz")).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap();
        assert!(text.contains(from), "the configuration has no {from:?}");
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(text.replace(from, to).as_bytes()).unwrap();
        let packed = writer.finish().unwrap();
        self.with_bytes("proc/config.gz", &packed)
    }

    pub(crate) fn kernel(&self) -> Kernel {
        Kernel::read(&self.root())
    }

    pub(crate) fn kexec(&self) -> KexecState {
        KexecState::read(&self.root())
    }

    pub(crate) fn kho(&self) -> Kho {
        Kho::read(&self.root())
    }

    pub(crate) fn memory(&self) -> Memory {
        Memory::read(&self.root()).unwrap()
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock::read(&self.root())
    }

    pub(crate) fn fallback(&self) -> Fallback {
        Fallback::read(&self.root(), &BOOT)
    }

    pub(crate) fn pci(&self) -> PciDevices {
        PciDevices::read(&self.root()).unwrap()
    }

    pub(crate) fn processes(&self) -> Processes {
        Processes::read(&self.root()).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else if kind.is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The gate has this result, says this, and a remedy unless it passes.
pub(crate) fn expect(gate: &Gate, result: GateResult, word: &str) {
    assert_eq!(gate.result, result, "{gate:#?}");
    assert!(gate.evidence.contains(word), "no {word:?} in {gate:#?}");
    assert_eq!(gate.remedy.is_empty(), result == GateResult::Pass, "{gate:#?}");
}

pub(crate) fn pass(gate: &Gate, word: &str) {
    expect(gate, GateResult::Pass, word);
}

pub(crate) fn fail(gate: &Gate, word: &str) {
    expect(gate, GateResult::Fail, word);
}

pub(crate) fn unknown(gate: &Gate, word: &str) {
    expect(gate, GateResult::Unknown, word);
}
