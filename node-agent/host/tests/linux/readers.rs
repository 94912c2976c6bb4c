//! What is read of the machines.

use liveupdate_host::linux::cgroup::{self, Owner};
use liveupdate_host::linux::clock::Clock;
use liveupdate_host::linux::kernel::Kernel;
use liveupdate_host::linux::kexec_state::Lockdown;
use liveupdate_host::linux::kho::Area;
use liveupdate_host::linux::memory::Memory;
use liveupdate_host::linux::modules::{self, ModuleFile};
use liveupdate_host::linux::processes::{Held, Processes};
use liveupdate_host::linux::root::{ReadError, Root};
use liveupdate_host::linux::{memory, pci, storage};

use crate::machine::Machine;

#[test]
fn a_guest_that_can_be_updated_is_read_whole() {
    let machine = Machine::guest();
    let kernel = machine.kernel();
    assert_eq!(kernel.release.as_deref(), Ok("7.3.4-lu1"));
    assert_eq!(kernel.architecture.as_deref(), Ok("x86_64"));
    assert_eq!(kernel.boot_id.as_ref().unwrap().len(), 36);
    assert_eq!(kernel.switch("liveupdate"), Some(true));
    assert!(kernel.config.as_ref().unwrap().built_in("CONFIG_LIVEUPDATE"));
    let state = machine.kexec();
    assert_eq!((state.loaded, state.disabled, state.limit), (Ok(false), Ok(false), Ok(-1)));
    assert_eq!((state.lockdown, state.modules_signed), (Ok(Lockdown::None), Ok(false)));
    let kho = machine.kho();
    assert_eq!((kho.on(), kho.arrived), (Some(true), false));
    let area = |start, megabytes: u64| Area { start, length: megabytes << 20 };
    assert_eq!(kho.scratch, Ok(vec![area(0x100_0000, 64), area(0x2000_0000, 256), area(0x3000_0000, 64)]));
    assert_eq!((kho.kho_format.as_deref(), kho.luo_format.as_deref()), (Ok("kho-v4"), Ok("luo-v5")));
    assert_eq!(machine.memory().total, 1_004_892 << 10);
}

#[test]
fn a_stock_machine_is_read_too_and_what_it_lacks_is_absent() {
    let machine = Machine::of("stock");
    let kernel = machine.kernel();
    assert_eq!(kernel.release.as_deref(), Ok("6.18.44"));
    let config = kernel.config.unwrap();
    assert!(config.len() > 1000 && !config.built_in("CONFIG_KEXEC_HANDOVER"));
    let state = machine.kexec();
    assert!(state.loaded.unwrap_err().is_absent() && state.disabled.unwrap_err().is_absent());
    assert!(!machine.kho().orchestrator);
    assert_eq!(modules::loaded(&machine.root()), Ok(None));
    let devices = machine.pci();
    assert!(devices.skipped.is_empty());
    let mut held = devices.devices.iter().filter(|device| !device.is_bridge());
    assert!(held.all(|device| device.vendor == "1af4" && device.group.is_none()));
    assert!(devices.devices.iter().any(|device| device.driver.as_deref() == Some("virtio-pci")));
}

#[test]
fn pci_devices_are_read_with_their_bridges_and_drivers() {
    let machine = Machine::guest();
    let devices = machine.pci();
    let nvme = devices.get("0000:01:00.0").unwrap();
    assert_eq!((nvme.vendor.as_str(), nvme.device.as_str(), nvme.class.as_str()), ("1b36", "0010", "0108"));
    assert_eq!(nvme.bridges, ["0000:00:02.0"]);
    assert_eq!(
        (nvme.driver.as_deref(), nvme.vfio.as_deref()),
        (Some("vfio-pci-liveupdate"), Some("noiommu-vfio0"))
    );
    assert_eq!((nvme.power_state.as_deref(), nvme.group.as_deref()), (Some("D0"), None));
    assert_eq!(nvme.reset_methods, ["flr", "bus"]);
    assert!(devices.get("0000:00:02.0").unwrap().is_bridge());
    assert!(devices.get("0000:00:01.0").unwrap().boot_vga);
}

#[test]
fn invariant_9_a_device_that_cannot_be_read_does_not_hide_the_others() {
    let machine = Machine::guest().with("sys/devices/pci0000:00/0000:00:04.0/vendor", "rubbish\n");
    let devices = machine.pci();
    assert_eq!(devices.devices.len(), 5);
    let [ReadError::Malformed { path, text, .. }] = devices.skipped.as_slice() else { panic!("{devices:?}") };
    assert_eq!((path.as_str(), text.as_str()), ("/sys/bus/pci/devices/0000:00:04.0/vendor", "rubbish"));
}

#[test]
fn groups_have_members() {
    let machine = Machine::guest().with_link("sys/kernel/iommu_groups/7/devices/0000:01:00.0", "../x");
    assert_eq!(pci::group_members(&machine.root(), "7"), Ok(vec!["0000:01:00.0".into()]));
    assert!(pci::group_members(&machine.root(), "8").unwrap_err().is_absent());
}

#[test]
fn holders_are_found_with_their_devices_and_owners() {
    let found = Machine::guest().processes();
    assert!(found.unreadable.is_empty());
    let pids: Vec<u32> = found.holding.iter().map(|process| process.pid).collect();
    assert_eq!(pids, [1, 212, 301, 402], "a memfd alone makes no holder");
    let qemu = &found.holding[2];
    assert_eq!(qemu.owner, Owner::Unit("vm-a.service".into()));
    assert_eq!(qemu.devices().collect::<Vec<_>>(), ["0000:01:00.0"]);
    let device = Held::VfioDevice { name: "noiommu-vfio0".into(), address: Some("0000:01:00.0".into()) };
    assert_eq!(qemu.files, [(7, device), (8, Held::Iommufd), (9, Held::Memfd("ram".into()))]);
    assert_eq!(found.holding[3].owner, Owner::Pod("8c1f3f0e-52a4-4b61-9f7d-0c2e9a6f4d11".into()));
    assert_eq!(found.holding[1].files, [(9, Held::Session("liveupdate/vm-a".into()))]);
}

/// As where a security module lets folders be listed and no link be read: what such a process holds is unknown.
#[test]
fn what_a_process_holds_that_may_not_be_asked_is_unknown_and_not_nothing() {
    for (file, machine) in [
        // A link that is there and cannot be read, and a file that is there and cannot be read.
        ("/proc/301/fd/8", Machine::guest().without("proc/301/fd/8").with("proc/301/fd/8", "")),
        ("/proc/301/fdinfo/7", Machine::guest().without("proc/301/fdinfo/7").with("proc/301/fdinfo/7/x", "")),
    ] {
        let found = machine.processes();
        let [ReadError::Unreadable { path, .. }] = found.unreadable.as_slice() else { panic!("{found:?}") };
        assert_eq!(path, file);
        let pids: Vec<u32> = found.holding.iter().map(|process| process.pid).collect();
        assert_eq!(pids, [1, 212, 402], "the others are still seen");
    }
    // What is not there is no secret: the device is held, and where it is does not show.
    let found = Machine::guest().without("proc/301/fdinfo/7").processes();
    assert_eq!((found.holding.len(), found.unreadable.len()), (4, 0));
    let device = Held::VfioDevice { name: "noiommu-vfio0".into(), address: None };
    assert_eq!(found.holding[2].files[0], (7, device));
}

/// Anybody can have such a file open, and must not make a node unknown by it.
#[test]
fn a_file_deeper_in_folders_than_the_kernel_can_say_is_none_of_interest() {
    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
    let top = std::env::temp_dir().join(format!("liveupdate-deep-{}", std::process::id()));
    std::fs::create_dir(&top).unwrap();
    let mut folder = openat(CWD, &top, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let name = "d".repeat(250);
    for _ in 0..20 {
        mkdirat(&folder, &name, Mode::RWXU).unwrap();
        folder = openat(&folder, &name, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let own = format!("/proc/{}", std::process::id());
    let link = Root::machine().link(&format!("{own}/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&folder)));
    let found = Processes::read(&Root::machine()).unwrap();
    std::fs::remove_dir_all(&top).unwrap();
    assert!(matches!(link, Err(ReadError::NameTooLong { .. })), "{link:?}");
    let own: Vec<_> = found.unreadable.iter().filter(|error| error.to_string().starts_with(&own)).collect();
    assert!(own.is_empty(), "{own:?}");
}

#[test]
fn the_old_way_to_open_a_device_is_told_from_the_new() {
    let machine = Machine::guest()
        .with_link("proc/301/fd/7", "anon_inode:[vfio-device]")
        .with_link("proc/301/fd/8", "/dev/vfio/vfio")
        .with_link("proc/301/fd/11", "/dev/vfio/12");
    let found = machine.processes();
    let files: Vec<&Held> = found.holding[2].files.iter().map(|(_, held)| held).collect();
    assert!(matches!(files[0], Held::VfioGroupDevice { address: Some(_) }));
    assert_eq!(files[1..2], [&Held::VfioContainer]);
    assert_eq!(files[3], &Held::VfioGroup("12".into()));
}

#[test]
fn shared_memory_is_what_a_guest_is_made_of() {
    let machine = Machine::guest();
    let shared = memory::shared(&machine.root(), 301).unwrap();
    let [ram] = shared.as_slice() else { panic!("{shared:?}") };
    assert_eq!((ram.name.as_str(), ram.bytes), ("memfd:ram", 512 << 20));
    assert!(ram.memfd && ram.unlinked && !ram.hugetlb);
    let huge = machine.edit("proc/301/smaps", "ms sd \n7ffff0", "ms ht sd \n7ffff0");
    assert!(memory::shared(&huge.root(), 301).unwrap()[0].hugetlb);
}

#[test]
fn the_way_up_from_a_control_group_ends_at_the_root() {
    let machine = Machine::guest();
    let path = cgroup::path_of(&machine.root(), 301).unwrap();
    let levels = cgroup::memory(&machine.root(), &path).unwrap();
    let seen: Vec<_> = levels.iter().map(|level| (level.path.as_str(), level.max)).collect();
    assert_eq!(seen, [("/system.slice/vm-a.service", Some(640 << 20)), ("/system.slice", None)]);
    assert_eq!(levels[0].shmem, 256 << 20);
    assert!(cgroup::memory(&machine.root(), "/nobody.slice").unwrap_err().is_absent());
}

#[test]
fn modules_are_read_as_they_are_loaded_and_from_their_files() {
    let machine = Machine::guest();
    let loaded = modules::loaded(&machine.root()).unwrap().unwrap();
    let names: Vec<_> =
        loaded.iter().map(|module| (module.name.as_str(), module.users, module.live)).collect();
    assert_eq!(names, [("vfio_pci", 1, true), ("vfio_pci_core", 1, true), ("nvme", 0, true)]);
    let parameter = modules::parameter(&machine.root(), "vfio", "enable_unsafe_noiommu_mode");
    assert_eq!(parameter, Ok(Some("Y".into())));
    assert_eq!(modules::parameter(&machine.root(), "nobody", "x"), Ok(None));

    let file = object(b"license=GPL\0name=liveupdate_vfio\0depends=vfio_pci_core,vfio\0vermagic=7.3.4-lu2 SMP preempt mod_unload \0");
    let module = ModuleFile::parse(&file).unwrap();
    assert_eq!(module.name.as_deref(), Some("liveupdate_vfio"));
    assert_eq!((module.release(), module.signed), (Some("7.3.4-lu2"), false));
    assert_eq!(module.depends, ["vfio_pci_core", "vfio"]);
    let signed = [file.as_slice(), b"~Module signature appended~\n"].concat();
    assert!(ModuleFile::parse(&signed).unwrap().signed);
    // The last three numbers of the last section's header do not matter.
    for length in 0..file.len() - 24 {
        assert!(ModuleFile::parse(&file[..length]).is_err(), "{length}");
    }
}

/// An ELF file with one section of its own.
fn object(modinfo: &[u8]) -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let mut out = vec![0; 64];
    out[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    out[58..60].copy_from_slice(&64_u16.to_le_bytes());
    out[60..62].copy_from_slice(&3_u16.to_le_bytes());
    out[62..64].copy_from_slice(&2_u16.to_le_bytes());
    let at = out.len() as u64;
    out.extend_from_slice(modinfo);
    out.extend_from_slice(names);
    let table = out.len() as u64;
    out[40..48].copy_from_slice(&table.to_le_bytes());
    let parts =
        [(0_u32, 0, 0), (1, at, modinfo.len() as u64), (10, at + modinfo.len() as u64, names.len() as u64)];
    for (name, offset, length) in parts {
        let mut header = [0; 64];
        header[..4].copy_from_slice(&name.to_le_bytes());
        header[24..32].copy_from_slice(&offset.to_le_bytes());
        header[32..40].copy_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&header);
    }
    out
}

#[test]
fn free_room_is_that_of_the_file_system() {
    let machine = Machine::guest();
    assert!(storage::free(&machine.root(), "/boot").unwrap() > 0);
    assert!(storage::free(&machine.root(), "/nowhere").unwrap_err().is_absent());
}

#[test]
fn errors_name_the_machines_path_and_not_the_folder_that_it_was_read_under() {
    let root = Root::at("/nowhere/at/all");
    let error = root.text("/proc/cmdline").unwrap_err();
    assert_eq!(error.to_string(), "/proc/cmdline: no such file");
    let machine = Machine::guest().with("sys/kernel/kexec_loaded", "maybe\n");
    let error = machine.kexec().loaded.unwrap_err();
    assert_eq!(error.to_string(), "/sys/kernel/kexec_loaded holds \"maybe\", which is not 0 or 1");
    assert!(matches!(machine.root().bytes("/proc/config.gz", 10), Err(ReadError::Unreadable { .. })));
}

#[test]
fn the_machine_that_the_test_runs_on_is_read_as_the_system_calls_say() {
    let root = Root::machine();
    let kernel = Kernel::read(&root);
    let uname = rustix::system::uname();
    assert_eq!(kernel.release.as_deref(), Ok(uname.release().to_str().unwrap()));
    if let Ok(architecture) = &kernel.architecture {
        assert_eq!(architecture, uname.machine().to_str().unwrap());
    }
    assert_eq!(kernel.boot_id.unwrap().len(), 36);
    let memory = Memory::read(&root).unwrap();
    assert!(memory.available > 0 && memory.available <= memory.total);
    assert!(Clock::read(&root).flags.unwrap().iter().any(|flag| flag == "fpu"));
    Processes::read(&root).unwrap();
}
