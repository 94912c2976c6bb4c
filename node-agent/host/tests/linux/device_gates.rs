//! Gates about devices and how they are enumerated.

use liveupdate_host::linux::boot_parameters::BootParameters;
use liveupdate_host::linux::gates::{device_eligible, pci_enumeration_stable};
use liveupdate_host::linux::pci::PciDevices;
use liveupdate_host::linux::root::Root;
use liveupdate_node_core::gate::Gate;

use crate::machine::{Machine, fail, pass, unknown};

const NVME: &str = "0000:01:00.0";
const AT: &str = "sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0";

fn eligible(machine: &Machine, address: &str) -> Gate {
    device_eligible(address, Ok(&machine.pci()), Ok(&machine.processes()))
}

#[test]
fn device_eligible_is_bound_awake_and_whole() {
    let own = |file: &str| format!("{AT}/{file}");
    let gate = eligible(&Machine::guest(), NVME);
    pass(&gate, "driver vfio-pci-liveupdate, noiommu-vfio0");
    assert_eq!(gate.subject, NVME);
    fail(&eligible(&Machine::guest().without(&own("vfio-dev")), NVME), "no vfio-dev");
    fail(&eligible(&Machine::guest().without(&own("liveupdate")), NVME), "cannot hand it over");
    fail(&eligible(&Machine::guest().with(&own("power_state"), "D3hot\n"), NVME), "D3hot");
    unknown(&eligible(&Machine::guest().without(&own("power_state")), NVME), "not told");
    unknown(&eligible(&Machine::guest().with(&own("power_state"), "unknown\n"), NVME), "not told");
    fail(
        &eligible(&Machine::guest().with_link(&own("physfn"), "../0000:01:00.1"), NVME),
        "virtual function of 0000:01:00.1",
    );
    fail(&eligible(&Machine::guest().with(&own("sriov_numvfs"), "2\n"), NVME), "sriov_numvfs: 2");
    pass(&eligible(&Machine::guest().with(&own("sriov_numvfs"), "0\n"), NVME), "D0");
    fail(&eligible(&Machine::guest(), "0000:09:00.0"), "no such device");
    unknown(&eligible(&Machine::guest().with(&own("class"), "?\n"), NVME), "not a PCI id");
    let nothing = PciDevices::read(&Root::at("/nowhere")).unwrap_err();
    unknown(&device_eligible(NVME, Err(&nothing), Ok(&Machine::guest().processes())), "no such file");
}

/// A second function beside the NVMe: of another driver, the same group and below the same bridge.
fn neighbour(machine: Machine) -> Machine {
    let at = "sys/devices/pci0000:00/0000:00:02.0/0000:01:00.1";
    machine
        .with_link(
            "sys/bus/pci/devices/0000:01:00.1",
            "../../../devices/pci0000:00/0000:00:02.0/0000:01:00.1",
        )
        .with(&format!("{at}/vendor"), "0x1b36\n")
        .with(&format!("{at}/device"), "0x0010\n")
        .with(&format!("{at}/class"), "0x010802\n")
        .with_link(&format!("{at}/driver"), "../../../../bus/pci/drivers/nvme")
}

fn grouped(machine: Machine) -> Machine {
    let link = "../../../../kernel/iommu_groups/4";
    machine
        .with_link(&format!("{AT}/iommu_group"), link)
        .with_link("sys/devices/pci0000:00/0000:00:02.0/0000:01:00.1/iommu_group", link)
        // The bridge is in the group too and is nobody's to hold.
        .with_link("sys/devices/pci0000:00/0000:00:02.0/iommu_group", "../../../kernel/iommu_groups/4")
}

#[test]
fn device_eligible_with_its_group_and_reset_domain() {
    pass(&eligible(&neighbour(Machine::guest()), NVME), "no IOMMU group, nobody else");
    let shared = || grouped(neighbour(Machine::guest()));
    fail(&eligible(&shared(), NVME), "0000:01:00.1 (nvme, in its IOMMU group)");
    let bus = neighbour(Machine::guest()).with(&format!("{AT}/reset_method"), "bus\n");
    fail(&eligible(&bus, NVME), "0000:01:00.1 (nvme, reset together with it)");
    let none = neighbour(Machine::guest()).with(&format!("{AT}/reset_method"), "\n");
    fail(&eligible(&none, NVME), "0000:01:00.1 (nvme, reset together with it)");
    let bus_wide_and_alone = Machine::guest().without(&format!("{AT}/reset_method"));
    pass(&eligible(&bus_wide_and_alone, NVME), "nobody else");
    let nobodys = shared().without("sys/devices/pci0000:00/0000:00:02.0/0000:01:00.1/driver");
    pass(&eligible(&nobodys, NVME), "or nobody's");
    let same = shared().with_link("proc/301/fd/12", "/dev/vfio/devices/vfio4").with(
        "proc/301/fdinfo/12",
        "vfio-device-syspath: /sys/devices/pci0000:00/0000:00:02.0/0000:01:00.1\n",
    );
    pass(&eligible(&same, NVME), "all in its group and reset domain are its holder's");
    let other = shared().with_link("proc/402/fd/12", "/dev/vfio/devices/vfio4").with(
        "proc/402/fdinfo/12",
        "vfio-device-syspath: /sys/devices/pci0000:00/0000:00:02.0/0000:01:00.1\n",
    );
    fail(&eligible(&other, NVME), "not its holder's");
    let nothing = PciDevices::read(&Root::at("/nowhere")).unwrap_err();
    unknown(&device_eligible(NVME, Ok(&shared().pci()), Err(&nothing)), "no such file");
}

#[test]
fn pci_enumeration_stable_with_equal_parameters() {
    let gate = |next: Option<&str>, preserved: &[&str]| {
        let machine = Machine::guest();
        let next = next.map(BootParameters::parse);
        let kernel = machine.kernel();
        pci_enumeration_stable(kernel.parameters.as_ref(), next.as_ref(), Ok(&machine.pci()), preserved)
    };
    let same = "quiet vfio.enable_unsafe_noiommu_mode=1 root=/dev/vdb";
    let at_run_time = Machine::guest().edit("proc/cmdline", "vfio.enable_unsafe_noiommu_mode=1 ", "");
    let (kernel, next) = (at_run_time.kernel(), BootParameters::parse("quiet"));
    let stable =
        pci_enumeration_stable(kernel.parameters.as_ref(), Some(&next), Ok(&at_run_time.pci()), &[NVME]);
    unknown(&stable, "without which nobody gets 0000:01:00.0 back");
    pass(&gate(Some(same), &[NVME]), "agree in pci=");
    fail(&gate(Some("quiet"), &[NVME]), "vfio.enable_unsafe_noiommu_mode= 1 now, absent then");
    fail(&gate(Some(&format!("{same} intel_iommu=on")), &[NVME]), "intel_iommu= absent now, on then");
    fail(&gate(Some(&format!("{same} pci=assign-busses")), &[NVME]), "pci=assign-busses gives out numbers");
    fail(&gate(Some(same), &["0000:00:01.0"]), "boot_vga: 1");
    unknown(&gate(None, &[NVME]), "command line is not known");
    unknown(&gate(Some(same), &["0000:09:00.0"]), "cannot be read");
}
