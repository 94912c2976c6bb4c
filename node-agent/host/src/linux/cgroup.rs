//! Control groups: whom a process belongs to, and how much memory its group may still take.

use super::root::{ReadError, Root, optional};

const MOUNT: &str = "/sys/fs/cgroup";

/// Whom a process belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A systemd unit, by its name.
    Unit(String),
    /// A pod, by its UID.
    Pod(String),
    /// Neither: a login session, or a process of nobody.
    Other(String),
}

impl Owner {
    /// By the path of the control group.
    pub fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.split('/').collect();
        if let Some(uid) = parts.iter().find_map(|part| pod(part)) {
            return Self::Pod(uid);
        }
        let unit = parts.iter().rev().find(|part| part.ends_with(".service") || part.ends_with(".scope"));
        match unit {
            // Sessions of people, not units that anybody starts again.
            Some(unit) if !unit.starts_with("session-") => Self::Unit((*unit).to_owned()),
            _ => Self::Other(path.to_owned()),
        }
    }
}

/// `kubepods-burstable-pod0b3c_….slice` by systemd's naming, `pod0b3c-…` by the other.
fn pod(part: &str) -> Option<String> {
    let name = part.strip_suffix(".slice").unwrap_or(part);
    let uid = match name.strip_prefix("kubepods-") {
        Some(rest) => rest.rsplit_once("pod").map(|(_, uid)| uid),
        None => name.strip_prefix("pod"),
    }?;
    // Static pods have a hash of 32 digits, others a UUID.
    let uid = uid.replace('_', "-");
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    (digits == 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')).then_some(uid)
}

/// The path of a process's group in the unified hierarchy.
///
/// # Errors
/// [`ReadError`], also when the process is in none (cgroup v1).
pub fn path_of(root: &Root, pid: u32) -> Result<String, ReadError> {
    let file = format!("/proc/{pid}/cgroup");
    let text = root.text(&file)?;
    let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
    unified.map(str::to_owned).ok_or_else(|| ReadError::malformed(&file, &text, "a line of cgroup v2"))
}

/// Memory of one control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Its path, `/system.slice/vm.service`.
    pub path: String,
    /// Most that it may take; none: no limit.
    pub max: Option<u64>,
    /// What it takes now.
    pub current: u64,
    /// Of that, shared memory: what a memfd's pages are.
    pub shmem: u64,
    /// Of that, pages of files on disks, which give way to what needs memory.
    pub cache: u64,
}

/// What a limit leaves to whoever is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The group whose limit it is.
    pub path: String,
    /// Bytes that may still be taken.
    pub bytes: u64,
}

/// The least that the limits of a process's groups leave to it; none when there is no limit, or none that can be seen.
pub fn left(root: &Root, pid: u32) -> Option<Left> {
    let levels = memory(root, &path_of(root, pid).ok()?).ok()?;
    let left = levels.into_iter().filter_map(|level| {
        let bytes = level.max?.saturating_sub(level.current.saturating_sub(level.cache));
        Some(Left { path: level.path, bytes })
    });
    left.min_by_key(|left| left.bytes)
}

/// A group and all above it that can have a limit, the group itself first.
///
/// # Errors
/// [`ReadError`] when the group is not there, or none of them accounts for memory.
pub fn memory(root: &Root, path: &str) -> Result<Vec<Level>, ReadError> {
    let own = format!("{MOUNT}{}", path.trim_end_matches('/'));
    if !root.exists(&own) {
        return Err(ReadError::Absent { path: own });
    }
    let mut levels = Vec::new();
    let mut path = path.trim_end_matches('/');
    while !path.is_empty() {
        levels.extend(level(root, path)?);
        path = path.rsplit_once('/').map_or("", |(above, _)| above);
    }
    if levels.is_empty() {
        return Err(ReadError::Absent { path: format!("{own}/memory.max") });
    }
    Ok(levels)
}

/// No second hierarchy (cgroup v1) accounts for a process's memory: it could have a limit of its own. What cannot be read
/// may have one.
pub fn one_hierarchy(root: &Root, pid: u32) -> bool {
    let groups = root.text(&format!("/proc/{pid}/cgroup"));
    groups.is_ok_and(|groups| {
        !groups.lines().any(|line| line.split(':').nth(1).is_some_and(|c| c.contains("memory")))
    })
}

/// None when memory is not accounted for at this level.
fn level(root: &Root, path: &str) -> Result<Option<Level>, ReadError> {
    let at = |name: &str| format!("{MOUNT}{path}/{name}");
    let Some(max) = optional(root.line(&at("memory.max")))? else { return Ok(None) };
    let max = match max.as_str() {
        "max" => None,
        text => {
            let number =
                text.parse().map_err(|_| ReadError::malformed(&at("memory.max"), text, "a limit"))?;
            Some(number)
        }
    };
    let stat = optional(root.text(&at("memory.stat")))?.unwrap_or_default();
    let of = |name: &str| -> u64 {
        let value = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    };
    Ok(Some(Level {
        path: path.to_owned(),
        max,
        current: root.number(&at("memory.current"))?,
        shmem: of("shmem"),
        cache: of("active_file") + of("inactive_file"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_units_pods_or_neither() {
        let uid = "0b3c7a52-1f7e-4c57-9b0e-6a2f6d6f9c11";
        let slice = format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_"));
        for (path, owner) in [
            ("/system.slice/vm-a.service".to_owned(), Owner::Unit("vm-a.service".into())),
            ("/machine.slice/machine-qemu.scope/libvirt".into(), Owner::Unit("machine-qemu.scope".into())),
            (
                format!("/kubepods.slice/kubepods-burstable.slice/{slice}/cri-containerd-12ab.scope"),
                Owner::Pod(uid.into()),
            ),
            (format!("/kubepods/besteffort/pod{uid}/12ab"), Owner::Pod(uid.into())),
            (
                format!("/kubepods.slice/kubepods-pod{}.slice/x.scope", uid.replace('-', "_")),
                Owner::Pod(uid.into()),
            ),
            (
                "/user.slice/user-0.slice/session-3.scope".into(),
                Owner::Other("/user.slice/user-0.slice/session-3.scope".into()),
            ),
            ("/".into(), Owner::Other("/".into())),
            ("/podman.slice".into(), Owner::Other("/podman.slice".into())),
        ] {
            assert_eq!(Owner::of(&path), owner, "{path}");
        }
    }
}
