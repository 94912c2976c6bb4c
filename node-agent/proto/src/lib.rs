//! All wire contracts of the product: agent, controller, keeper and handover.
//!
//! The messages are generated from `proto/`; every receiver bounds a message's size before it is
//! parsed. Unknown enum values mean "unknown", which never helps anybody.

macro_rules! package {
    ($name:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"));
    };
}

/// What more than one contract uses.
pub mod common {
    /// Version 1.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        package!("liveupdate.common.v1");
    }
}
/// The agent, as the controller sees it.
pub mod node {
    /// Version 1.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        package!("liveupdate.node.v1");
    }
}
/// The controller, as agents see it.
pub mod controller {
    /// Version 1.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        package!("liveupdate.controller.v1");
    }
}
/// The keeper, as the agent of the same node sees it.
pub mod keeper {
    /// Version 1.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        package!("liveupdate.keeper.v1");
    }
}
/// Between the keeper and holders.
pub mod handover {
    /// Version 1.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        package!("liveupdate.handover.v1");
    }
}

pub mod causes;
pub mod convert;
pub mod frame;
#[cfg(feature = "packets")]
pub mod packets;
#[cfg(feature = "grpc")]
pub mod refusal;
#[cfg(feature = "tls")]
pub mod tls;

/// Descriptors of all packages, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Minor version of the contracts that this build speaks; one less and one more are accepted.
pub const MINOR_VERSION: u32 = 1;

/// Whether a peer of that minor version is understood.
pub const fn understands(minor_version: u32) -> bool {
    minor_version.abs_diff(MINOR_VERSION) <= 1
}

/// Largest message on any gRPC call and on the keeper's socket, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;
