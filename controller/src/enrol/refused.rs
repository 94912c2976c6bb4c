//! Why somebody gets no certificate: one exact word for the log, and a coarser one for whoever asked.

use liveupdate_proto::refusal::Refusal;
use tonic::Status;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $word:ident,)+) => {
        /// Why, as it stands in the log.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// As it stands in the log.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What the other side is told.
            pub const fn word(self) -> Refusal {
                match self { $(Self::$name => Refusal::$word,)+ }
            }
        }
    };
}

reasons! {
    /// The token is larger than any token.
    TokenTooLarge => Malformed,
    /// The certificate request is larger than any that we understand.
    RequestTooLarge => Malformed,
    /// The certificate request is none, or is not signed with its own key.
    RequestUnusable => Malformed,
    /// The token is no service account token.
    TokenMalformed => TokenRefused,
    /// The token is meant for somebody else.
    WrongAudience => TokenRefused,
    /// The token is of an account in another namespace.
    WrongNamespace => NotEnrollable,
    /// The token is of another account of our namespace.
    WrongServiceAccount => NotEnrollable,
    /// The API server does not accept the token: it is forged, has run out, or its pod or account is gone.
    TokenRejected => TokenRefused,
    /// The token is bound to no pod.
    NoPod => NotEnrollable,
    /// The pod is gone.
    PodGone => NotEnrollable,
    /// Another pod has the name now.
    PodRemade => NotEnrollable,
    /// The pod is not one of our DaemonSet's.
    ForeignPod => NotEnrollable,
    /// The pod is on no node.
    NotScheduled => NotEnrollable,
    /// The token was made on another node than the pod is on.
    WrongNode => NotEnrollable,
    /// The Node object is gone.
    NodeGone => NodeUnknown,
    /// The token was made on a node that had the name before.
    NodeRemade => NodeUnknown,
    /// Too many ask at a time.
    TooMany => Busy,
    /// The API server cannot be asked.
    ApiUnavailable => NotNow,
    /// The CA cannot sign now.
    CannotSign => NotNow,
    /// Certificates are given out by somebody else.
    NotBuilt => NotBuilt,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The word.
    pub reason: Reason,
    /// More of it, for the log.
    pub detail: String,
}

impl Refused {
    /// With more of it for the log.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// More came than are answered.
    pub fn too_many() -> Self {
        Self::new(Reason::TooMany, "more requests than may be made at a time")
    }

    /// What the other side is told: enough to know whose fault it is, and nothing about objects that it may not
    /// read.
    pub fn status(&self) -> Status {
        let word = self.reason.word();
        let text = match word {
            // It sent it: it may know what is wrong with it.
            Refusal::Malformed => return word.status(format!("{}: {}", self.reason.as_str(), self.detail)),
            Refusal::TokenRefused => "the token is not accepted for enrolment",
            Refusal::NodeUnknown => "there is no such Node any more",
            Refusal::Busy => "too many ask at a time; try again in a while",
            Refusal::NotNow => "no certificate can be given out now; try again in a while",
            Refusal::NotBuilt => {
                "this controller gives out no certificates (--tls-mode=files): give the agent one in --tls-dir"
            }
            _ => "whoever has this token gets no certificate",
        };
        let hint = if matches!(word, Refusal::Busy | Refusal::NotBuilt) {
            ""
        } else {
            " (the controller's log says why)"
        };
        word.status(format!("{text}{hint}"))
    }
}
