//! What the agent asks for, as the core knows it. What makes no sense is refused here, and what the keeper
//! itself does not find.

use liveupdate_host::{Host, judge};
use liveupdate_node_core::node::{Attempt, Nonce, Plan, ScopedDevice};
use liveupdate_proto::common::v1::Subject;
use liveupdate_proto::convert::{self, ConvertError};
use liveupdate_proto::keeper::v1::{Preserve, refusal::Cause};

use crate::refusal::Refused;

const MAX_DEVICES: usize = 64;

/// Everything about the attempt that will not change.
pub(crate) fn attempt(host: &dyn Host, subject: &Subject, preserve: &Preserve) -> Result<Attempt, Refused> {
    for (field, word) in [
        ("subject.attempt", &subject.attempt),
        ("subject.revision", &subject.revision),
        ("subject.node_uid", &subject.node_uid),
    ] {
        if word.is_empty() {
            return Err(ConvertError::Missing(field).into());
        }
    }
    let target = convert::target(preserve.target.as_ref())?;
    let demands = convert::demands(preserve.demands.as_ref())?;
    let (verdict, _) = judge(host, Some(&target), &demands)?;
    let devices = verdict.scope();
    check_list(&devices, preserve)?;
    if let Some((reason, message)) = verdict.blocked {
        return Err(Refused::new(Cause::Blocked, format!("{}: {message}", reason.as_str())));
    }
    devices.iter().try_for_each(|device| agreed(device, preserve))?;
    Ok(Attempt {
        id: subject.attempt.clone(),
        update: subject.update.clone(),
        revision: subject.revision.clone(),
        target,
        nonce: nonce(&host.random()?).ok_or_else(|| Refused::malformed("no random number"))?,
        boot_id: host.boot_id()?,
        devices,
        holders: verdict.holders,
        acknowledged: demands.acknowledged,
        persist: host.persists(),
        deadlines: convert::deadlines(preserve.demands.as_ref().and_then(|d| d.deadlines.as_ref())),
    })
}

/// As it comes from the host and through the jump.
pub(crate) fn nonce(hex: &str) -> Option<Nonce> {
    u128::from_str_radix(hex, 16).ok().map(Nonce)
}

/// The agent's list names devices that there are, and each once.
fn check_list(devices: &[ScopedDevice], preserve: &Preserve) -> Result<(), Refused> {
    if preserve.preserve.len() + preserve.stop.len() > MAX_DEVICES {
        return Err(Refused::malformed(format!("more than {MAX_DEVICES} devices")));
    }
    for address in preserve.preserve.iter().chain(&preserve.stop) {
        if !devices.iter().any(|device| device.address == *address) {
            return Err(Refused::malformed(format!("there is no device {address:?} here")));
        }
    }
    match preserve.stop.iter().find(|address| preserve.preserve.contains(address)) {
        Some(both) => Err(Refused::malformed(format!("device {both} cannot be preserved and stopped"))),
        None => Ok(()),
    }
}

/// The agent wants done with the device what the demands come to.
fn agreed(device: &ScopedDevice, preserve: &Preserve) -> Result<(), Refused> {
    let address = &device.address;
    let asked = match (preserve.preserve.contains(address), preserve.stop.contains(address)) {
        (true, _) => "preserve it",
        (_, true) => "stop its holder",
        _ => "leave it alone",
    };
    let found = match device.plan {
        Plan::Preserve(_) => "preserve it",
        Plan::Stop => "stop its holder",
        Plan::Leave => "leave it alone",
    };
    if asked == found {
        return Ok(());
    }
    let message =
        format!("device {address}: the agent would {asked}, but the demands come to {found} now: look again");
    Err(Refused::new(Cause::Blocked, message))
}
