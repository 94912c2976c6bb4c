//! Archives in the kernel's initramfs format (cpio "newc"). Archives may follow one another in one initrd;
//! each is padded to a multiple of four.

use std::io::Write;

/// An archive in the making. Paths are relative to the root, without a leading slash; a folder has to be
/// added before what is in it.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

impl Archive {
    /// An empty archive.
    pub fn new() -> Archive {
        Archive::default()
    }

    /// Adds a folder.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.entry(path, FOLDER | mode, (0, 0), &[]);
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.entry(path, FILE | mode, (0, 0), contents);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds a character device's node.
    pub fn character_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        self.entry(path, CHARACTER | mode, (major, minor), &[]);
    }

    /// Takes what was added so far out of memory, to be written first; what is added later follows it.
    pub fn drain(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// The archive's bytes, less what was drained.
    pub fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        // Times, owners and the archive's own device are zero: the same contents give the same bytes.
        let number = self.entries;
        self.entries += 1;
        let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
        // An initramfs cannot hold files of 4 GiB and more, and nobody has one in memory.
        let size = u32::try_from(contents.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
        let fields = [number, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            // Writing to a vector does not fail.
            let _ = write!(self.bytes, "{field:08X}");
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// The reference implementation's word on what we wrote.
    #[test]
    fn cpio_itself_lists_what_was_written() {
        let mut archive = Archive::new();
        archive.folder("dev", 0o755);
        archive.character_device("dev/console", 0o600, 5, 1);
        archive.file("init", 0o755, b"odd");
        archive.file("empty", 0o644, b"");
        archive.link("bin", "usr/bin");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let mut cpio = Command::new("cpio")
            .args(["--list", "--verbose", "--numeric-uid-gid", "--quiet"])
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        cpio.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = cpio.wait_with_output().unwrap();
        let listing = String::from_utf8(output.stdout).unwrap();
        let words: Vec<Vec<&str>> =
            listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        let modes: Vec<&str> = words.iter().map(|line| line[0]).collect();
        assert_eq!(
            modes,
            ["drwxr-xr-x", "crw-------", "-rwxr-xr-x", "-rw-r--r--", "lrwxrwxrwx"],
            "{listing}"
        );
        assert_eq!(words[1][4..6], ["5,", "1"], "{listing}");
        assert_eq!((words[2][4], words[2].last()), ("3", Some(&"init")), "{listing}");
        assert_eq!(words[4][8..], ["bin", "->", "usr/bin"], "{listing}");
    }
}
