//! What the host says, as the core knows it, and what the wire may not say to a host.

use liveupdate_host as host;
use liveupdate_node_core::verdict;
use liveupdate_proto::common::v1 as common;
use liveupdate_proto::convert::ConvertError;
use liveupdate_proto::node::v1 as node;
use liveupdate_proto::refusal::Refusal;
use tonic::Status;

/// Longest release or bundle name.
const MAX_WORD: usize = 253;

/// A device as it is judged.
pub(crate) fn judged_device(device: &host::Device) -> verdict::Device {
    verdict::Device {
        address: device.address.clone(),
        vendor: device.vendor.clone(),
        device: device.device.clone(),
        class: device.class.clone(),
        holder: device.holder.clone().unwrap_or_default(),
    }
}

/// A holder as it is judged.
pub(crate) fn judged_holder(holder: &host::Holder) -> verdict::Holder {
    verdict::Holder {
        name: holder.name.clone(),
        aware: holder.aware,
        minimum: holder.minimum,
        refuses: holder.refuses,
    }
}

/// A device as it is told, with the ceiling that its own gates leave it.
pub(crate) fn device(device: &host::Device) -> node::Device {
    (&judged_device(device), device.ceiling).into()
}

/// A holder as it is told.
pub(crate) fn holder(holder: &host::Holder) -> node::Holder {
    (&judged_holder(holder)).into()
}

/// A target whose bundle name cannot leave the bundle root and whose digest is one.
pub(crate) fn target(message: Option<&common::Target>) -> Result<host::Target, Status> {
    let message = message.ok_or_else(|| Refusal::malformed("target", "is missing"))?;
    for (field, word) in [("target.release", &message.release), ("target.bundle", &message.bundle)] {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+~".contains(&byte);
        if word.len() > MAX_WORD || word.starts_with('.') || !word.bytes().all(plain) {
            return Err(Refusal::malformed(
                field,
                "must be at most 253 letters, digits, '-', '.', '_', '+', '~', and not begin with '.'",
            ));
        }
    }
    message.try_into().map_err(|error| malformed(&error))
}

/// What the platform and the team ask for.
pub(crate) fn demands(message: Option<&common::Demands>) -> Result<verdict::Demands, Status> {
    let message = message.ok_or_else(|| Refusal::malformed("demands", "is missing"))?;
    message.try_into().map_err(|error| malformed(&error))
}

fn malformed(error: &ConvertError) -> Status {
    let field = match error {
        ConvertError::Missing(field) | ConvertError::Invalid { field, .. } => field,
    };
    Refusal::malformed(field, &error.to_string())
}
