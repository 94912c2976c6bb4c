//! Reading an archive's files one after the other, without unpacking it; and its entries' headers, for who does unpack it.

use std::io::{self, Read};

/// Bytes of a header.
pub(super) const HEADER: usize = 110;
/// The name of the last entry.
pub(super) const LAST: &str = "TRAILER!!!";
const MAGIC: &[u8] = b"070701";
/// Longest name of a file, as the kernel has it.
const LONGEST_NAME: usize = 4096;
const KIND: u32 = 0o170_000;
const IS_FILE: u32 = 0o100_000;
const IS_FOLDER: u32 = 0o040_000;

/// What an entry's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    mode: u32,
    /// Bytes of its contents.
    pub(super) size: u64,
    /// Bytes of its name, with the zero behind it.
    pub(super) name: usize,
}

impl Header {
    /// Six digits of magic and thirteen fields of eight hex digits.
    ///
    /// # Errors
    /// It is no header, or its name is longer than any.
    pub(super) fn read(bytes: &[u8]) -> io::Result<Self> {
        let fields =
            bytes.strip_prefix(MAGIC).ok_or_else(|| malformed("an entry does not begin with 070701"))?;
        let field = |number: usize| {
            let digits = fields
                .get(number * 8..number * 8 + 8)
                .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
            let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
            let value = text.and_then(|text| u32::from_str_radix(text, 16).ok());
            value.ok_or_else(|| malformed("a header has no numbers"))
        };
        let name = usize::try_from(field(11)?).ok().filter(|length| (1..=LONGEST_NAME).contains(length));
        let name = name.ok_or_else(|| malformed("a name is too long, or none"))?;
        Ok(Self { mode: field(1)?, size: field(6)?.into(), name })
    }

    pub(super) fn is_file(&self) -> bool {
        self.mode & KIND == IS_FILE
    }

    pub(super) fn is_folder(&self) -> bool {
        self.mode & KIND == IS_FOLDER
    }

    /// Bytes of the name and of what fills it up, so that header and name end at a multiple of four.
    pub(super) fn padded_name(&self) -> usize {
        (HEADER + self.name).next_multiple_of(4) - HEADER
    }

    /// Bytes behind the contents, up to a multiple of four.
    pub(super) fn padding(&self) -> u64 {
        self.size.next_multiple_of(4) - self.size
    }
}

/// Calls `visit` with the name and size of each file, and a reader of its contents; what it does not read is
/// passed over. Ends with the archive's last entry.
///
/// # Errors
/// It is cut off, or no archive; and what `visit` says.
pub(super) fn files(
    archive: &mut dyn Read,
    visit: &mut dyn FnMut(&str, u64, &mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        let mut header = [0; HEADER];
        archive.read_exact(&mut header)?;
        let header = Header::read(&header)?;
        let mut name = vec![0; header.padded_name()];
        archive.read_exact(&mut name)?;
        let name = String::from_utf8_lossy(&name[..header.name - 1]).into_owned();
        if name == LAST {
            return Ok(());
        }
        let mut contents = archive.take(header.size);
        if header.is_file() {
            visit(name.trim_start_matches("./").trim_start_matches('/'), header.size, &mut contents)?;
        }
        let left = contents.limit();
        skip(archive, left + header.padding())?;
    }
}

fn skip(from: &mut dyn Read, bytes: u64) -> io::Result<()> {
    let skipped = io::copy(&mut from.take(bytes), &mut io::sink())?;
    if skipped == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::super::cpio::Archive;
    use super::*;

    #[test]
    fn files_come_by_name_whether_they_are_read_or_not_and_a_cut_archive_is_told() {
        let mut archive = Archive::new();
        archive.folder("lib", 0o755);
        archive.file("lib/one", 0o644, b"1");
        archive.link("lib/link", "one");
        archive.file("lib/three", 0o644, b"three");
        let bytes = archive.finish();
        let mut found = Vec::new();
        files(&mut bytes.as_slice(), &mut |name, size, contents| {
            let mut text = String::new();
            if name.ends_with("three") {
                contents.read_to_string(&mut text)?;
            }
            found.push((name.to_owned(), size, text));
            Ok(())
        })
        .unwrap();
        let wanted = [("lib/one".to_owned(), 1, String::new()), ("lib/three".into(), 5, "three".into())];
        assert_eq!(found, wanted);
        for cut in 0..bytes.len() - 12 {
            assert!(files(&mut &bytes[..cut], &mut |_, _, _| Ok(())).is_err(), "cut at {cut}");
        }
        assert!(files(&mut [b'0'; 400].as_slice(), &mut |_, _, _| Ok(())).is_err());
        // Every field is eight hex digits, and nothing that else reads as a number.
        let mut signed = bytes.clone();
        signed[6 + 6 * 8] = b'+';
        assert!(files(&mut signed.as_slice(), &mut |_, _, _| Ok(())).is_err());
    }
}
