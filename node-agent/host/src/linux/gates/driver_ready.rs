use liveupdate_node_core::gate::{Gate, GateId};

use super::Findings;
use crate::linux::driver::{ABI, Driver, MODULE, PATCHES};

/// The driver is there and speaks our ABI. What the kernel was patched for is told; whether that is enough
/// depends on the device.
pub fn driver_ready(held: bool, driver: &Driver) -> Gate {
    let mut found = Findings::of(GateId::DriverReady, "");
    if !held {
        found.good("nobody holds a VFIO device: no driver is needed");
        return found.gate();
    }
    let at = format!("/sys/module/{MODULE}");
    if !driver.present {
        found.bad(
            format!("{at}: no such folder"),
            format!("load the module {MODULE} before anything opens /dev/liveupdate"),
        );
        return found.gate();
    }
    let other = "load the driver of this release of liveupdate";
    match &driver.abi {
        Ok(Some(abi)) if abi == ABI => found.good(format!("{at}/parameters/abi: {abi}")),
        Ok(Some(abi)) => found.bad(format!("{at}/parameters/abi: {abi}, wanted {ABI}"), other),
        Ok(None) => found.bad(format!("{at}/parameters/abi: no such file"), other),
        Err(error) => found.unknown(error.to_string(), other),
    }
    match &driver.features {
        Ok(Some(features)) => {
            let features: Vec<&str> = features.iter().map(String::as_str).collect();
            found.good(format!("{PATCHES}: {}", features.join(" ")));
        }
        Ok(None) => found.good(format!("{PATCHES}: no such file: the kernel has none of the patches")),
        Err(error) => found.unknown(error.to_string(), "mount /sys"),
    }
    found.gate()
}
