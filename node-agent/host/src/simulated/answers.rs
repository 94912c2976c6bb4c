//! What holders and devices of a simulated machine answer, and what it takes into custody.

use std::time::Duration;

use liveupdate_node_core::outcome::Reset;

use super::spec::Fault;
use super::state::Machine;
use super::{FactsSpec, wrong};
use crate::{Facts, HostError, ReclaimedDevice, Resumed};

/// A holder's answer to Resume on the kernel that it was quiesced on: nothing happened to its devices but
/// that nobody fed them.
pub(super) fn resumed(machine: &Machine, name: &str) -> Resumed {
    let goes_on = !machine.has(|f| matches!(f, Fault::DoesNotResume { holder } if holder == name));
    let custody = machine.state.to_go_on().flat_map(|c| &c.devices);
    let own = custody.filter(|address| {
        machine.spec.devices.iter().any(|d| d.address == **address && d.holder.as_deref() == Some(name))
    });
    let devices =
        own.map(|address| seen(machine, address, FactsSpec::uninterrupted().facts(goes_on))).collect();
    let result = if goes_on { Ok(()) } else { Err("did not say Resumed".into()) };
    Resumed { holder: name.into(), counter: machine.counter(), devices, result }
}

pub(super) fn seen(machine: &Machine, address: &str, facts: Facts) -> ReclaimedDevice {
    let reset = machine.has(|f| matches!(f, Fault::DeviceReset { address: a } if a == address));
    let reset = if reset { Reset::Detected } else { facts.reset };
    let evidence = if reset == facts.reset { "" } else { "simulated: a reset was seen" };
    ReclaimedDevice { address: address.into(), facts: Facts { reset, ..facts }, evidence: evidence.into() }
}

pub(super) fn vote(machine: &Machine, name: &str, late: bool, deadline: Duration) -> Result<(), String> {
    let of = |fault: &Fault| match fault {
        Fault::VotesNo { holder } if holder == name => Some("refused to be stopped".to_owned()),
        Fault::QuiesceLate { holder } if holder == name => Some(too_late(deadline)),
        _ => None,
    };
    match machine.spec.faults.iter().find_map(of) {
        Some(why) => Err(why),
        None if late => Err(too_late(deadline)),
        None => Ok(()),
    }
}

fn too_late(deadline: Duration) -> String {
    format!("did not answer Quiesce within {} ms", deadline.as_millis())
}

/// All or nothing: whether these devices can be taken into custody.
pub(super) fn check_custody(machine: &Machine, attempt: &str, devices: &[String]) -> Result<(), HostError> {
    if let Some(other) = machine.state.custody.as_ref().filter(|c| c.attempt != attempt) {
        return Err(wrong("preserve", format!("attempt {} has custody", other.attempt)));
    }
    let not = |subject: &str, why: &str| HostError::NotPreserved { subject: subject.into(), why: why.into() };
    let refused =
        |subject: &str| machine.has(|f| matches!(f, Fault::PreserveFails { subject: s } if s == subject));
    for address in devices {
        let device = machine.spec.devices.iter().find(|d| d.address == *address);
        let device = device.ok_or_else(|| HostError::NoSuchDevice { address: address.clone() })?;
        let holder = device.holder.as_deref().ok_or_else(|| not(address, "nobody holds it"))?;
        if device.ceiling.is_none() {
            return Err(not(address, "it is not eligible"));
        }
        if !machine.spec.holders.iter().any(|h| h.name == holder && h.aware) {
            return Err(not(address, &format!("its holder {holder} does not speak the handover protocol")));
        }
        if refused(address) {
            return Err(not(address, "PRESERVE_FD: EOPNOTSUPP"));
        }
    }
    match machine.holders_of(devices).iter().find(|name| refused(name)) {
        Some(name) => Err(not(name, "PRESERVE_FD: EOPNOTSUPP")),
        None => Ok(()),
    }
}
