//! What happens when the next kernel does not come up: who starts the old one again.

use super::root::{ReadError, Root, optional};

const WATCHDOGS: &str = "/sys/class/watchdog";
const GRUB: &str = "/boot/grub/grubenv";
/// systemd-boot's variable outranks its file.
const EFI_DEFAULT: &str = "/sys/firmware/efi/efivars/LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// The entry that systemd-boot started this boot with.
const EFI_SELECTED: &str =
    "/sys/firmware/efi/efivars/LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Where the EFI system partition is mounted, by custom.
pub const BOOT: [&str; 3] = ["/boot", "/efi", "/boot/efi"];
/// systemd-boot's configuration, on that partition.
pub const LOADER: &str = "loader/loader.conf";

/// A watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// `watchdog0`
    pub name: String,
    /// What it is.
    pub identity: String,
    /// Somebody feeds it, so that it bites when nobody does.
    pub active: bool,
    /// It cannot be stopped again, also not by the jump.
    pub no_way_out: bool,
}

/// What is known of the way back.
#[derive(Clone, Debug)]
pub struct Fallback {
    /// Watchdogs; empty: there is none.
    pub watchdogs: Result<Vec<Watchdog>, ReadError>,
    /// The entry that firmware and boot loader start, and where that is written; none when nothing tells.
    pub default_entry: Result<Option<(String, String)>, ReadError>,
    /// Why that is not the running kernel, where it was tried to make it so.
    pub not_the_running: Option<String>,
}

impl Fallback {
    /// Reads it. `boot`: folders where the EFI system partition may be mounted.
    pub fn read<P: AsRef<str>>(root: &Root, boot: &[P]) -> Self {
        Self { watchdogs: watchdogs(root), default_entry: default_entry(root, boot), not_the_running: None }
    }

    /// The boot entry that firmware and boot loader started last; none where nothing tells. A kexec leaves it.
    pub fn selected(root: &Root) -> Option<String> {
        root.bytes(EFI_SELECTED, 4096).ok().map(|variable| efi_text(&variable))
    }
}

fn watchdogs(root: &Root) -> Result<Vec<Watchdog>, ReadError> {
    let mut all = Vec::new();
    for name in optional(root.names(WATCHDOGS))?.unwrap_or_default() {
        let at = |file: &str| format!("{WATCHDOGS}/{name}/{file}");
        let Some(state) = optional(root.line(&at("state")))? else { continue };
        all.push(Watchdog {
            identity: optional(root.line(&at("identity")))?.unwrap_or_default(),
            active: state == "active",
            no_way_out: optional(root.flag(&at("nowayout")))?.unwrap_or(false),
            name,
        });
    }
    Ok(all)
}

fn default_entry<P: AsRef<str>>(root: &Root, boot: &[P]) -> Result<Option<(String, String)>, ReadError> {
    if let Some(variable) = optional(root.bytes(EFI_DEFAULT, 4096))? {
        return Ok(Some((efi_text(&variable), EFI_DEFAULT.to_owned())));
    }
    for place in boot {
        let file = format!("{}/{LOADER}", place.as_ref());
        let Some(text) = optional(root.text(&file))? else { continue };
        let value =
            text.lines().find_map(|line| line.trim().strip_prefix("default")?.strip_prefix([' ', '\t']));
        if let Some(value) = value {
            return Ok(Some((value.trim().to_owned(), file)));
        }
    }
    let text = optional(root.text(GRUB))?.unwrap_or_default();
    let saved = text.lines().find_map(|line| line.strip_prefix("saved_entry="));
    Ok(saved.map(|entry| (entry.to_owned(), GRUB.to_owned())))
}

/// Four bytes of attributes, then UTF-16 with a zero behind.
fn efi_text(variable: &[u8]) -> String {
    let body = variable.get(4..).unwrap_or_default();
    let units: Vec<u16> = body.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned()
}
