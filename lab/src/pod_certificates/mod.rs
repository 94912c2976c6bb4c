//! Pod certificates (Kubernetes 1.37): the API's kind, and a signer as a platform team would run one.
//!
//! ```text
//!  kubelet ──PodCertificateRequest: pod, account, node, UIDs, public key──► API server ◄──watch── signer
//!     ▲                                                                        │                    │
//!     └────────────────── status: chain, when it begins to renew ◄─────────────┴────── patch ───────┘
//! ```
//! The kubelet's end is in [`crate::stand_in`].

mod request;
mod signer;

pub use request::{PodCertificateRequest, PodCertificateSpec, PodCertificateStatus, Verdict, resource};
pub use signer::{SIGNER_NAME, Signer, SignerOptions, TRUST_CONFIG_MAP};
