//! Probes: small programs inside the guest that use the kernel's live update the way the product does.
//! `liveupdate-lab-init probe JSON` runs one and prints its report as JSON.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use liveupdate_host::linux::kexec::{self, CommandLine, KexecError};
use liveupdate_host::linux::luo::{DEVICE, LuoError, Orchestrator, SessionName, Token};
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

/// What to try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// Preserve a memfd that is full of the seed's pattern, load a kernel, jump. Does not return.
    Jump {
        /// What to preserve.
        held: Held,
        /// The kernel to jump into.
        kernel: PathBuf,
        /// Its initrd.
        initrd: PathBuf,
        /// Its command line.
        command_line: String,
    },
    /// Retrieve what [`Probe::Jump`] preserved, compare each byte, finish. Reports [`Reclaimed`].
    Reclaim {
        /// What was preserved.
        held: Held,
    },
}

/// A preserved memfd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The session's name.
    pub session: String,
    /// The file's token in it.
    pub token: u64,
    /// The memfd's size in bytes.
    pub size: u64,
    /// What its contents follow from. Whoever does not know it cannot make them up.
    pub seed: u64,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reclaimed {
    /// The memfd's size in bytes.
    pub size: u64,
    /// How many of its bytes are not the pattern's.
    pub wrong: u64,
}

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Live update refused.
    #[error(transparent)]
    Luo(#[from] LuoError),
    /// kexec refused.
    #[error(transparent)]
    Kexec(#[from] KexecError),
    /// A file could not be used.
    #[error("cannot {action} {thing}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        thing: String,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
}

fn file<'a>(action: &'static str, thing: &'a Path) -> impl FnOnce(io::Error) -> ProbeError + 'a {
    move |source| ProbeError::File { action, thing: thing.display().to_string(), source }
}

fn memfd(action: &'static str) -> impl FnOnce(io::Error) -> ProbeError {
    move |source| ProbeError::File { action, thing: "the memfd".into(), source }
}

/// Runs a probe.
///
/// # Errors
/// [`ProbeError`]; a jump that worked does not return at all.
pub fn run(probe: &Probe) -> Result<Reclaimed, ProbeError> {
    match probe {
        Probe::Jump { held, kernel, initrd, command_line } => jump(held, kernel, initrd, command_line),
        Probe::Reclaim { held } => reclaim(held),
    }
}

fn jump(held: &Held, kernel: &Path, initrd: &Path, command_line: &str) -> Result<Reclaimed, ProbeError> {
    let memory =
        rustix::fs::memfd_create("held", MemfdFlags::CLOEXEC).map_err(|e| memfd("make")(e.into()))?;
    let mut memory = File::from(memory);
    write_pattern(&mut memory, held).map_err(memfd("fill"))?;
    let session = Orchestrator::open(Path::new(DEVICE))?.create_session(&SessionName::new(&held.session)?)?;
    session.preserve(Token(held.token), &memory)?;
    let initrd = File::open(initrd).map_err(file("open", initrd))?;
    let kernel = File::open(kernel).map_err(file("open", kernel))?;
    kexec::load(&kernel, Some(std::os::fd::AsFd::as_fd(&initrd)), &CommandLine::new(command_line)?)?;
    rustix::fs::sync();
    // The session is open until the kernel is gone: that is what preserves it.
    match kexec::jump()? {}
}

fn reclaim(held: &Held) -> Result<Reclaimed, ProbeError> {
    let session =
        Orchestrator::open(Path::new(DEVICE))?.retrieve_session(&SessionName::new(&held.session)?)?;
    let mut memory = File::from(session.retrieve(Token(held.token))?);
    let size = memory.metadata().map_err(memfd("ask about"))?.len();
    memory.seek(SeekFrom::Start(0)).map_err(memfd("read"))?;
    let wrong = count_wrong(&mut memory, held.seed).map_err(memfd("read"))?;
    session.finish()?;
    Ok(Reclaimed { size, wrong })
}

fn write_pattern(memory: &mut File, held: &Held) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, memory);
    let mut left = held.size;
    for word in Words(held.seed) {
        let bytes = word.to_le_bytes();
        let part = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        out.write_all(bytes.get(..part).unwrap_or(&bytes))?;
        left -= part as u64;
        if left == 0 {
            break;
        }
    }
    out.flush()
}

fn count_wrong(memory: &mut impl Read, seed: u64) -> io::Result<u64> {
    let mut wrong = 0;
    let mut words = Words(seed);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let mut filled = 0;
        // Whole words, so that one chunk's last is not cut.
        while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            match memory.read(room)? {
                0 => break,
                more => filled += more,
            }
        }
        let chunk = buffer.get(..filled).unwrap_or_default();
        for (bytes, word) in chunk.chunks(8).zip(&mut words) {
            wrong +=
                bytes.iter().zip(word.to_le_bytes()).filter(|(is, should)| **is != *should).count() as u64;
        }
        if filled < buffer.len() {
            return Ok(wrong);
        }
    }
}

/// An endless sequence that follows from its seed (SplitMix64).
struct Words(u64);

impl Iterator for Words {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Some(word ^ (word >> 31))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_byte_is_counted() {
        let size = (1 << 17) + 13;
        let held = Held { session: "s".into(), token: 1, size, seed: 7 };
        let mut memory = File::from(rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
        write_pattern(&mut memory, &held).unwrap();
        let mut bytes = Vec::new();
        memory.seek(SeekFrom::Start(0)).unwrap();
        memory.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, size);
        assert_eq!(count_wrong(&mut bytes.as_slice(), 7).unwrap(), 0);
        for place in [0, 1 << 16, bytes.len() - 1] {
            bytes[place] ^= 1;
        }
        assert_eq!(count_wrong(&mut bytes.as_slice(), 7).unwrap(), 3);
        assert!(count_wrong(&mut bytes.as_slice(), 8).unwrap() > size * 9 / 10);
        assert!(count_wrong(&mut vec![0; bytes.len()].as_slice(), 7).unwrap() > size * 9 / 10);
    }
}
