//! `podCertificate` sources of projected volumes, as a kubelet's manager of pod certificates serves them.
//!
//! ```text
//!  nothing ──key, request──► asked ──issued──► held ──beginRefreshAt──► held, asked ──issued──► held
//!                              └──denied, failed──► refused for good, by this pod
//! ```
//! It asks with the rights of a kubelet of the pod's node: the API server refuses what another one could say. Known of a
//! pod until it ends or its machine boots, as a kubelet remembers nothing over its own restart. Kubelets renew up to five
//! minutes late, at random; this one does so early, by as much as it was told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, Volume, VolumeProjection};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, ResourceExt};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use serde::Deserialize;
use serde_json::Value;

use super::credential::{Asked, Credential, Held, Place};
use super::placed::Placed;
use super::publish::Payload;
use crate::pod_certificates::{PodCertificateRequest, PodCertificateSpec, Verdict, resource};
use crate::{Error, Result};

const POLL: Duration = Duration::from_millis(50);
/// Until a pod that waits for its signer looks whether it is to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// The source, which the API's types here are too old for.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    signer_name: String,
    key_type: String,
    max_expiration_seconds: Option<i32>,
    credential_bundle_path: Option<String>,
    key_path: Option<String>,
    certificate_chain_path: Option<String>,
    #[serde(default)]
    user_annotations: BTreeMap<String, String>,
}

/// Adds keys and chains of a volume's sources; at a pod's start it waits for them.
pub(super) async fn add(placed: &Placed, volume: &Volume, first: bool, payload: &mut Payload) -> Result<()> {
    for (index, source) in sources(placed, volume).await? {
        let place = (volume.name.clone(), index);
        let begun = Instant::now();
        let held = loop {
            if let Some(held) = step(placed, &place, &source).await? {
                break held;
            }
            if !first || begun.elapsed() > PATIENCE {
                return Err(fail(placed, format!("{} has not signed yet", source.signer_name)));
            }
            tokio::time::sleep(POLL).await;
        };
        if let Some(path) = source.credential_bundle_path.filter(|path| !path.is_empty()) {
            payload.insert(path, format!("{}{}", held.key, held.chain).into_bytes());
        }
        if let Some(path) = source.key_path.filter(|path| !path.is_empty()) {
            payload.insert(path, held.key.into_bytes());
        }
        if let Some(path) = source.certificate_chain_path.filter(|path| !path.is_empty()) {
            payload.insert(path, held.chain.into_bytes());
        }
    }
    Ok(())
}

/// The sources of a volume, read from the pod as it is: what our types do not know is lost in them.
async fn sources(placed: &Placed, volume: &Volume) -> Result<Vec<(usize, Source)>> {
    let known = volume.projected.as_ref().and_then(|projected| projected.sources.as_deref());
    if !known.unwrap_or_default().contains(&VolumeProjection::default()) {
        return Ok(Vec::new());
    }
    let kind = ApiResource::erase::<Pod>(&());
    let (namespace, name) = (placed.pod.namespace().unwrap_or_default(), placed.pod.name_any());
    let pods: Api<DynamicObject> = Api::namespaced_with(placed.machine.client(), &namespace, &kind);
    let pod = pods.get(&name).await.map_err(Error::api(format!("read pod {namespace}/{name}")))?;
    let volumes = pod.data["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    let found = volumes.iter().find(|found| found["name"] == volume.name.as_str()).unwrap_or(&Value::Null);
    let mut sources = Vec::new();
    for (index, source) in found["projected"]["sources"].as_array().into_iter().flatten().enumerate() {
        if let Some(source) = source.get("podCertificate") {
            let source = Source::deserialize(source);
            sources.push((index, source.map_err(|error| fail(placed, format!("podCertificate: {error}")))?));
        }
    }
    Ok(sources)
}

/// Does what is to be done next, and says what there is.
async fn step(placed: &Placed, place: &Place, source: &Source) -> Result<Option<Held>> {
    let mut credential = placed.certificates.get(place);
    if let Some(why) = credential.refused {
        return Err(fail(placed, why));
    }
    if let Some(asked) = credential.asked.clone() {
        match look(placed, &asked.request).await? {
            Verdict::Pending => {}
            Verdict::Refused { why } => credential.refused = Some(why),
            Verdict::Issued { chain, begin_refresh_at } => {
                credential = Credential::default();
                credential.held = Some(Held { key: asked.key, chain, begin_refresh_at });
            }
        }
    } else if credential.held.as_ref().is_none_or(|held| due(placed, held)) {
        credential.asked = Some(ask(placed, source).await?);
    }
    placed.certificates.set(place, credential.clone());
    Ok(credential.held)
}

fn due(placed: &Placed, held: &Held) -> bool {
    let early = i64::try_from(placed.ground.settings.certificates_early.as_secs()).unwrap_or_default();
    Timestamp::now().as_second() >= held.begin_refresh_at - early
}

fn requests(placed: &Placed) -> Api<PodCertificateRequest> {
    let namespace = placed.pod.namespace().unwrap_or_default();
    Api::namespaced_with(placed.machine.client(), &namespace, &resource())
}

async fn look(placed: &Placed, request: &str) -> Result<Verdict> {
    let found = requests(placed).get(request).await;
    let found = found.map_err(Error::api(format!("read PodCertificateRequest {request}")))?;
    Ok(found.status.map_or(Verdict::Pending, |status| status.verdict()))
}

async fn ask(placed: &Placed, source: &Source) -> Result<Asked> {
    let (namespace, pod) = (placed.pod.namespace().unwrap_or_default(), placed.pod.name_any());
    let account = placed.spec.service_account_name.clone().unwrap_or_else(|| "default".into());
    let accounts: Api<ServiceAccount> = Api::namespaced(placed.machine.client(), &namespace);
    let found = accounts.get(&account).await;
    let found = found.map_err(Error::api(format!("read account {namespace}/{account}")))?;
    let (key, request) = key_and_request(placed, &source.key_type)?;
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: pod.clone(),
        uid: placed.pod.uid().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let spec = PodCertificateSpec {
        signer_name: source.signer_name.clone(),
        pod_name: pod.clone(),
        pod_uid: placed.pod.uid().unwrap_or_default(),
        service_account_name: account,
        service_account_uid: found.uid().unwrap_or_default(),
        node_name: placed.machine.name().to_owned(),
        node_uid: placed.machine.uid().to_owned(),
        max_expiration_seconds: source.max_expiration_seconds,
        stub_pkcs10_request: ByteString(request),
        unverified_user_annotations: source.user_annotations.clone(),
    };
    let mut wanted = PodCertificateRequest::new("", &resource(), spec);
    wanted.metadata = ObjectMeta {
        generate_name: Some("req-".into()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    let made = requests(placed).create(&PostParams::default(), &wanted).await;
    let made = made.map_err(Error::api(format!("ask for a certificate of pod {namespace}/{pod}")))?;
    Ok(Asked { request: made.name_any(), key })
}

/// A new key, and a request that says nothing but that it is there.
fn key_and_request(placed: &Placed, kind: &str) -> Result<(String, Vec<u8>)> {
    let kind = match kind {
        "ECDSAP256" => &rcgen::PKCS_ECDSA_P256_SHA256,
        "ECDSAP384" => &rcgen::PKCS_ECDSA_P384_SHA384,
        "ED25519" => &rcgen::PKCS_ED25519,
        other => return Err(fail(placed, format!("keys of type {other} cannot be stood in for"))),
    };
    let make = || {
        let key = KeyPair::generate_for(kind)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key)?;
        Ok((key.serialize_pem(), request.der().to_vec()))
    };
    make().map_err(|source| Error::Certificate { subject: placed.pod.name_any(), source })
}

fn fail(placed: &Placed, reason: String) -> Error {
    Error::Pod { pod: placed.pod.name_any(), reason }
}
