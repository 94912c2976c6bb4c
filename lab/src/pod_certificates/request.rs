//! `certificates.k8s.io/v1 PodCertificateRequest`, which the API's types here are too old for.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::{ApiResource, GroupVersionKind, Object};
use serde::{Deserialize, Serialize};

/// What a kubelet asks for a pod of its node.
pub type PodCertificateRequest = Object<PodCertificateSpec, PodCertificateStatus>;

/// Where the API server has them.
pub fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("certificates.k8s.io", "v1", "PodCertificateRequest");
    ApiResource::from_gvk_with_plural(&kind, "podcertificaterequests")
}

/// Who asks, for what. The API server has compared it with what it knows when a kubelet asked.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodCertificateSpec {
    /// Who is to sign.
    pub signer_name: String,
    /// The pod that the certificate is mounted into.
    pub pod_name: String,
    /// Its UID.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// The account that it runs as.
    pub service_account_name: String,
    /// The account's UID.
    #[serde(rename = "serviceAccountUID")]
    pub service_account_uid: String,
    /// The node that it is bound to.
    pub node_name: String,
    /// The node's UID.
    #[serde(rename = "nodeUID")]
    pub node_uid: String,
    /// How long the certificate may hold at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_expiration_seconds: Option<i32>,
    /// PKCS#10, DER, without any name in it.
    #[serde(rename = "stubPKCS10Request")]
    pub stub_pkcs10_request: ByteString,
    /// Whatever the pod's author wrote.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unverified_user_annotations: BTreeMap<String, String>,
}

/// What the signer answered.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodCertificateStatus {
    /// `Issued`, `Denied` or `Failed`; one of them at most.
    pub conditions: Vec<Condition>,
    /// PEM, the certificate first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_chain: Option<String>,
    /// As in the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// When the kubelet should ask for the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begin_refresh_at: Option<Time>,
    /// As in the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
}

/// How a request stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody has answered yet.
    Pending,
    /// There is a chain, to be renewed from then on.
    Issued {
        /// PEM.
        chain: String,
        /// Seconds since 1970.
        begin_refresh_at: i64,
    },
    /// There is none and will be none.
    Refused {
        /// Reason and message of the condition.
        why: String,
    },
}

impl PodCertificateStatus {
    /// How the request stands whose status this is.
    pub fn verdict(&self) -> Verdict {
        for condition in &self.conditions {
            match condition.type_.as_str() {
                "Issued" => {
                    let renew = self.begin_refresh_at.as_ref().map(|time| time.0.as_second());
                    let chain = self.certificate_chain.clone().unwrap_or_default();
                    return Verdict::Issued { chain, begin_refresh_at: renew.unwrap_or_default() };
                }
                "Denied" | "Failed" => {
                    let why = format!("{}: {}: {}", condition.type_, condition.reason, condition.message);
                    return Verdict::Refused { why };
                }
                _ => {}
            }
        }
        Verdict::Pending
    }
}
