use super::super::cpio::Archive;
use super::super::shim::{Driver, Shim};
use super::*;

/// As much of a module as is looked at.
pub(crate) fn module(vermagic: &str, abi: &str) -> Vec<u8> {
    let info = format!("name=vfio_pci_liveupdate\0vermagic={vermagic}\0depends=vfio-pci-core\0");
    crate::image::tests::build::module(&info, format!("\0{abi}\0").as_bytes())
}

#[test]
fn the_shims_driver_counts_when_it_is_listed() {
    let driver = |name: &str| Driver {
        name: name.into(),
        module: module("7.3.4-lu2 SMP preempt mod_unload ", driver::ABI),
        parameters: "enable=1".into(),
    };
    let shim = |name: &str| Shim { init: b"init".to_vec(), drivers: vec![driver(name)], keeper: None };
    let mut contents = Contents::default();
    contents.look_at_shim(&mut shim("vfio-pci-liveupdate.ko").archive().as_slice()).unwrap();
    let (found, parameters) = contents.shim.clone().unwrap();
    assert_eq!(parameters, "enable=1");
    assert_eq!(found.file.unwrap().release(), Some("7.3.4-lu2"));
    assert_eq!(found.abi, BTreeSet::from([driver::ABI.to_owned()]));
    let mut other = Contents::default();
    other.look_at_shim(&mut shim("vfio-pci.ko").archive().as_slice()).unwrap();
    assert_eq!(other, Contents::default());
    let mut unlisted = Archive::new();
    unlisted.file("liveupdate/drivers/00-vfio_pci_liveupdate.ko", 0o644, &driver("x").module);
    other.look_at_shim(&mut unlisted.finish().as_slice()).unwrap();
    assert_eq!(other, Contents::default());
}

#[test]
fn what_the_shim_loads_before_the_driver_is_told_with_what_it_takes() {
    let of = |name: &str, info: &str| Driver {
        name: name.into(),
        module: crate::image::tests::build::module(info, b""),
        parameters: String::new(),
    };
    let ours = of("vfio_pci_liveupdate.ko", "name=vfio_pci_liveupdate\0");
    let native = of("nvme.ko", "name=nvme\0alias=pci:v*d*sv*sd*bc01sc08i02*\0alias=nvme-thing\0");
    let read = |drivers: Vec<Driver>| {
        let mut contents = Contents::default();
        let shim = Shim { init: b"init".to_vec(), drivers, keeper: None };
        contents.look_at_shim(&mut shim.archive().as_slice()).unwrap();
        assert!(contents.shim.is_some());
        contents.before
    };
    assert_eq!(read(vec![ours.clone(), native.clone()]), []);
    let takes = Ok(vec!["pci:v*d*sv*sd*bc01sc08i02*".to_owned()]);
    assert_eq!(
        read(vec![native.clone(), ours.clone()]),
        [("liveupdate/drivers/00-nvme.ko".to_owned(), takes)]
    );
    let broken = Driver { module: b"no module".to_vec(), ..native };
    let before = read(vec![broken, ours]);
    assert!(matches!(before.as_slice(), [(_, Err(_))]), "{before:?}");
}

#[test]
fn modules_tell_the_driver_packed_or_not_and_what_is_built_in() {
    use std::io::Write;
    let plain = module("7.3.4-lu2 SMP ", "liveupdate.dev/vfio-pci-v2");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&plain).unwrap();
    let packed = packed.finish().unwrap();
    let folder = "lib/modules/7.3.4-lu2";
    for (name, bytes) in [("vfio_pci_liveupdate.ko", &plain), ("vfio-pci-liveupdate.ko.gz", &packed)] {
        let mut archive = Archive::new();
        archive.file(&format!("{folder}/extra/{name}"), 0o644, bytes);
        let list =
            b"nvme.license=GPL v2\0nvme.alias=pci:v*d*sv*sd*bc01sc08i02*\0loop.alias=block-major-7-*\0";
        archive.file(&format!("{folder}/modules.builtin.modinfo"), 0o644, list);
        let mut contents = Contents::default();
        contents.look_at_modules(&mut archive.finish().as_slice()).unwrap();
        let found = contents.modules.unwrap();
        assert_eq!(found.abi, BTreeSet::from(["liveupdate.dev/vfio-pci-v2".to_owned()]), "{name}");
        assert_eq!(found.file.unwrap().vermagic.as_deref(), Some("7.3.4-lu2 SMP "));
        let aliases = contents.built_in.unwrap();
        assert_eq!(aliases, BTreeMap::from([("nvme".into(), vec!["pci:v*d*sv*sd*bc01sc08i02*".into()])]));
    }
    let mut archive = Archive::new();
    archive.file(&format!("{folder}/extra/vfio_pci_liveupdate.ko"), 0o644, b"no module");
    let mut contents = Contents::default();
    contents.look_at_modules(&mut archive.finish().as_slice()).unwrap();
    assert!(contents.modules.unwrap().file.is_err());
}

/// A few hundred kilobytes that unpack to more than any module has.
#[test]
fn a_module_that_unpacks_to_more_than_it_may_is_none() {
    let name = "lib/modules/7.3.4-lu2/extra/vfio_pci_liveupdate.ko.gz";
    let packed = |length: u64| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::copy(&mut std::io::repeat(0).take(length), &mut packed).unwrap();
        packed.finish().unwrap()
    };
    let file = |length: u64| {
        let mut archive = Archive::new();
        archive.file(name, 0o644, &packed(length));
        let mut contents = Contents::default();
        contents.look_at_modules(&mut archive.finish().as_slice()).unwrap();
        contents.modules.unwrap().file.unwrap_err()
    };
    let told = file(LARGEST_MODULE + 1);
    assert!(told.contains("more than 268435456 bytes"), "{told}");
    // Within the bound it is unpacked, and then it is no module.
    let told = file(1 << 20);
    assert!(!told.contains("more than"), "{told}");
}
