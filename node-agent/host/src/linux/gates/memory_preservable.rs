use std::time::Duration;

use liveupdate_node_core::gate::{Gate, GateId};

use super::{Findings, named, size};
use crate::linux::memory::Shared;
use crate::linux::root::ReadError;

/// How long it would take to get the memory back after the jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Projection {
    /// For one GiB, as it was measured on such a machine.
    pub per_gib: Duration,
    /// What the update grants the whole blackout.
    pub budget: Duration,
}

/// The holder's memory is of the kind that can be preserved: unlinked shared memory, not huge pages of the
/// pool and no file; and getting it back fits the budget, where it is known how long that takes.
pub fn memory_preservable(
    holder: &str,
    memory: Result<&[Shared], &ReadError>,
    projection: Option<Projection>,
) -> Gate {
    let mut found = Findings::of(GateId::MemoryPreservable, holder);
    let memory = match memory {
        Ok(memory) => memory,
        Err(error) => {
            found.unknown(error.to_string(), "let the agent see the host's processes (hostPID)");
            return found.gate();
        }
    };
    let names = |wanted: &dyn Fn(&Shared) -> bool| {
        let names = memory.iter().filter(|shared| wanted(shared));
        names.map(|shared| format!("{} ({})", shared.name, size(shared.bytes))).collect::<Vec<_>>()
    };
    let huge = names(&|shared| shared.hugetlb);
    let linked = names(&|shared| !shared.hugetlb && !shared.unlinked);
    let files = names(&|shared| !shared.hugetlb && shared.unlinked && !shared.memfd);
    let good = names(&|shared| !shared.hugetlb && shared.memfd);
    if !huge.is_empty() {
        found.bad(
            format!("smaps: {} on huge pages of the pool, which cannot be preserved", named(&huge)),
            "back guest memory by an ordinary memfd; transparent huge pages are fine",
        );
    }
    if !linked.is_empty() {
        found.bad(
            format!(
                "smaps: {} has a name in a file system: only unlinked memory can be preserved",
                named(&linked)
            ),
            "back guest memory by a memfd",
        );
    }
    if !files.is_empty() {
        found.unknown(
            format!(
                "smaps: {} was unlinked; whether it lies in shared memory or on a disk does not show",
                named(&files)
            ),
            "back guest memory by a memfd",
        );
    }
    if good.is_empty() && huge.is_empty() && linked.is_empty() && files.is_empty() {
        found.unknown(
            "smaps: no shared memory: guest memory that is private to the process cannot be preserved, and whether there is any does not show",
            "back guest memory by a memfd and map it shared",
        );
    } else if !good.is_empty() {
        found.good(format!("smaps: {}", named(&good)));
    }
    if let Some(projection) = projection {
        let bytes = memory
            .iter()
            .filter(|shared| shared.memfd)
            .fold(0_u64, |sum, shared| sum.saturating_add(shared.bytes));
        projected(&mut found, bytes, projection);
    }
    found.gate()
}

fn projected(found: &mut Findings, bytes: u64, projection: Projection) {
    let per_gib = projection.per_gib.as_millis();
    let takes = per_gib.saturating_mul(u128::from(bytes)) >> 30;
    let evidence = format!(
        "{} at {per_gib} ms per GiB: {takes} ms of the budget of {} ms",
        size(bytes),
        projection.budget.as_millis()
    );
    if takes > projection.budget.as_millis() {
        found.bad(evidence, "raise blackoutBudget, or give the guest transparent huge pages");
    } else {
        found.good(evidence);
    }
}
