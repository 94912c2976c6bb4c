//! Kexec handover as the running kernel shows it: on or off, its scratch memory, the formats that it writes.

use super::root::{ReadError, Root};

/// The device of the live update orchestrator; it is there only when handover and orchestrator are both on.
pub const LIVEUPDATE: &str = "/dev/liveupdate";
/// Where handover shows what it would hand over. There only when it is on (CONFIG_KEXEC_HANDOVER_DEBUGFS).
pub const OUT: &str = "/sys/kernel/debug/kho/out";
/// What the kernel before handed over. There only after a kexec with handover.
pub const IN: &str = "/sys/kernel/debug/kho/in";
/// The tree whose root names handover's format.
pub const OUT_FDT: &str = "/sys/kernel/debug/kho/out/fdt";
/// The orchestrator's state, which begins with its format.
pub const OUT_LUO: &str = "/sys/kernel/debug/kho/out/sub_fdts/LUO";

const LARGEST_TREE: u64 = 1 << 20;

/// A piece of memory that no preserved page lies in: the next kernel is loaded there and starts in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Physical address.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

/// State of handover.
#[derive(Clone, Debug)]
pub struct Kho {
    /// Handover shows itself, so that it is on. False may also mean that debugfs is not mounted.
    pub shown: bool,
    /// debugfs can be looked into at all.
    pub debugfs: Result<(), ReadError>,
    /// The orchestrator's device is there.
    pub orchestrator: bool,
    /// This kernel took something over from another.
    pub arrived: bool,
    /// The scratch memory, in the kernel's order: low, global, one for each node.
    pub scratch: Result<Vec<Area>, ReadError>,
    /// Handover's format (`kho-v4`).
    pub kho_format: Result<String, ReadError>,
    /// The orchestrator's format (`luo-v5`).
    pub luo_format: Result<String, ReadError>,
}

impl Kho {
    /// Reads it.
    pub fn read(root: &Root) -> Self {
        Self {
            shown: root.exists(OUT),
            debugfs: debugfs(root),
            orchestrator: root.exists(LIVEUPDATE),
            arrived: root.exists(IN),
            scratch: scratch(root),
            kho_format: kho_format(root),
            luo_format: luo_format(root),
        }
    }

    /// Handover is on: it shows itself, or the orchestrator is there, which cannot be without. None: unknown.
    pub fn on(&self) -> Option<bool> {
        match (self.shown || self.orchestrator, &self.debugfs) {
            (true, _) => Some(true),
            (false, Ok(())) => Some(false),
            (false, Err(_)) => None,
        }
    }
}

fn debugfs(root: &Root) -> Result<(), ReadError> {
    // An empty folder is a place to mount it, and nothing mounted.
    let names = root.names("/sys/kernel/debug")?;
    if names.is_empty() {
        let why = "debugfs is not mounted".to_owned();
        return Err(ReadError::Unreadable { path: "/sys/kernel/debug".into(), why });
    }
    Ok(())
}

fn scratch(root: &Root) -> Result<Vec<Area>, ReadError> {
    let numbers = |name: &str| {
        let path = format!("{OUT}/{name}");
        let text = root.text(&path)?;
        let lines = text.lines().map(|line| {
            let digits = line.trim().strip_prefix("0x").unwrap_or(line.trim());
            u64::from_str_radix(digits, 16)
                .map_err(|_| ReadError::malformed(&path, line, "one hexadecimal number a line"))
        });
        lines.collect::<Result<Vec<u64>, ReadError>>()
    };
    let (starts, lengths) = (numbers("scratch_phys")?, numbers("scratch_len")?);
    if starts.len() != lengths.len() {
        let path = format!("{OUT}/scratch_len");
        return Err(ReadError::malformed(&path, &lengths.len().to_string(), "as long as scratch_phys"));
    }
    Ok(starts.into_iter().zip(lengths).map(|(start, length)| Area { start, length }).collect())
}

fn kho_format(root: &Root) -> Result<String, ReadError> {
    let tree = root.bytes(OUT_FDT, LARGEST_TREE)?;
    root_compatible(&tree)
        .ok_or_else(|| ReadError::malformed(OUT_FDT, "other bytes", "a flattened device tree"))
}

/// The state begins with the format, padded with zeros.
fn luo_format(root: &Root) -> Result<String, ReadError> {
    let state = root.bytes(OUT_LUO, LARGEST_TREE)?;
    let name: Vec<u8> = state.iter().copied().take(48).take_while(|byte| *byte != 0).collect();
    let text = String::from_utf8_lossy(&name).into_owned();
    if !text.starts_with("luo-v") {
        return Err(ReadError::malformed(OUT_LUO, &text, "the orchestrator's state"));
    }
    Ok(text)
}

/// The `compatible` property of a flattened device tree's root.
pub fn root_compatible(tree: &[u8]) -> Option<String> {
    const MAGIC: u32 = 0xd00d_feed;
    const BEGIN: u32 = 1;
    const PROPERTY: u32 = 3;
    const NOP: u32 = 4;
    let word = |at: usize| {
        let bytes = tree.get(at..at.checked_add(4)?)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let text = |at: usize| {
        let rest = tree.get(at..)?;
        std::str::from_utf8(&rest[..memchr::memchr(0, rest)?]).ok()
    };
    let index = |number: u32| usize::try_from(number).ok();
    if word(0)? != MAGIC {
        return None;
    }
    let (mut at, strings) = (index(word(8)?)?, index(word(12)?)?);
    if word(at)? != BEGIN {
        return None;
    }
    at += 4;
    at += (text(at)?.len() + 1).next_multiple_of(4);
    loop {
        match word(at)? {
            NOP => at += 4,
            PROPERTY => {
                let length = index(word(at + 4)?)?;
                let name = text(strings.checked_add(index(word(at + 8)?)?)?);
                let value = text(at + 12);
                // The kernel shows as much as the tree had when it was made: what was added since has pushed
                // the names, which come last, out of sight.
                let cut_off = name.is_none() && value.is_some_and(|value| value.starts_with("kho-v"));
                if name == Some("compatible") || cut_off {
                    return value.map(str::to_owned);
                }
                at = at.checked_add(12)?.checked_add(length.checked_next_multiple_of(4)?)?;
            }
            // Its first child: properties come before.
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::root_compatible;

    #[test]
    fn the_format_is_found_also_in_a_tree_whose_end_is_not_shown() {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/luo-guest/sys/kernel/debug/kho/out/fdt");
        let tree = std::fs::read(path).unwrap();
        for length in [tree.len(), 0xe4, 0xb0, 0x70] {
            assert_eq!(root_compatible(&tree[..length]).as_deref(), Some("kho-v4"), "{length}");
        }
        assert_eq!(root_compatible(&tree[..0x60]), None);
    }
}
