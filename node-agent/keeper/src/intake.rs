//! What the agent asks for, as the core knows it. What makes no sense is refused here.

use std::time::Duration;

use liveupdate_host::{Device, Holder, Host};
use liveupdate_node_core::node::{Attempt, Deadlines, Nonce, Plan, ScopedDevice};
use liveupdate_node_core::{Continuity, Target};
use liveupdate_proto::common::v1 as proto;
use liveupdate_proto::keeper::v1::Preserve;

use crate::refusal::Refused;

/// Longest name, id or digest that is taken.
const MAX_WORD: usize = 253;
const MAX_DEVICES: usize = 64;

/// Everything about the attempt that will not change.
pub(crate) fn attempt(
    host: &dyn Host,
    subject: &proto::Subject,
    preserve: &Preserve,
) -> Result<Attempt, Refused> {
    let target = preserve.target.as_ref().ok_or_else(|| Refused::malformed("Preserve has no target"))?;
    for (what, word) in [
        ("attempt", &subject.attempt),
        ("revision", &subject.revision),
        ("node UID", &subject.node_uid),
        ("target.release", &target.release),
        ("target.bundle", &target.bundle),
        ("target.digest", &target.digest),
    ] {
        if word.is_empty() || word.len() > MAX_WORD {
            return Err(Refused::malformed(format!("{what} {word:?} has {} bytes", word.len())));
        }
    }
    let demands = preserve.demands.clone().unwrap_or_default();
    let (all, holders) = (host.devices()?, host.holders()?);
    for address in preserve.preserve.iter().chain(&preserve.stop) {
        if !all.iter().any(|d| d.address == *address) {
            return Err(Refused::malformed(format!("there is no device {address:?} here")));
        }
    }
    if preserve.preserve.len() + preserve.stop.len() > MAX_DEVICES {
        return Err(Refused::malformed(format!("more than {MAX_DEVICES} devices")));
    }
    let devices = all.iter().map(|device| scoped(device, &holders, preserve, &demands));
    Ok(Attempt {
        id: subject.attempt.clone(),
        update: subject.update.clone(),
        revision: subject.revision.clone(),
        target: Target {
            release: target.release.clone(),
            bundle: target.bundle.clone(),
            digest: target.digest.clone(),
        },
        nonce: nonce(&host.random()?).ok_or_else(|| Refused::malformed("no random number"))?,
        boot_id: host.boot_id()?,
        devices: devices.collect::<Result<_, _>>()?,
        holders: memory_holders(&all, &holders),
        acknowledged: demands.acknowledged.iter().cloned().collect(),
        persist: false,
        deadlines: deadlines(demands.deadlines.as_ref()),
    })
}

/// As it comes from the host and through the jump.
pub(crate) fn nonce(hex: &str) -> Option<Nonce> {
    u128::from_str_radix(hex, 16).ok().map(Nonce)
}

fn scoped(
    device: &Device,
    holders: &[Holder],
    preserve: &Preserve,
    demands: &proto::Demands,
) -> Result<ScopedDevice, Refused> {
    let address = &device.address;
    let (kept, stopped) = (preserve.preserve.contains(address), preserve.stop.contains(address));
    let plan = match (&device.holder, kept, stopped) {
        (_, true, true) => {
            return Err(Refused::malformed(format!("device {address} cannot be preserved and stopped")));
        }
        (Some(holder), true, false) => Plan::Preserve(minimum(device, holder, holders, demands)),
        (None, true, false) => {
            return Err(Refused::malformed(format!("nobody holds device {address}: it cannot be preserved")));
        }
        (Some(_), false, true) => Plan::Stop,
        (None, false, _) => Plan::Leave,
        (Some(holder), false, false) => {
            let message = format!("{holder} holds device {address}, which is neither preserved nor stopped");
            return Err(Refused::malformed(message));
        }
    };
    Ok(ScopedDevice {
        address: address.clone(),
        model: format!("{}:{}", device.vendor, device.device),
        holder: device.holder.clone().unwrap_or_default(),
        plan,
    })
}

/// The strictest of platform, team (first rule that matches) and workload.
fn minimum(device: &Device, holder: &str, holders: &[Holder], demands: &proto::Demands) -> Continuity {
    let fits = |want: &str, have: &str| want.is_empty() || want.eq_ignore_ascii_case(have);
    let rule = demands.devices.iter().find(|rule| {
        fits(&rule.vendor, &device.vendor)
            && fits(&rule.device, &device.device)
            && fits(&rule.class, &device.class)
    });
    let team = rule.and_then(|rule| continuity(rule.minimum()));
    let workload = holders.iter().find(|h| h.name == holder).and_then(|h| h.minimum);
    let asked = [continuity(demands.platform_minimum()), team, workload];
    asked.into_iter().flatten().max().unwrap_or(Continuity::Reinitialised)
}

fn continuity(continuity: proto::Continuity) -> Option<Continuity> {
    match continuity {
        proto::Continuity::Unspecified => None,
        proto::Continuity::Reinitialised => Some(Continuity::Reinitialised),
        proto::Continuity::Paused => Some(Continuity::Paused),
        proto::Continuity::Uninterrupted => Some(Continuity::Uninterrupted),
    }
}

/// Aware holders of memory alone; those of devices follow from the devices.
fn memory_holders(devices: &[Device], holders: &[Holder]) -> std::collections::BTreeSet<String> {
    let holds = |name: &str| devices.iter().any(|d| d.holder.as_deref() == Some(name));
    holders.iter().filter(|h| h.aware && !holds(&h.name)).map(|h| h.name.clone()).collect()
}

fn deadlines(asked: Option<&proto::Deadlines>) -> Deadlines {
    let default = Deadlines::default();
    let Some(asked) = asked else { return default };
    let or = |ms: u64, default: Duration| if ms == 0 { default } else { Duration::from_millis(ms) };
    Deadlines {
        preflight: or(asked.preflight_ms, default.preflight),
        stage: or(asked.stage_ms, default.stage),
        preserve: or(asked.preserve_ms, default.preserve),
        quiesce: or(asked.quiesce_ms, default.quiesce),
        reclaim: or(asked.reclaim_ms, default.reclaim),
        ..default
    }
}
