use liveupdate_node_core::gate::{Gate, GateId};

use super::Findings;
use crate::linux::driver::{Driver, ENABLE, MODULE};

/// The driver was opted in. Where nobody holds a device, there is nothing to opt in to; that the update
/// acknowledges the risk is asked where it is judged.
pub fn experimental_opt_in(held: bool, driver: &Driver) -> Gate {
    let mut found = Findings::of(GateId::ExperimentalOptIn, "");
    if !held {
        found.good("nobody holds a VFIO device: there is nothing to opt in to");
        return found.gate();
    }
    let at = format!("/sys/module/{MODULE}/parameters/{ENABLE}");
    let remedy = format!("load {MODULE} with {ENABLE}=1, or write Y to {at}");
    match &driver.enabled {
        Ok(Some(true)) => found.good(format!("{at}: Y")),
        Ok(Some(false)) => found.bad(format!("{at}: N"), remedy),
        Ok(None) => found.bad(format!("{at}: no such file"), remedy),
        Err(error) => found.unknown(error.to_string(), remedy),
    }
    found.gate()
}
