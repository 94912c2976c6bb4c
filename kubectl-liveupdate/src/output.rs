//! Standard output: what it is, and what is written to it.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

use kube::{Resource, ResourceExt};
use liveupdate_crds::{LiveUpdate, NodeLiveUpdate};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::ColorChoice;
use crate::error::Error;
use crate::render::{Canvas, UNBOUNDED};

/// Narrower than this no terminal is taken for: lines would hold single words.
const NARROWEST: usize = 20;

/// What standard output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Somebody looks at it.
    pub is_terminal: bool,
    /// Colours may be used.
    pub color: bool,
    /// Columns and lines; [`UNBOUNDED`] in a pipe.
    pub size: (usize, usize),
}

impl Terminal {
    /// Standard output as it is now. An empty `NO_COLOR` counts as none, as its convention has it.
    #[must_use]
    pub fn standard(choice: ColorChoice) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let color = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => is_terminal && !no_color && !dumb,
        };
        Self { is_terminal, color, size: Self::size(is_terminal) }
    }

    /// The same terminal, measured again: people resize windows.
    #[must_use]
    pub fn measured_again(self) -> Self {
        Self { size: Self::size(self.is_terminal), ..self }
    }

    fn size(is_terminal: bool) -> (usize, usize) {
        if !is_terminal {
            return (UNBOUNDED, UNBOUNDED);
        }
        match rustix::termios::tcgetwinsize(std::io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (usize::from(size.ws_col).max(NARROWEST), usize::from(size.ws_row))
            }
            // A terminal that does not tell is one of 80 by 24.
            _ => (80, 24),
        }
    }

    /// What is drawn on.
    #[must_use]
    pub const fn canvas(self) -> Canvas {
        Canvas { width: self.size.0, color: self.color, ages: true }
    }
}

/// Writes to standard output. A reader that has gone (`| head`) is no error.
///
/// # Errors
/// When it cannot be written for another reason.
pub fn print(text: &str) -> Result<(), Error> {
    still_read(text).map(|_| ())
}

/// Writes to standard output; whether it is still read. Whoever has more to write later stops where it is not.
///
/// # Errors
/// When it cannot be written though it is read.
pub fn still_read(text: &str) -> Result<bool, Error> {
    write(&mut std::io::stdout().lock(), text)
}

fn write(out: &mut impl Write, text: &str) -> Result<bool, Error> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// `liveupdate.liveupdate.dev/NAME`, as kubectl has it.
#[must_use]
pub fn name<K: Resource<DynamicType = ()>>(object: &K) -> String {
    let mut line = String::new();
    let kind = K::kind(&()).to_lowercase();
    // Writing into a String cannot fail.
    let _ = writeln!(line, "{kind}.{}/{}", K::group(&()), object.name_any());
    line
}

/// A `List` of updates and nodes, as kubectl prints several objects.
///
/// # Errors
/// When an object cannot be encoded.
pub fn list(updates: &[LiveUpdate], nodes: &[NodeLiveUpdate]) -> Result<Value, Error> {
    let mut items = Vec::with_capacity(updates.len() + nodes.len());
    for update in updates {
        items.push(value(update)?);
    }
    for node in nodes {
        items.push(value(node)?);
    }
    Ok(json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items}))
}

/// One object, without the bookkeeping that nobody reads.
///
/// # Errors
/// When it cannot be encoded.
pub fn value<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Result<Value, Error> {
    let mut value = serde_json::to_value(object).map_err(|error| Error::Encoding(error.to_string()))?;
    // Objects out of a list lack these two; a List of kubectl has them.
    value["apiVersion"] = K::api_version(&()).into();
    value["kind"] = K::kind(&()).into();
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    Ok(value)
}

/// As indented JSON.
///
/// # Errors
/// When it cannot be encoded.
pub fn json<T: Serialize>(value: &T) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Encoding(error.to_string()))?;
    Ok(text + "\n")
}

/// As YAML.
///
/// # Errors
/// When it cannot be encoded.
pub fn yaml<T: Serialize>(value: &T) -> Result<String, Error> {
    let text = serde_saphyr::to_string(value).map_err(|error| Error::Encoding(error.to_string()))?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_told_from_a_disk_that_is_full() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        assert!(write(&mut writer, "1\n").unwrap());
        drop(reader);
        assert!(!write(&mut writer, "2\n").unwrap());
        let mut full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        assert!(write(&mut full, "3\n").is_err());
    }
}
