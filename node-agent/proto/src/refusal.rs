//! Why a call to an agent or to the controller was refused, in one machine-readable word.
//!
//! Each refusal is a `google.rpc.Status` whose details carry an `ErrorInfo` (`reason` is the word, `domain`
//! is [`DOMAIN`]); a malformed message carries a `BadRequest` that names the field, too.

use std::collections::HashMap;

use liveupdate_node_core::fence;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::convert::ConvertError;
use crate::keeper::v1::refusal::Cause;

/// Domain of the reasons.
pub const DOMAIN: &str = "liveupdate.dev";

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $name:ident => $code:ident,)+) => {
        /// Why a call was refused. Nothing changed unless the word says otherwise.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Refusal {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Refusal {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// As it stands in `ErrorInfo.reason`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// The gRPC code that it comes with.
            pub const fn code(self) -> Code {
                match self { $(Self::$name => Code::$code,)+ }
            }
        }
    };
}

refusals! {
    /// A field is missing or makes no sense.
    Malformed => InvalidArgument,
    /// The caller's certificate is not the one that may call.
    WrongPeer => PermissionDenied,
    /// The call is meant for another node, or for this one under another UID.
    WrongNode => FailedPrecondition,
    /// The caller speaks a version that is more than one minor version away.
    VersionSkew => FailedPrecondition,
    /// A newer leadership of the controller has spoken.
    StaleEpoch => FailedPrecondition,
    /// Another cluster speaks; the node must be enrolled again.
    ForeignCluster => FailedPrecondition,
    /// The attempt has ended here; an attempt runs at most once.
    AttemptRepeated => FailedPrecondition,
    /// Another attempt is under way or waits to be confirmed.
    OtherAttempt => FailedPrecondition,
    /// The attempt is past commit: it cannot be undone any more.
    Committed => FailedPrecondition,
    /// The attempt never began here.
    NeverBegan => NotFound,
    /// The attempt has not ended yet.
    NotEnded => FailedPrecondition,
    /// What was asked for does not fit the attempt's state.
    WrongState => FailedPrecondition,
    /// The target is not loaded.
    NotStaged => FailedPrecondition,
    /// The bundle is missing, damaged or not what the target says, or its kernel cannot be loaded.
    BundleUnusable => FailedPrecondition,
    /// A required gate does not pass, or somebody asks for more than the node can give.
    Blocked => FailedPrecondition,
    /// The permission is for another boot, receipt or attempt, or is too long.
    PermissionVoid => FailedPrecondition,
    /// The attempt was aborted while the call waited for it.
    Aborted => Aborted,
    /// The time of the call or of its state ran out.
    DeadlineExceeded => DeadlineExceeded,
    /// The keeper cannot be reached, or answers nonsense.
    KeeperUnreachable => Unavailable,
    /// The machine is going down or has jumped.
    PoweredOff => Unavailable,
    /// An operation on the machine failed.
    HostFailed => Internal,
    /// Too much at a time: try again later.
    Busy => ResourceExhausted,
    /// This version, or the way it was started, does not have it.
    NotBuilt => Unimplemented,
    /// The token is not one that says who its bearer is, here and now. Why is in the controller's log alone.
    TokenRefused => Unauthenticated,
    /// The bearer is known, and is nobody who gets a certificate. Why is in the controller's log alone.
    NotEnrollable => PermissionDenied,
    /// There is no Node of this name with this UID, or no longer.
    NodeUnknown => PermissionDenied,
    /// Another process leads; ask again, and reach that one.
    NotLeading => Unavailable,
    /// What the answer rests on cannot be read now: try again later.
    NotNow => Unavailable,
}

impl Refusal {
    /// The error to answer with.
    pub fn status(self, message: impl Into<String>) -> Status {
        let details = ErrorDetails::with_error_info(self.as_str(), DOMAIN, HashMap::<String, String>::new());
        Status::with_error_details(self.code(), message, details)
    }

    /// The error for a malformed message: which field, and what is wrong with it.
    pub fn malformed(field: &str, why: &str) -> Status {
        Self::bad_field(field, why, format!("{field}: {why}"))
    }

    fn bad_field(field: &str, why: &str, message: String) -> Status {
        let mut details =
            ErrorDetails::with_error_info(Self::Malformed.as_str(), DOMAIN, HashMap::<String, String>::new());
        details.add_bad_request_violation(field, why);
        Status::with_error_details(Self::Malformed.code(), message, details)
    }

    /// The word of an error, when it carries one of ours.
    pub fn of(status: &Status) -> Option<Self> {
        let info = status.get_details_error_info()?;
        (info.domain == DOMAIN)
            .then(|| Self::ALL.iter().copied().find(|word| word.as_str() == info.reason))
            .flatten()
    }
}

/// The keeper's refusal, as the agent's.
impl From<Cause> for Refusal {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::StaleEpoch => Self::StaleEpoch,
            Cause::ForeignCluster => Self::ForeignCluster,
            Cause::WrongNode => Self::WrongNode,
            Cause::AttemptRepeated => Self::AttemptRepeated,
            Cause::OtherAttempt => Self::OtherAttempt,
            Cause::WrongState | Cause::NoReceipt | Cause::Unspecified => Self::WrongState,
            Cause::NoPermission => Self::PermissionVoid,
            Cause::Malformed => Self::Malformed,
            Cause::HostFailed => Self::HostFailed,
            Cause::PoweredOff => Self::PoweredOff,
            Cause::Busy => Self::Busy,
            Cause::Blocked => Self::Blocked,
        }
    }
}

impl From<&fence::Refusal> for Refusal {
    fn from(refusal: &fence::Refusal) -> Self {
        Cause::from(refusal).into()
    }
}

impl From<ConvertError> for Status {
    fn from(error: ConvertError) -> Self {
        let why = error.to_string();
        Refusal::bad_field(error.field(), &why, why.clone())
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Refusal;

    #[test]
    fn every_refusal_survives_the_wire() {
        for word in Refusal::ALL {
            let status = word.status("because");
            assert_eq!(status.code(), word.code());
            assert_eq!(Refusal::of(&status), Some(*word));
        }
    }

    #[test]
    fn an_error_of_somebody_else_carries_no_word() {
        assert_eq!(Refusal::of(&tonic::Status::internal("StaleEpoch")), None);
    }
}
