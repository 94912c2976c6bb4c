//! Reading an archive's files one after the other, without unpacking it.

use std::io::{self, Read};

const HEADER: usize = 110;
const MAGIC: &[u8] = b"070701";
const LAST: &str = "TRAILER!!!";
const LONGEST_NAME: usize = 4096;
const KIND: u64 = 0o170_000;
const FILE: u64 = 0o100_000;

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
        if !header.starts_with(MAGIC) {
            return Err(malformed("an entry does not begin with 070701"));
        }
        let (mode, size, name) = (field(&header, 1)?, field(&header, 6)?, field(&header, 11)?);
        let length = usize::try_from(name).ok().filter(|length| (1..=LONGEST_NAME).contains(length));
        let mut name = vec![0; length.ok_or_else(|| malformed("a name is too long"))?];
        archive.read_exact(&mut name)?;
        skip(archive, padding(HEADER as u64 + name.len() as u64))?;
        let name = String::from_utf8_lossy(&name[..name.len() - 1]).into_owned();
        if name == LAST {
            return Ok(());
        }
        let mut contents = archive.take(size);
        if mode & KIND == FILE {
            visit(name.trim_start_matches("./").trim_start_matches('/'), size, &mut contents)?;
        }
        let left = contents.limit();
        skip(archive, left + padding(size))?;
    }
}

fn padding(length: u64) -> u64 {
    length.wrapping_neg() & 3
}

/// The field of that number: eight hex digits.
fn field(header: &[u8; HEADER], number: usize) -> io::Result<u64> {
    let digits = &header[MAGIC.len() + number * 8..][..8];
    let text = std::str::from_utf8(digits).map_err(|_| malformed("a header is no text"))?;
    u64::from_str_radix(text, 16).map_err(|_| malformed("a header has no numbers"))
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
    }
}
