//! Gates about a holder's memory.

use std::time::Duration;

use liveupdate_host::linux::gates::{Projection, holder_open_mode, memory_charge, memory_preservable};
use liveupdate_host::linux::{cgroup, memory};
use liveupdate_node_core::gate::Gate;

use crate::machine::{Machine, fail, pass, unknown};

fn preservable(machine: &Machine, projection: Option<Projection>) -> Gate {
    memory_preservable("vm-a", memory::shared(&machine.root(), 301).as_deref(), projection)
}

#[test]
fn memory_preservable_is_a_memfd_of_ordinary_pages() {
    let smaps = "proc/301/smaps";
    let guest = Machine::guest();
    let gate = preservable(&guest, None);
    pass(&gate, "memfd:ram (512 MiB)");
    let back = Machine::guest().edit(smaps, "/memfd:ram (deleted)", "/ (deleted)");
    pass(&preservable(&back, None), "memfd: (512 MiB)");
    assert_eq!(gate.subject, "vm-a");
    fail(
        &preservable(&Machine::guest().edit(smaps, "ms sd \n7ffff0", "ms ht sd \n7ffff0"), None),
        "huge pages of the pool",
    );
    fail(
        &preservable(&Machine::guest().edit(smaps, "/memfd:ram (deleted)", "/var/lib/ram"), None),
        "has a name in a file system",
    );
    unknown(
        &preservable(&Machine::guest().edit(smaps, "/memfd:ram (deleted)", "/tmp/ram (deleted)"), None),
        "was unlinked",
    );
    unknown(
        &preservable(&Machine::guest().edit(smaps, "rw-s 00000000 00:01", "rw-p 00000000 00:01"), None),
        "no shared memory",
    );
    unknown(&preservable(&Machine::guest().without(smaps), None), "/proc/301/smaps: no such file");
}

#[test]
fn memory_preservable_within_the_budget() {
    let projection = |per_gib, budget| {
        Some(Projection { per_gib: Duration::from_millis(per_gib), budget: Duration::from_millis(budget) })
    };
    pass(&preservable(&Machine::guest(), projection(300, 150)), "150 ms of the budget of 150 ms");
    fail(&preservable(&Machine::guest(), projection(302, 150)), "151 ms of the budget of 150 ms");
}

#[test]
fn holder_open_mode_is_by_the_devices_own_nodes() {
    let of = |machine: Machine| {
        let processes = machine.processes();
        holder_open_mode("vm-a", processes.holding.iter().find(|process| process.pid == 301))
    };
    pass(&of(Machine::guest()), "by their own nodes: file 7: noiommu-vfio0");
    for (file, target, what) in [
        ("7", "anon_inode:[vfio-device]", "opened by its group"),
        ("12", "/dev/vfio/noiommu-0", "VFIO group noiommu-0"),
        ("12", "/dev/vfio/vfio", "a VFIO container"),
    ] {
        let gate = of(Machine::guest().with_link(&format!("proc/301/fd/{file}"), target));
        fail(&gate, what);
        assert!(gate.evidence.starts_with(&format!("file {file}: ")), "{gate:?}");
    }
    pass(&holder_open_mode("vm-b", None), "no VFIO group open");
}

fn charge(machine: &Machine, bytes: u64) -> Gate {
    let path = cgroup::path_of(&machine.root(), 301).unwrap();
    memory_charge("vm-a", cgroup::memory(&machine.root(), &path).as_deref(), bytes)
}

#[test]
fn memory_charge_counts_what_the_successor_takes_on_every_level() {
    let slice = "sys/fs/cgroup/system.slice/memory.max";
    // 640 MiB at most, 300 taken, of which 256 are the memory itself.
    pass(&charge(&Machine::guest(), 512 << 20), "memory.max 640 MiB, of which 596 MiB is left for 512 MiB");
    let gate = charge(&Machine::guest(), 600 << 20);
    fail(&gate, "596 MiB is left for 600 MiB");
    assert_eq!(gate.remedy, "raise memory.max of /system.slice/vm-a.service by 4 MiB");
    // The level above has no limit until it gets one.
    fail(
        &charge(&Machine::guest().with(slice, "943718400\n"), 512 << 20),
        "/sys/fs/cgroup/system.slice: memory.max 900 MiB",
    );
    let open = Machine::guest().with("sys/fs/cgroup/system.slice/vm-a.service/memory.max", "max\n");
    pass(&charge(&open, 1 << 40), "no memory.max up to the root");
    unknown(&charge(&Machine::guest().without("sys/fs/cgroup/system.slice"), 1), "no such file");
    let odd = Machine::guest().with(slice, "much\n");
    unknown(&charge(&odd, 1), "not a limit");
}
