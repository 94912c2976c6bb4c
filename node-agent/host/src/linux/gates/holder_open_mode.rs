use liveupdate_node_core::gate::{Gate, GateId};

use super::{Findings, named};
use crate::linux::processes::{Held, Process};

/// The holder has its devices by their own nodes: what was opened by a group cannot be handed over. None: nothing
/// that it has open is of interest.
pub fn holder_open_mode(holder: &str, process: Option<&Process>) -> Gate {
    let mut found = Findings::of(GateId::HolderOpenMode, holder);
    let files = process.map_or(&[][..], |process| &process.files);
    for (fd, held) in files {
        let what = match held {
            Held::VfioGroupDevice { .. } => "a VFIO device that was opened by its group".to_owned(),
            Held::VfioGroup(group) => format!("VFIO group {group}"),
            Held::VfioContainer => "a VFIO container".to_owned(),
            _ => continue,
        };
        found.bad(
            format!("file {fd}: {what}, which cannot be handed over"),
            "open /dev/vfio/devices/<name> and an iommufd instead",
        );
    }
    let own: Vec<String> = files
        .iter()
        .filter_map(|(fd, held)| match held {
            Held::VfioDevice { name, .. } => Some(format!("file {fd}: {name}")),
            _ => None,
        })
        .collect();
    if own.is_empty() {
        found.good("it has no VFIO group open");
    } else {
        found.good(format!("by their own nodes: {}", named(&own)));
    }
    found.gate()
}
