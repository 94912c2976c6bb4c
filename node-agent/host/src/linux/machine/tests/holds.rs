//! Who holds what, as it is seen when everything depends on it.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use super::super::Role;
use super::fake::Machine;
use crate::{Held, Host};

const GPU: &str = "0000:01:00.0";
const NIC: &str = "0000:00:03.0";
const POD: &str = "pod/8c1f3f0e-52a4-4b61-9f7d-0c2e9a6f4d11";

fn devices(pairs: &[(&str, &str)]) -> Held {
    let pairs = pairs.iter().map(|(address, holder)| ((*address).to_owned(), (*holder).to_owned()));
    Held { devices: pairs.collect::<BTreeMap<_, _>>(), ..Held::default() }
}

#[test]
fn whoever_has_a_device_open_is_seen_also_when_it_never_said_so() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    assert_eq!(keeper.held().unwrap(), devices(&[(GPU, "vm-a.service"), (NIC, POD)]));
    assert!(machine.host(Role::Agent).held().is_err(), "who declared what is the keeper's to know");

    // Kernels that do not tell which device a file is: by its own node, and by its group.
    machine.write("proc/402/fdinfo/5", "pos:\t0\n");
    let link = |path: &str, target: &str| {
        let path = machine.options().root.path(path);
        let _ = std::fs::remove_file(&path);
        symlink(target, path).unwrap();
    };
    link("/proc/402/fd/5", "/dev/vfio/devices/vfio1");
    assert_eq!(keeper.held().unwrap().devices[NIC], POD);
    link("/proc/402/fd/5", "anon_inode:[vfio-device]");
    assert_eq!(keeper.held().unwrap(), devices(&[(GPU, "vm-a.service")]), "of whichever group it is");
    link(&format!("/sys/bus/pci/devices/{NIC}/iommu_group"), "../../../kernel/iommu_groups/7");
    link("/proc/402/fd/8", "/dev/vfio/7");
    assert_eq!(keeper.held().unwrap().devices[NIC], POD);

    std::fs::remove_dir_all(machine.options().root.path("/proc/402")).unwrap();
    assert_eq!(keeper.held().unwrap(), devices(&[(GPU, "vm-a.service")]), "it has ended");
    // What may not be looked at may hold anything.
    machine.write("proc/301/fd/11", "");
    let error = keeper.held().unwrap_err().to_string();
    assert!(error.contains("see who holds devices") && error.contains("/proc/301/fd/11"), "{error}");
}
