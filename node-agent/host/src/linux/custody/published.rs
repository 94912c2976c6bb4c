//! What the keeper tells of holders to those who have no custody: `/run/liveupdate/holders.json`, root's alone.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use liveupdate_node_core::Continuity;
use serde::{Deserialize, Serialize};

use crate::{Holder, HostError};

const VERSION: u32 = 1;
/// Far more than the largest number of holders needs.
const LONGEST: u64 = 4 << 20;

/// A holder as the keeper knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// Its name.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Path of its control group.
    pub cgroup: String,
    /// Where its handover stands, by the word of the core's state.
    pub state: String,
    /// PCI addresses of the devices that it declared.
    pub devices: Vec<String>,
    /// How many of its memfds it declared as all that its devices' DMA mappings point into.
    #[serde(default)]
    pub dma_targets: usize,
    /// It stops its devices' DMA at Quiesce.
    #[serde(default)]
    pub quiesces_dma: bool,
    /// Bytes of memory that it declared.
    pub memory_bytes: u64,
    /// The least that its owner accepts, as the API writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<String>,
    /// Its owner refuses any update.
    #[serde(default)]
    pub refuses: bool,
}

impl From<Published> for Holder {
    fn from(published: Published) -> Self {
        let minimum = published.minimum.as_deref();
        Self {
            minimum: Continuity::ALL.into_iter().find(|continuity| Some(continuity.as_str()) == minimum),
            name: published.name,
            aware: true,
            refuses: published.refuses,
            memory_bytes: published.memory_bytes,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    version: u32,
    boot_id: String,
    holders: Vec<Published>,
}

/// Tells it anew; a reader sees the old or the new one.
///
/// # Errors
/// [`HostError::Io`].
pub fn write(path: &Path, boot_id: &str, holders: Vec<Published>) -> Result<(), HostError> {
    replace(path, &Record { version: VERSION, boot_id: boot_id.into(), holders })
}

/// Writes a file that only root can read, whole or not at all.
pub(super) fn replace(path: &Path, content: &impl Serialize) -> Result<(), HostError> {
    let failed = |why: String| HostError::Io { what: format!("write {}", path.display()), why };
    let text = serde_json::to_vec(content).map_err(|error| failed(error.to_string()))?;
    let new = path.with_added_extension("new");
    let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
    open.and_then(|mut file| file.write_all(&text))
        .and_then(|()| fs::rename(&new, path))
        .map_err(|error| failed(error.to_string()))
}

/// What is told on this boot; nobody when nothing is.
///
/// # Errors
/// [`HostError::Io`], and [`HostError::Malformed`] when it makes no sense.
pub fn read(path: &Path, boot_id: &str) -> Result<Vec<Published>, HostError> {
    let failed = |why: String| HostError::Io { what: format!("read {}", path.display()), why };
    let malformed = |why: String| HostError::Malformed { what: path.display().to_string(), why };
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(|error| failed(error.to_string()))?,
    };
    let mut text = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut text).map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > LONGEST {
        return Err(malformed(format!("it is longer than {LONGEST} bytes")));
    }
    let record: Record = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
    if record.version != VERSION {
        let found = record.version;
        return Err(malformed(format!(
            "it is of version {found}, this build reads {VERSION}: use the keeper's build"
        )));
    }
    Ok(if record.boot_id == boot_id { record.holders } else { Vec::new() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_told_is_read_on_the_same_boot_alone_and_nonsense_is_refused() {
        let folder = std::env::temp_dir().join(format!("liveupdate-published-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("holders.json");
        assert_eq!(read(&path, "b1").unwrap(), [], "nobody told anything");
        let holder = Published {
            name: "vm-a".into(),
            pid: 7,
            cgroup: "/system.slice/vm-a.service".into(),
            state: "Declared".into(),
            devices: vec!["0000:01:00.0".into()],
            dma_targets: 1,
            quiesces_dma: false,
            memory_bytes: 1 << 30,
            minimum: Some("Paused".into()),
            refuses: false,
        };
        write(&path, "b1", vec![holder.clone()]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&path, "b1").unwrap(), std::slice::from_ref(&holder));
        assert_eq!(read(&path, "b2").unwrap(), [], "that was another boot");
        let holder = Holder::from(holder);
        assert_eq!((holder.minimum, holder.aware), (Some(Continuity::Paused), true));
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(read(&path, "b1"), Err(HostError::Malformed { .. })), "cut at {cut}");
        }
        fs::write(&path, String::from_utf8(whole).unwrap().replace("\"version\":1", "\"version\":2"))
            .unwrap();
        assert!(read(&path, "b1").unwrap_err().to_string().contains("version 2"));
        fs::remove_dir_all(folder).unwrap();
    }
}
