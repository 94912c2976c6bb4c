//! The one way to the machine's files: everything is read under a root folder, which is `/` on a machine and a
//! folder of fixtures in tests.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Longest text that is read; `/proc` and `/sys` have none that is longer and of interest.
const LONGEST_TEXT: u64 = 4 << 20;

/// The root folder of a machine.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

/// Why something could not be read. Paths are the machine's, without the root folder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such file.
    #[error("{path}: no such file")]
    Absent {
        /// The file.
        path: String,
    },
    /// It is there and cannot be read.
    #[error("{path}: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        why: String,
    },
    /// It leads to where the kernel has no room to say: a name is longer than a page.
    #[error("{path}: it leads to a longer name than the kernel can tell")]
    NameTooLong {
        /// The link.
        path: String,
    },
    /// It makes no sense.
    #[error("{path} holds {text:?}, which is not {wanted}")]
    Malformed {
        /// The file.
        path: String,
        /// What it holds, its beginning.
        text: String,
        /// What it should hold.
        wanted: &'static str,
    },
}

impl ReadError {
    /// The file is not there, which is an answer in itself.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    pub(super) fn malformed(path: &str, text: &str, wanted: &'static str) -> Self {
        let text = text.trim_end().chars().take(80).collect();
        Self::Malformed { path: path.to_owned(), text, wanted }
    }

    fn new(path: &str, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            // A process that ends while it is read answers ESRCH.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Absent { path },
            _ if Errno::from_io_error(error) == Some(Errno::SRCH) => Self::Absent { path },
            _ if Errno::from_io_error(error) == Some(Errno::NAMETOOLONG) => Self::NameTooLong { path },
            _ => Self::Unreadable { path, why: error.to_string() },
        }
    }
}

impl Root {
    /// This machine.
    pub fn machine() -> Self {
        Self(PathBuf::from("/"))
    }

    /// A machine whose files lie under a folder.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// Where a path of the machine is to be found.
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// The root folder itself.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// There is such a file, whatever it holds.
    pub fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// [`ReadError`], also when there are more than `limit`.
    pub fn bytes(&self, path: &str, limit: u64) -> Result<Vec<u8>, ReadError> {
        let failed = |error: io::Error| ReadError::new(path, &error);
        let file = File::open(self.path(path)).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > limit {
            let why = format!("it is longer than {limit} bytes");
            return Err(ReadError::Unreadable { path: path.to_owned(), why });
        }
        Ok(bytes)
    }

    /// A file's text; bytes that are no text are replaced.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn text(&self, path: &str) -> Result<String, ReadError> {
        Ok(String::from_utf8_lossy(&self.bytes(path, LONGEST_TEXT)?).into_owned())
    }

    /// A file of one line, without its end.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn line(&self, path: &str) -> Result<String, ReadError> {
        Ok(self.text(path)?.trim_end().to_owned())
    }

    /// A file that holds a decimal number.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn number<N: std::str::FromStr>(&self, path: &str) -> Result<N, ReadError> {
        let text = self.line(path)?;
        text.trim().parse().map_err(|_| ReadError::malformed(path, &text, "a number"))
    }

    /// A file that holds 0 or 1, or N or Y as module parameters do.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn flag(&self, path: &str) -> Result<bool, ReadError> {
        let text = self.line(path)?;
        match text.as_str() {
            "0" | "N" => Ok(false),
            "1" | "Y" => Ok(true),
            other => Err(ReadError::malformed(path, other, "0 or 1")),
        }
    }

    /// Names in a folder, in order.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn names(&self, path: &str) -> Result<Vec<String>, ReadError> {
        let failed = |error: io::Error| ReadError::new(path, &error);
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(path)).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Where a symbolic link points to, as it is written.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn link(&self, path: &str) -> Result<String, ReadError> {
        let target = fs::read_link(self.path(path)).map_err(|error| ReadError::new(path, &error))?;
        Ok(target.to_string_lossy().into_owned())
    }

    /// The last part of where a link points to: how sysfs names a driver, a group, a bridge.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn link_name(&self, path: &str) -> Result<String, ReadError> {
        let target = self.link(path)?;
        Ok(target.rsplit('/').next().unwrap_or_default().to_owned())
    }
}

/// What is there; an error only when it is there and cannot be read.
pub(crate) fn optional<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}
