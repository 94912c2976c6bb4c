use liveupdate_node_core::gate::{Gate, GateId};

use super::{Findings, named};
use crate::linux::root::ReadError;
use crate::linux::storage::{Encrypted, Unlock};

/// The node comes up without anybody at its console: no encrypted disk waits for a person.
pub fn unattended_boot(disks: Result<&[Encrypted], &ReadError>) -> Gate {
    let mut found = Findings::of(GateId::UnattendedBoot, "");
    let disks = match disks {
        Ok(disks) => disks,
        Err(error) => {
            found.unknown(error.to_string(), "mount /sys");
            return found.gate();
        }
    };
    let by = |how: Option<Unlock>| {
        disks.iter().filter(|disk| disk.opened_by == how).map(|disk| disk.name.as_str()).collect::<Vec<_>>()
    };
    let (person, unlisted) = (by(Some(Unlock::Person)), by(None));
    let keys = by(Some(Unlock::KeyFile));
    if !person.is_empty() {
        found.bad(
            format!("/etc/crypttab: {} is opened by a person", named(&person)),
            "enrol the disk with the TPM (tpm2-device=auto), or unlock it over the network",
        );
    }
    if !unlisted.is_empty() {
        found.unknown(
            format!(
                "/sys/block/dm-*/dm/uuid: {} is encrypted, and /etc/crypttab does not tell how it is opened",
                named(&unlisted)
            ),
            "list it in /etc/crypttab; what the initrd does by itself does not show",
        );
    }
    if !keys.is_empty() {
        found.unknown(
            format!("/etc/crypttab: {} is opened by a key file, which has to be there when the bundle's initrd runs", named(&keys)),
            "see to it that the key lies on a disk that is opened before",
        );
    }
    match disks {
        [] => found.good("/sys/block/dm-*/dm/uuid: no encrypted disk is open"),
        _ => found.good("/etc/crypttab: every encrypted disk is opened by a chip or a server"),
    }
    found.gate()
}
