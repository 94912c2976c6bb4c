use liveupdate_node_core::gate::{Gate, GateId};

use super::{Findings, size};
use crate::linux::boot_parameters::BootParameters;
use crate::linux::kernel::{COMMAND_LINE, Kernel};
use crate::linux::kho::{Area, Kho, OUT};
use crate::linux::memory::Memory;

/// What has to be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Contiguous bytes that the kernel needs to start (its header's `init_size`).
    pub init_size: u64,
    /// To what its address is aligned.
    pub alignment: u64,
    /// The initrd's bytes.
    pub initrd: u64,
}

/// Bytes of a `struct page`, one for each 4 KiB: what the next kernel allocates first of all, in the scratch
/// memory as everything before it knows what is preserved.
const PAGE_OF_PAGES: u64 = 64;

/// Handover is on, and its scratch memory, read on the running kernel, holds this bundle. Without a bundle only
/// the first half is asked.
pub fn kexec_handover(kernel: &Kernel, kho: &Kho, memory: Option<Memory>, bundle: Option<Bundle>) -> Gate {
    let mut found = Findings::of(GateId::KexecHandover, "");
    match kho.on() {
        Some(true) if kho.shown => found.good(format!("{OUT} is there: handover is on")),
        Some(true) => found.good("the orchestrator is there, which needs handover: it is on"),
        Some(false) => {
            off(&mut found, kernel);
            return found.gate();
        }
        None => {
            let line = kernel.config_line("CONFIG_KEXEC_HANDOVER");
            let built = kernel.config.as_ref().ok().map(|config| config.built_in("CONFIG_KEXEC_HANDOVER"));
            if built == Some(false) {
                off(&mut found, kernel);
            } else {
                let why = kho.debugfs.as_ref().err().map_or_else(String::new, ToString::to_string);
                let line = line.map_or_else(String::new, |line| format!("; {line}"));
                found.unknown(format!("{why}{line}"), "mount debugfs on /sys/kernel/debug");
            }
            return found.gate();
        }
    }
    match (&kho.scratch, bundle) {
        (Ok(areas), Some(bundle)) => room(&mut found, areas, bundle, memory),
        (Ok(areas), None) => found.good(format!("{OUT}/scratch_len: {}", sizes(areas))),
        (Err(error), Some(_)) => found.unknown(
            format!("whether its scratch memory holds the bundle: {error}"),
            "mount debugfs on /sys/kernel/debug, on a kernel with CONFIG_KEXEC_HANDOVER_DEBUGFS=y",
        ),
        (Err(_), None) => {}
    }
    found.gate()
}

fn off(found: &mut Findings, kernel: &Kernel) {
    if let Some(line) =
        kernel.config_line("CONFIG_KEXEC_HANDOVER").filter(|line| line.ends_with("is not set"))
    {
        found.bad(line, "boot a kernel with CONFIG_KEXEC_HANDOVER=y");
    } else if kernel.switch("kho") == Some(true) {
        found.bad(
            format!("{COMMAND_LINE}: kho=on, and {OUT}: no such folder: the kernel switched it off"),
            "give the kernel less scratch memory or the machine more (kho_scratch=); see \"KHO\" in the kernel log",
        );
    } else {
        found.bad(
            format!("{COMMAND_LINE}: no kho=on; {OUT}: no such folder"),
            "boot with kho=on and a kho_scratch= that holds kernel and initrd",
        );
    }
}

fn room(found: &mut Findings, areas: &[Area], bundle: Bundle, memory: Option<Memory>) {
    let wanted = format!("kernel {} and initrd {}", size(bundle.init_size), size(bundle.initrd));
    let have = format!("{OUT}/scratch_len: {}", sizes(areas));
    let remedy = "boot once with a larger kho_scratch=: a kexec keeps the areas of the boot before";
    let Some(left) = place(areas, bundle) else {
        found.bad(format!("{have}; {wanted} do not fit"), remedy);
        return;
    };
    let pages = memory.map(|memory| memory.total / 4096 * PAGE_OF_PAGES);
    match pages {
        Some(pages) if pages > left => found.unknown(
            format!(
                "{have}; {wanted} fit and leave {}, while the next kernel's own tables may take {}",
                size(left),
                size(pages)
            ),
            remedy,
        ),
        _ => found.good(format!("{have}; {wanted} fit")),
    }
}

/// Puts kernel and initrd into areas, the kernel where the least is left over; the bytes that stay free in
/// all. None: they do not fit.
fn place(areas: &[Area], bundle: Bundle) -> Option<u64> {
    let align = bundle.alignment.max(1);
    // As the kernel does: the start is rounded up within the area.
    let room = |area: &Area| {
        let start = area.start.checked_next_multiple_of(align)?;
        area.start.checked_add(area.length)?.checked_sub(start)?.checked_sub(bundle.init_size)
    };
    let total = areas.iter().fold(0_u64, |sum, area| sum.saturating_add(area.length));
    let fits = |kernel: usize| {
        let left = room(&areas[kernel])?;
        let beside = areas.iter().enumerate().filter(|(index, _)| *index != kernel);
        let largest = beside.map(|(_, area)| area.length).chain([left]).max().unwrap_or(0);
        (largest >= bundle.initrd).then_some(())
    };
    (0..areas.len()).find_map(fits)?;
    Some(total.saturating_sub(bundle.init_size).saturating_sub(bundle.initrd))
}

fn sizes(areas: &[Area]) -> String {
    let sizes: Vec<String> = areas.iter().map(|area| size(area.length)).collect();
    super::named(&sizes)
}

/// Whether a command line leaves handover on in a kernel of this configuration. None: it does not say, and the
/// default is not known.
pub(super) fn switched_on(parameters: &BootParameters, default: Option<bool>) -> Option<bool> {
    parameters.switch("kho").or(default)
}
