//! Gates about the driver, and about what it and the running kernel can do for a device.

use liveupdate_host::linux::driver::{self, Driver};
use liveupdate_host::linux::gates::{
    dma_targets_preserved, driver_ready, experimental_opt_in, iommu_state_preserved, iommufd_preserved,
    pci_state_preserved, vfio_state_preserved,
};
use liveupdate_node_core::gate::Gate;

use crate::machine::{Machine, fail, pass, unknown};

const NVME: &str = "0000:01:00.0";
const AT: &str = "sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0";
const MODULE: &str = "sys/module/vfio_pci_liveupdate";
const PATCHES: &str = "sys/kernel/vfio_pci_liveupdate_patches";

fn own(file: &str) -> String {
    format!("{AT}/liveupdate/{file}")
}

/// A device that an IOMMU translates, whose driver stops its DMA therefore.
fn translated() -> Machine {
    let at = "sys/kernel/iommu_groups/4";
    Machine::guest()
        .with_link(&format!("{AT}/iommu_group"), "../../../../kernel/iommu_groups/4")
        .with(&format!("{at}/type"), "DMA-FQ\n")
        .without(&format!("{AT}/vfio-dev"))
        .with(&format!("{AT}/vfio-dev/vfio0/dev"), "511:0\n")
        .with(&own("keeps_bus_master"), "0\n")
}

#[test]
fn the_driver_is_there_of_our_abi_and_opted_in() {
    let of = |machine: Machine| Driver::read(&machine.root());
    pass(&driver_ready(true, &of(Machine::guest())), "abi: liveupdate.dev/vfio-pci-v1");
    assert!(driver_ready(true, &of(Machine::guest())).evidence.contains("keep-bus-master"));
    pass(&driver_ready(true, &of(Machine::guest().without(PATCHES))), "the kernel has none of the patches");
    fail(&driver_ready(true, &of(Machine::guest().without(MODULE))), "vfio_pci_liveupdate: no such folder");
    let abi = format!("{MODULE}/parameters/abi");
    let other = Machine::guest().with(&abi, "liveupdate.dev/vfio-pci-v2\n");
    fail(&driver_ready(true, &of(other)), "vfio-pci-v2, wanted liveupdate.dev/vfio-pci-v1");
    fail(&driver_ready(true, &of(Machine::guest().without(&abi))), "abi: no such file");
    pass(&driver_ready(false, &of(Machine::guest().without(MODULE))), "no driver is needed");

    let enable = format!("{MODULE}/parameters/enable");
    pass(&experimental_opt_in(true, &of(Machine::guest())), "enable: Y");
    fail(&experimental_opt_in(true, &of(Machine::guest().with(&enable, "N\n"))), "enable: N");
    fail(&experimental_opt_in(true, &of(Machine::guest().without(&enable))), "no such file");
    unknown(&experimental_opt_in(true, &of(Machine::guest().with(&enable, "?\n"))), "not 0 or 1");
    pass(&experimental_opt_in(false, &of(Machine::guest().without(MODULE))), "nothing to opt in to");
}

#[test]
fn vfio_state_is_carried_by_the_driver_that_has_the_device() {
    let of = |machine: Machine| {
        vfio_state_preserved(NVME, &Driver::read(&machine.root()), &driver::told(&machine.root(), NVME))
    };
    let gate = of(Machine::guest());
    pass(&gate, "carries its VFIO state");
    assert_eq!(gate.subject, NVME);
    pass(&of(Machine::guest().with(&own("state"), "attached\n")), "as liveupdate.dev/vfio-pci-v1");
    fail(&of(Machine::guest().with(&own("state"), "incoming\n")), "not been given back since the last jump");
    fail(&of(Machine::guest().with(&own("state"), "unknown\n")), "cannot hand it over");
    fail(&of(Machine::guest().without(&format!("{AT}/liveupdate"))), "cannot hand it over");
    unknown(&of(Machine::guest().with(&own("canary"), "perhaps\n")), "canary holds \"perhaps\"");
    let mute = Machine::guest().without(&format!("{MODULE}/parameters/abi"));
    unknown(&of(mute), "in which format does not show");
}

fn pci(machine: &Machine, quiesces: bool) -> Gate {
    let (driver, told) = (Driver::read(&machine.root()), driver::told(&machine.root(), NVME));
    pci_state_preserved(NVME, &driver, &told, None, quiesces)
}

#[test]
fn pci_state_is_preserved_by_a_patched_kernel_or_by_a_holder_that_quiesces() {
    pass(&pci(&Machine::guest(), false), "keep-bus-master");
    fail(&pci(&Machine::guest().without(PATCHES), false), "not patched for keep-bus-master");
    let half = Machine::guest().with(PATCHES, "luo-exports\n");
    fail(&pci(&half, false), "not patched for keep-bus-master");
    fail(&pci(&translated(), false), "its holder does not say that it has stopped it");
    pass(&pci(&translated(), true), "its holder stops its DMA");
    pass(&pci(&translated().without(PATCHES), true), "its holder stops its DMA");
    unknown(
        &pci(&Machine::guest().with(&own("keeps_bus_master"), "unknown\n"), true),
        "unknown or not there",
    );
}

#[test]
fn iommu_and_iommufd_are_preserved_only_where_there_is_nothing_to_preserve() {
    let iommu = |machine: &Machine| iommu_state_preserved(NVME, machine.pci().get(NVME));
    let iommufd = |machine: &Machine| {
        iommufd_preserved(NVME, machine.pci().get(NVME), &driver::told(&machine.root(), NVME))
    };
    pass(&iommu(&Machine::guest()), "no IOMMU translates its DMA");
    fail(&iommu(&translated()), "IOMMU group 4 (DMA-FQ): the kernel turns translation off");
    unknown(&iommu_state_preserved(NVME, None), "cannot be read");
    pass(&iommufd(&Machine::guest()), "maps the same memory again");
    fail(&iommufd(&translated()), "no live update file handler");
    fail(&iommufd(&Machine::guest().with(&own("keeps_bus_master"), "0\n")), "no iommufd without an IOMMU");
    unknown(&iommufd(&Machine::guest().without(&own("keeps_bus_master"))), "unknown or not there");
    // VFIO makes a group of its own for a device without an IOMMU.
    let own_group = translated().with("sys/kernel/iommu_groups/4/name", "vfio-noiommu\n");
    pass(&iommu(&own_group), "no IOMMU translates its DMA");
}

#[test]
fn where_a_device_writes_is_its_holders_word_without_an_iommu() {
    let of = |machine: &Machine, targets| dma_targets_preserved(NVME, machine.pci().get(NVME), targets);
    let attested = of(&Machine::guest(), Some(2));
    unknown(&attested, "attests that it goes into 2 of its memfds alone");
    assert!(attested.remedy.contains("UnconfinedDma"));
    assert_eq!(attested.id.waived_by(attested.result), Some("UnconfinedDma"));
    for nothing in [Some(0), None] {
        let gate = of(&Machine::guest(), nothing);
        fail(&gate, "does not declare where it goes");
        assert_eq!(gate.id.waived_by(gate.result), None);
    }
    pass(&of(&translated(), None), "stops its DMA before translation goes off");
    unknown(&dma_targets_preserved(NVME, None, Some(1)), "cannot be read");
}
