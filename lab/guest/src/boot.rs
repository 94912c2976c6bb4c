//! Bringing a guest up: file systems, modules, the server; then waiting for the dead, as process 1 must.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use liveupdate_host::linux::ticks;
use liveupdate_lab_guest::{
    BIND_PARAMETER, DATA, DATA_PARAMETER, HANGS, MODULES_PARAMETER, NETWORK_PARAMETER, UP,
};
use rustix::mount::MountFlags;
use rustix::process::WaitOptions;

use crate::network;

/// For devices whose drivers come up side by side with us.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Type and place, in the order of mounting.
const MOUNTS: [(&str, &str); 7] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("debugfs", "/sys/kernel/debug"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
];

/// Process 1. When it returns, the kernel panics: that ends the guest with a message that the lab sees.
pub(crate) fn first_process() -> ExitCode {
    // Before anything else: from this line's stamp on, the guest is in userspace.
    println!("{UP}{} {}", rustix::system::uname().release().to_string_lossy(), stamp());
    if std::fs::exists(HANGS).unwrap_or_default() {
        println!("lab-init: hangs, as it was told to by {HANGS}");
        loop {
            std::thread::park();
        }
    }
    match bring_up() {
        Ok(()) => {}
        Err(error) => {
            println!("lab-init: {error}");
            return ExitCode::FAILURE;
        }
    }
    loop {
        // The server is a child, and all that it leaves behind becomes one.
        if rustix::process::wait(WaitOptions::empty()).is_err() {
            println!("lab-init: nothing is left to wait for");
            return ExitCode::FAILURE;
        }
    }
}

/// The CPU's counter, which spans a jump.
pub(crate) fn stamp() -> String {
    format!("ticks={}", ticks::now().unwrap_or_default())
}

fn bring_up() -> Result<(), String> {
    for (kind, place) in MOUNTS {
        // The kernel that watches the driver has no control groups, and no place for them.
        if kind == "cgroup2" && !known(kind) {
            continue;
        }
        std::fs::create_dir_all(place).map_err(|error| format!("cannot create {place}: {error}"))?;
        match rustix::mount::mount(kind, place, kind, MountFlags::empty(), None::<&CStr>) {
            // The shim has mounted it for its keeper.
            Ok(()) | Err(rustix::io::Errno::BUSY) => {}
            Err(error) => return Err(format!("cannot mount {kind} at {place}: {error}")),
        }
    }
    let line = std::fs::read_to_string("/proc/cmdline").map_err(|error| format!("/proc/cmdline: {error}"))?;
    let parameter =
        |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    if let Some(disk) = parameter(DATA_PARAMETER) {
        std::fs::create_dir_all(DATA).map_err(|error| format!("cannot create {DATA}: {error}"))?;
        mount_disk(disk).map_err(|error| format!("cannot mount {disk} at {DATA}: {error}"))?;
    }
    for module in parameter(MODULES_PARAMETER).into_iter().flat_map(|list| list.split(',')) {
        load_module(module)?;
    }
    for device in parameter(BIND_PARAMETER).into_iter().flat_map(|list| list.split(',')) {
        bind(device).map_err(|error| format!("cannot bind {device}: {error}"))?;
    }
    if let Some(network) = parameter(NETWORK_PARAMETER) {
        network::set_up(network).map_err(|error| format!("cannot set up the network {network}: {error}"))?;
    }
    Command::new("/proc/self/exe")
        .arg("serve")
        .env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin")
        .spawn()
        .map_err(|error| format!("cannot start the server: {error}"))?;
    Ok(())
}

/// The kernel has this file system.
fn known(kind: &str) -> bool {
    let all = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    all.lines().any(|line| line.split_whitespace().next_back() == Some(kind))
}

/// `PATH[:PARAMETER]`; `{release}` in it stands for the running kernel's. One that is there already is left alone: the
/// shim may have loaded it.
fn load_module(text: &str) -> Result<(), String> {
    let text = text.replace("{release}", &rustix::system::uname().release().to_string_lossy());
    let (path, parameters) = text.split_once(':').unwrap_or((&text, ""));
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what} module {path}: {error}");
    let module = File::open(path).map_err(|error| failed("open", &error))?;
    let parameters = CString::new(parameters).map_err(|error| failed("load", &error))?;
    match rustix::system::finit_module(&module, &parameters, 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(failed("load", &error)),
    }
}

/// `ADDRESS@DRIVER`
fn bind(text: &str) -> Result<(), std::io::Error> {
    let (address, driver) = text.split_once('@').ok_or(std::io::ErrorKind::InvalidInput)?;
    let device = format!("/sys/bus/pci/devices/{address}");
    std::fs::write(format!("{device}/driver_override"), driver)?;
    // One that is built in was there first, unless that is the one that is meant.
    let bound = std::fs::read_link(format!("{device}/driver"));
    if bound.is_ok_and(|bound| bound.file_name().is_some_and(|bound| bound != driver)) {
        std::fs::write(format!("{device}/driver/unbind"), address)?;
    }
    // Nothing happens to a device that has a driver.
    std::fs::write("/sys/bus/pci/drivers_probe", address)
}

/// Waits a moment for the disk: its driver comes up side by side with us.
fn mount_disk(disk: &str) -> Result<(), rustix::io::Errno> {
    let begun = Instant::now();
    loop {
        match rustix::mount::mount(disk, DATA, "ext4", MountFlags::empty(), None::<&CStr>) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NXIO) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}
