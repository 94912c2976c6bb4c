//! The journal's text: one line a field, versioned, with an end line that tells a whole record from a
//! torn one.
//!
//! ```text
//! liveupdate-node 1
//! attempt 7f3c-0a1b2c3d-1
//! end 9c1d…
//! ```
//! Words are separated by one space; `%`, white space and control characters in a word are written `%XX`;
//! an empty word is written `%`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::fmt::Write as _;
use core::str::FromStr;

/// Why a record cannot be read. What reads it must not guess: keep the file and say this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The first line is not this record's.
    NotThis {
        /// What it should be.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// Written by a version that this one does not know.
    Version(String),
    /// The end line is missing or does not fit: torn or changed.
    Torn,
    /// A field is missing.
    Missing(&'static str),
    /// A field makes no sense.
    Malformed {
        /// Which.
        field: &'static str,
        /// What stands there.
        found: String,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThis { expected, found } => {
                write!(f, "not a record of kind {expected}: its first line is {found:?}")
            }
            Self::Version(found) => {
                write!(
                    f,
                    "record of version {found:?}, which this build cannot read: use the build that wrote it"
                )
            }
            Self::Torn => f.write_str("record is torn or was changed: its end line does not fit"),
            Self::Missing(field) => write!(f, "record lacks the field {field:?}"),
            Self::Malformed { field, found } => {
                write!(f, "record's field {field:?} makes no sense: {found:?}")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

/// FNV-1a, 64 bits: tells torn records, not forged ones.
pub fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Writes one record.
#[derive(Debug)]
pub(crate) struct Writer(String);

impl Writer {
    pub(crate) fn new(kind: &str, version: u32) -> Self {
        Self(format!("{kind} {version}\n"))
    }

    pub(crate) fn line(&mut self, key: &str, words: &[&str]) {
        self.0.push_str(key);
        for word in words {
            self.0.push(' ');
            escape(&mut self.0, word);
        }
        self.0.push('\n');
    }

    pub(crate) fn finish(mut self) -> String {
        let sum = checksum(self.0.as_bytes());
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "end {sum:016x}");
        self.0
    }
}

fn escape(out: &mut String, word: &str) {
    if word.is_empty() {
        out.push('%');
    }
    for c in word.chars() {
        if c == '%' || c.is_whitespace() || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(out, "%{byte:02x}");
            }
        } else {
            out.push(c);
        }
    }
}

fn unescape(word: &str) -> Option<String> {
    if word == "%" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let (hex, tail) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(core::str::from_utf8(hex).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// One line of a record.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) key: String,
    pub(crate) words: Vec<String>,
}

/// Reads one record.
#[derive(Debug)]
pub(crate) struct Reader(Vec<Line>);

impl Reader {
    pub(crate) fn new(text: &str, kind: &'static str, version: u32) -> Result<Self, DecodeError> {
        let first = text.lines().next().unwrap_or_default();
        match first.split_once(' ') {
            Some((k, v)) if k == kind && v == format!("{version}") => {}
            Some((k, v)) if k == kind => return Err(DecodeError::Version(v.into())),
            _ => {
                return Err(DecodeError::NotThis { expected: kind, found: first.chars().take(80).collect() });
            }
        }
        let body = text.strip_suffix('\n').ok_or(DecodeError::Torn)?;
        let start = body.rfind('\n').ok_or(DecodeError::Torn)? + 1;
        let (body, end) = body.split_at(start);
        if end != format!("end {:016x}", checksum(body.as_bytes())) {
            return Err(DecodeError::Torn);
        }
        let mut lines = Vec::new();
        for line in body.lines().skip(1) {
            let mut words = line.split(' ');
            let key = String::from(words.next().unwrap_or_default());
            let words = words.map(unescape).collect::<Option<Vec<_>>>();
            let words = words.ok_or(DecodeError::Malformed { field: "line", found: line.into() })?;
            lines.push(Line { key, words });
        }
        Ok(Self(lines))
    }

    /// There is a line of that key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.all(key).next().is_some()
    }

    /// All lines of a key.
    pub(crate) fn all(&self, key: &str) -> impl Iterator<Item = &Line> {
        self.0.iter().filter(move |line| line.key == key)
    }

    /// The one line of a key, with exactly that many words.
    pub(crate) fn one<const N: usize>(&self, key: &'static str) -> Result<&[String; N], DecodeError> {
        self.all(key).next().ok_or(DecodeError::Missing(key))?.take(key)
    }
}

impl Line {
    pub(crate) fn take<const N: usize>(&self, field: &'static str) -> Result<&[String; N], DecodeError> {
        self.words.as_slice().try_into().map_err(|_| malformed(field, &self.words.join(" ")))
    }
}

pub(crate) fn malformed(field: &'static str, found: &str) -> DecodeError {
    DecodeError::Malformed { field, found: found.into() }
}

pub(crate) fn parse<T: FromStr>(field: &'static str, word: &str) -> Result<T, DecodeError> {
    word.parse().map_err(|_| malformed(field, word))
}
