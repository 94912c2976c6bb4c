//! Memory: of the machine, and what a process shares.

use super::root::{ReadError, Root};

/// The machine's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What can be had without swapping.
    pub available: u64,
}

impl Memory {
    /// Reads `/proc/meminfo`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(root: &Root) -> Result<Self, ReadError> {
        const FILE: &str = "/proc/meminfo";
        let text = root.text(FILE)?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
            kilobytes
                .and_then(|kilobytes| kilobytes.checked_mul(1024))
                .ok_or_else(|| ReadError::malformed(FILE, &text, "MemTotal and MemAvailable in kB"))
        };
        Ok(Self { total: field("MemTotal")?, available: field("MemAvailable")? })
    }
}

/// Memory that a process maps and shares: what guest memory is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// `memfd:ram`, or the path of a file.
    pub name: String,
    /// Inode, which tells two of one name apart.
    pub inode: u64,
    /// Bytes up to the end of the last mapping: the least that the file can have.
    pub bytes: u64,
    /// It is a memfd.
    pub memfd: bool,
    /// It has no name in any folder any more, or never had.
    pub unlinked: bool,
    /// Its pages come from the pool of huge pages.
    pub hugetlb: bool,
}

/// All files that a process maps shared, devices and the like apart. Walks the page tables of the process:
/// takes a while for a large guest.
///
/// # Errors
/// [`ReadError`].
pub fn shared(root: &Root, pid: u32) -> Result<Vec<Shared>, ReadError> {
    let path = format!("/proc/{pid}/smaps");
    let text = root.text(&path)?;
    let mut found: Vec<Shared> = Vec::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let hugetlb = flags.split_whitespace().any(|flag| flag == "ht");
            if let Some(index) = current.take().filter(|_| hugetlb) {
                let shared: &mut Shared = &mut found[index];
                shared.hugetlb = true;
            }
        } else if let Some(mapping) = mapping(line) {
            current = mapping.map(|new| put(&mut found, new));
        }
    }
    Ok(found)
}

fn put(found: &mut Vec<Shared>, new: Shared) -> usize {
    let known = found.iter().position(|old| old.inode == new.inode && old.name == new.name);
    let index = known.unwrap_or(found.len());
    match known {
        Some(index) => found[index].bytes = found[index].bytes.max(new.bytes),
        None => found.push(new),
    }
    index
}

/// `7f00-7f40 rw-s 00000000 00:01 1030  /memfd:ram (deleted)`. The outer none: no line that begins a mapping;
/// the inner: a mapping of no interest.
fn mapping(line: &str) -> Option<Option<Shared>> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let modes = words.next()?;
    let offset = u64::from_str_radix(words.next()?, 16).ok()?;
    let _device = words.next()?;
    let inode = words.next()?.parse().ok()?;
    let path = words.collect::<Vec<_>>().join(" ");
    if !modes.ends_with('s')
        || !path.starts_with('/')
        || path.starts_with("/dev/") && path != "/dev/zero (deleted)"
    {
        return Some(None);
    }
    let unlinked = path.ends_with(" (deleted)");
    let bare = path.strip_suffix(" (deleted)").unwrap_or(&path);
    let name = match bare.strip_prefix("/memfd:") {
        Some(name) => format!("memfd:{name}"),
        // What came through a live update has no name any more, not even a memfd's.
        None if bare == "/" && unlinked => "memfd:".to_owned(),
        None => bare.to_owned(),
    };
    Some(Some(Shared {
        memfd: name.starts_with("memfd:"),
        name,
        inode,
        bytes: offset.saturating_add(end.saturating_sub(start)),
        unlinked,
        hugetlb: false,
    }))
}
