//! The module, and devices as sysfs has them.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, DirEntry, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

/// The driver's name in sysfs.
pub(super) const DRIVER: &str = "vfio-pci-liveupdate";
/// Its module's.
const MODULE: &core::ffi::CStr = c"vfio_pci_liveupdate";
/// PCI_COMMAND, and its bit Bus Master.
const COMMAND: u64 = 4;
pub(super) const BUS_MASTER: u16 = 4;

/// Loads the module.
pub(super) fn load(module: &Path, parameters: &str) -> Result<(), Errno> {
    let file = File::open(module).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let parameters = CString::new(parameters).map_err(|_| Errno::INVAL)?;
    rustix::system::finit_module(&file, &parameters, 0)
}

/// Unloads it.
pub(super) fn unload() -> Result<(), Errno> {
    // As rmmod does it: what is in use is refused, not waited for.
    rustix::system::delete_module(MODULE, rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
}

pub(super) fn loaded(module: &Path, parameters: &str) -> Result<(), String> {
    load(module, parameters)
        .map_err(|errno| format!("the module cannot be loaded with {parameters:?}: {errno}"))
}

pub(super) fn unloaded() -> Result<(), String> {
    unload().map_err(|errno| format!("the module cannot be unloaded: {errno}"))
}

fn folder(address: &str) -> PathBuf {
    Path::new("/sys/bus/pci/devices").join(address)
}

fn put(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {text:?} to {}: {error}", path.display()))
}

/// Says which driver a device is for.
pub(super) fn meant_for(address: &str, driver: &str) -> Result<(), String> {
    put(&folder(address).join("driver_override"), driver)
}

/// Gives a device to a driver that it is meant for.
pub(super) fn bind(address: &str, driver: &str) -> Result<(), String> {
    put(&Path::new("/sys/bus/pci/drivers").join(driver).join("bind"), address)
}

/// Gives a device to ours, unless that has it: one that it was meant for before comes with the module.
pub(super) fn take(address: &str) -> Result<(), String> {
    if driver(address).is_some() {
        return Ok(());
    }
    meant_for(address, DRIVER)?;
    bind(address, DRIVER)
}

/// Takes a device away from its driver.
pub(super) fn unbind(address: &str) -> Result<(), String> {
    put(&folder(address).join("driver/unbind"), address)
}

/// Which driver has a device.
pub(super) fn driver(address: &str) -> Option<String> {
    let link = fs::read_link(folder(address).join("driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// Lets the kernel forget a device, as if it were pulled.
pub(super) fn pull(address: &str) -> Result<(), String> {
    put(&folder(address).join("remove"), "1")
}

/// Lets the kernel look for devices.
pub(super) fn rescan() -> Result<(), String> {
    put(Path::new("/sys/bus/pci/rescan"), "1")
}

/// PCI_COMMAND as the device has it.
pub(super) fn command(address: &str) -> Result<u16, String> {
    let path = folder(address).join("config");
    let mut bytes = [0; 2];
    let read = File::open(&path).and_then(|file| file.read_exact_at(&mut bytes, COMMAND));
    read.map(|()| u16::from_le_bytes(bytes))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Its whole configuration space as the device has it.
pub(super) fn config(address: &str) -> Result<Vec<u8>, String> {
    let path = folder(address).join("config");
    fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Turns a device's bus mastering off, past its driver.
pub(super) fn stop(address: &str) -> Result<(), String> {
    let path = folder(address).join("config");
    let value = command(address)? & !BUS_MASTER;
    let file = OpenOptions::new().write(true).open(&path);
    let written = file.and_then(|file| file.write_all_at(&value.to_le_bytes(), COMMAND));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Does something without the right to reach all of memory.
pub(super) fn without_raw_access<T>(during: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let failed = |errno: Errno| format!("capabilities cannot be changed: {errno}");
    let before = rustix::thread::capabilities(None).map_err(failed)?;
    let mut fewer = before;
    fewer.effective.remove(CapabilitySet::SYS_RAWIO);
    rustix::thread::set_capabilities(None, fewer).map_err(failed)?;
    let outcome = during();
    rustix::thread::set_capabilities(None, before).map_err(failed)?;
    outcome
}

/// All that the driver says of a device, by the names of its files.
pub(super) fn all(address: &str) -> Result<BTreeMap<OsString, String>, String> {
    let folder = folder(address).join("liveupdate");
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", folder.display());
    let read = |entry: std::io::Result<DirEntry>| {
        let entry = entry?;
        Ok((entry.file_name(), fs::read_to_string(entry.path())?))
    };
    fs::read_dir(&folder).map_err(failed)?.map(read).collect::<std::io::Result<_>>().map_err(failed)
}

/// How far a device is on its way, having read all else that the driver says of it.
pub(super) fn state(address: &str) -> Result<String, String> {
    let state = all(address)?.remove(OsStr::new("state"));
    Ok(state.unwrap_or_default().trim_end().to_owned())
}

/// How often the driver saw a device reset on its way.
pub(super) fn resets(address: &str) -> Result<u32, String> {
    let resets = all(address)?.remove(OsStr::new("resets")).unwrap_or_default();
    resets.trim_end().parse().map_err(|error| format!("{address} was reset {resets:?} times: {error}"))
}

/// It is so far, and no farther.
pub(super) fn is(address: &str, expected: &str) -> Result<(), String> {
    let state = state(address)?;
    if state == expected { Ok(()) } else { Err(format!("{address} is {state:?} and not {expected:?}")) }
}
