//! Disks: how much room a folder has, and whether anything has to be unlocked at boot.

use super::root::{ReadError, Root, optional};

const BLOCK: &str = "/sys/block";
const CRYPTTAB: &str = "/etc/crypttab";

/// Bytes that can still be written under a folder.
///
/// # Errors
/// [`ReadError`].
pub fn free(root: &Root, folder: &str) -> Result<u64, ReadError> {
    let stat = rustix::fs::statvfs(root.path(folder)).map_err(|errno| match errno {
        rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => ReadError::Absent { path: folder.to_owned() },
        other => ReadError::Unreadable { path: folder.to_owned(), why: other.to_string() },
    })?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// An encrypted disk that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encrypted {
    /// Its name under `/dev/mapper`.
    pub name: String,
    /// How `/etc/crypttab` says that it is opened; none when it is not listed there.
    pub opened_by: Option<Unlock>,
}

/// How an encrypted disk is opened at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlock {
    /// By a chip or a server, with nobody there.
    Unattended,
    /// By a file with the key.
    KeyFile,
    /// Somebody types, or touches a token.
    Person,
}

/// All encrypted disks that are open now.
///
/// # Errors
/// [`ReadError`].
pub fn encrypted(root: &Root) -> Result<Vec<Encrypted>, ReadError> {
    let table = optional(root.text(CRYPTTAB))?.unwrap_or_default();
    let mut found = Vec::new();
    for disk in root.names(BLOCK)?.iter().filter(|name| name.starts_with("dm-")) {
        let at = |file: &str| format!("{BLOCK}/{disk}/dm/{file}");
        let uuid = optional(root.line(&at("uuid")))?.unwrap_or_default();
        if uuid.starts_with("CRYPT-LUKS") || uuid.starts_with("CRYPT-PLAIN") {
            let name = root.line(&at("name"))?;
            let opened_by = unlock(&table, &name);
            found.push(Encrypted { name, opened_by });
        }
    }
    Ok(found)
}

/// `name device key options`
fn unlock(table: &str, name: &str) -> Option<Unlock> {
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(name))?;
    let mut words = line.split_whitespace().skip(2);
    let key = words.next().unwrap_or("none");
    let options: Vec<&str> = words.next().unwrap_or_default().split(',').collect();
    let has = |wanted: &str| options.iter().any(|option| option.split('=').next() == Some(wanted));
    if has("tpm2-device") {
        return Some(if has("tpm2-pin") { Unlock::Person } else { Unlock::Unattended });
    }
    if has("fido2-device") || has("pkcs11-uri") {
        return Some(Unlock::Person);
    }
    Some(if matches!(key, "none" | "-") { Unlock::Person } else { Unlock::KeyFile })
}
