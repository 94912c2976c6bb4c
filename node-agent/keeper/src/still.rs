//! Whether the machine is still as the attempt took it: asked before anything is stopped, again when all is, and at the last
//! moment. Who came since was never asked and is in nobody's custody; who went cannot be handed over.

use liveupdate_host::{Custody, Held, HostError};
use liveupdate_node_core::node::{Attempt, Event, Plan};

use crate::keeper::Keeper;

impl Keeper {
    /// Why the attempt must not go on as it began; none: it may. `stopped`: who was to be stopped has to be gone.
    pub(crate) fn against(&self, attempt: &Attempt, stopped: bool) -> Result<Option<String>, HostError> {
        let changed = self.host.preserved().and_then(|custody| {
            let mut changed = Vec::from_iter(unlike(attempt, custody.as_ref()));
            changed.extend(come_or_gone(attempt, &self.host.held()?, stopped));
            Ok(changed)
        });
        match changed {
            Ok(changed) => Ok((!changed.is_empty()).then(|| changed.join("; "))),
            Err(HostError::PoweredOff) => Err(HostError::PoweredOff),
            // What cannot be seen is no leave to end anybody.
            Err(error) => Ok(Some(format!("it cannot be told who holds what: {error}"))),
        }
    }

    /// Which holders that were to be stopped are there still.
    pub(crate) fn see_stopped(&self) -> Result<Vec<Event>, HostError> {
        let attempt = self.attempt()?;
        let held = match self.host.held() {
            Err(HostError::PoweredOff) => return Err(HostError::PoweredOff),
            // Nothing says then that they run on.
            Err(_) => Held::default(),
            Ok(held) => held,
        };
        let stop = attempt.devices.iter().filter(|device| device.plan == Plan::Stop);
        let still = stop.filter(|device| held.devices.get(&device.address) == Some(&device.holder));
        Ok(vec![Event::StillHeld(still.map(|device| device.address.clone()).collect())])
    }
}

/// What is in custody is not what the attempt took.
fn unlike(attempt: &Attempt, custody: Option<&Custody>) -> Option<String> {
    let wanted: Vec<&String> = attempt.preserved().map(|(device, _)| &device.address).collect();
    let fits = match custody {
        None => attempt.handed_over().is_empty(),
        Some(custody) => {
            !attempt.handed_over().is_empty()
                && custody.attempt == attempt.id
                && custody.devices.len() == wanted.len()
                && wanted.iter().all(|address| custody.devices.contains(address))
        }
    };
    (!fits).then(|| "what is in custody is not what the attempt preserved".to_owned())
}

/// Holders that came or went, and devices that changed hands, since the attempt began.
fn come_or_gone(attempt: &Attempt, held: &Held, stopped: bool) -> Vec<String> {
    let handed_over = attempt.handed_over();
    let to_stop = |name: &String| {
        attempt.devices.iter().any(|device| device.plan == Plan::Stop && device.holder == *name)
    };
    let came = held.holders.iter().filter(|name| !handed_over.contains(*name) && !to_stop(name));
    let came = came.map(|name| {
        format!("{name} has declared itself since the attempt began and is no part of it: begin another")
    });
    let went = handed_over.iter().filter(|name| !held.holders.contains(*name));
    let went = went.map(|name| format!("{name} is to be handed over and has gone"));
    let changed = held.devices.iter().filter_map(|(address, now)| {
        let scoped = attempt.devices.iter().find(|device| device.address == *address);
        let (plan, then) = scoped.map_or((Plan::Leave, ""), |device| (device.plan, device.holder.as_str()));
        match plan {
            Plan::Leave => Some(format!(
                "{address} is held by {now}, and nobody held it when the attempt began: begin another"
            )),
            Plan::Stop if stopped => Some(format!(
                "{now} holds {address} still and was to be stopped: end it by hand, or have it run as a unit \
                 that systemd can stop with nobody else"
            )),
            Plan::Preserve(_) | Plan::Stop if now != then => Some(format!(
                "{address} is held by {now}, and was by {then} when the attempt began: begin another"
            )),
            Plan::Preserve(_) | Plan::Stop => None,
        }
    });
    came.chain(went).chain(changed).collect()
}
