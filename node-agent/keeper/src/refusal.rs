//! Requests that change nothing.

use liveupdate_host::HostError;
use liveupdate_node_core::fence;
use liveupdate_proto::convert::ConvertError;
use liveupdate_proto::keeper::v1::{Refusal, Reply, refusal::Cause, reply};

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) cause: Cause,
    pub(crate) message: String,
}

impl Refused {
    pub(crate) fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into() }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(Cause::Malformed, message)
    }

    pub(crate) fn reply(self) -> Reply {
        let refusal = Refusal { cause: self.cause.into(), message: self.message };
        Reply { message: Some(reply::Message::Refusal(refusal)) }
    }
}

impl From<fence::Refusal> for Refused {
    fn from(refusal: fence::Refusal) -> Self {
        Self::new(Cause::from(&refusal), refusal.to_string())
    }
}

impl From<ConvertError> for Refused {
    fn from(error: ConvertError) -> Self {
        Self::malformed(error.to_string())
    }
}

impl From<HostError> for Refused {
    fn from(error: HostError) -> Self {
        let cause = if error == HostError::PoweredOff { Cause::PoweredOff } else { Cause::HostFailed };
        Self::new(cause, error.to_string())
    }
}
