//! A platform's signer: looks at who asks, and writes the names by which controller and agents know each other.
//!
//! It does what docs/install.md asks of such a signer, with the rights that are named there and no others
//! (`manifests/signer.yaml`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use liveupdate_proto::causes::chain;
use liveupdate_proto::tls::Identity;
use serde_json::json;
use tokio::task::JoinHandle;

use super::request::{PodCertificateRequest, PodCertificateSpec, PodCertificateStatus, Verdict, resource};
use crate::certs::{FleetCertificates, Validity};
use crate::{Account, ControlPlane, Error, Result, install};

/// Its name, as `ci/pod-certificate-values.yaml` of the chart has it.
pub const SIGNER_NAME: &str = "platform.example.com/liveupdate";
/// The ConfigMap with its CA, as that file has it.
pub const TRUST_CONFIG_MAP: &str = "platform-liveupdate-ca";
/// Its account in `manifests/signer.yaml`.
const ACCOUNT: &str = "platform-signer";
/// The API allows no shorter one.
const AN_HOUR: u64 = 3600;
/// Before an answer that was not taken is given again.
const AGAIN: Duration = Duration::from_millis(200);
const TRIES: usize = 25;

/// How it signs.
#[derive(Clone, Debug)]
pub struct SignerOptions {
    /// The namespace of the release: accounts elsewhere may have the same names.
    pub namespace: String,
    /// Certificates begin so long before they are made, for clocks that are slow. The API allows less than five minutes.
    pub backdate: Duration,
    /// After its beginning a certificate is renewed. The API allows no less than ten minutes.
    pub renew_after: Duration,
}

/// Signs until it is dropped.
pub struct Signer {
    client: Client,
    office: Arc<Office>,
    watching: JoinHandle<()>,
}

/// What its task shares with whoever has it.
struct Office {
    certificates: FleetCertificates,
    options: SignerOptions,
    /// Nodes for whose agents it writes a wrong name.
    mistakes: Mutex<BTreeMap<String, Identity>>,
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Signer {
    /// Gives the signer's account its rights, and signs from now on.
    ///
    /// # Errors
    /// When there is no CA to be made, or the API server refuses.
    pub async fn start(plane: &ControlPlane, options: SignerOptions) -> Result<Signer> {
        let client = plane.client(&Account::admin())?;
        let rights = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/signer.yaml");
        install::paths(&client, &[rights]).await?;
        let certificates = FleetCertificates::new()?;
        let office = Office { certificates, options, mistakes: Mutex::default() };
        let (office, own) = (Arc::new(office), plane.client(&Account::user(ACCOUNT))?);
        let watching = tokio::spawn(watch(own, Arc::clone(&office)));
        Ok(Signer { client, office, watching })
    }

    /// The CA whose certificates it makes, PEM.
    pub fn authority(&self) -> &str {
        self.office.certificates.authority().certificate_pem()
    }

    /// Makes the ConfigMap with its CA beside the release.
    ///
    /// # Errors
    /// When the API server refuses, or the namespace is not there.
    pub async fn publish(&self) -> Result<()> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.office.options.namespace);
        let map = ConfigMap {
            metadata: ObjectMeta { name: Some(TRUST_CONFIG_MAP.into()), ..ObjectMeta::default() },
            data: Some([("ca.crt".to_owned(), self.authority().to_owned())].into()),
            ..ConfigMap::default()
        };
        let made = maps.create(&PostParams::default(), &map).await;
        made.map(drop).map_err(Error::api(format!("make ConfigMap {TRUST_CONFIG_MAP}")))
    }

    /// From now on the agent of this node gets the name of another.
    pub fn mistake(&self, node: &str, written: Identity) {
        let mut mistakes = self.office.mistakes.lock().unwrap_or_else(PoisonError::into_inner);
        mistakes.insert(node.to_owned(), written);
    }

    /// Everybody gets his own name again.
    pub fn no_mistakes(&self) {
        self.office.mistakes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

async fn watch(client: Client, office: Arc<Office>) {
    let all: Api<PodCertificateRequest> = Api::all_with(client.clone(), &resource());
    let mut events = watcher::watcher(all, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::InitApply(request) | Event::Apply(request)) => {
                let pending =
                    request.status.as_ref().is_none_or(|status| status.verdict() == Verdict::Pending);
                if pending && request.spec.signer_name == SIGNER_NAME {
                    office.answer(&client, &request).await;
                }
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("the watch of requests broke: {}", chain(&error)),
        }
    }
}

impl Office {
    /// A watch tells of a request once: an answer that is not taken is made again, for the time that it is then.
    async fn answer(&self, client: &Client, request: &PodCertificateRequest) {
        let namespace = request.namespace().unwrap_or_default();
        let own: Api<PodCertificateRequest> = Api::namespaced_with(client.clone(), &namespace, &resource());
        for _ in 0..TRIES {
            let status = self.status(&namespace, &request.spec).unwrap_or_else(|why| denied(&why));
            let patch = Patch::Merge(json!({ "status": status }));
            let Err(error) = own.patch_status(&request.name_any(), &PatchParams::default(), &patch).await
            else {
                return;
            };
            tracing::warn!(request = request.name_any(), "an answer was not taken: {}", chain(&error));
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn status(
        &self,
        namespace: &str,
        spec: &PodCertificateSpec,
    ) -> std::result::Result<PodCertificateStatus, String> {
        let owner = owner(&self.options.namespace, namespace, spec)?;
        let mistakes = self.mistakes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let written = match mistakes.get(&spec.node_name) {
            Some(other) if owner != Identity::Controller => other.clone(),
            _ => owner,
        };
        let longest = spec.max_expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let from = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        let from = from.saturating_sub(self.options.backdate.as_secs());
        let (renew, to) = (from + self.options.renew_after.as_secs(), from + longest.unwrap_or(AN_HOUR));
        let asked = &spec.stub_pkcs10_request.0;
        let made = self.certificates.certify(&written, Validity::Between(from, to), asked);
        Ok(PodCertificateStatus {
            conditions: vec![condition("Issued", "Signed", "")],
            certificate_chain: Some(made.map_err(|error| chain(&error))?),
            not_before: Some(time(from)),
            begin_refresh_at: Some(time(renew)),
            not_after: Some(time(to)),
        })
    }
}

/// Whose certificate it is to be: the account says whether the controller's or an agent's, the node which agent's.
fn owner(release: &str, namespace: &str, spec: &PodCertificateSpec) -> std::result::Result<Identity, String> {
    match spec.service_account_name.as_str() {
        "liveupdate-controller" if namespace == release => Ok(Identity::Controller),
        "liveupdate-agent" if namespace == release => Ok(Identity::node(&spec.node_name, &spec.node_uid)),
        other => Err(format!("account {namespace}/{other} is neither the controller's nor the agents'")),
    }
}

fn denied(why: &str) -> PodCertificateStatus {
    PodCertificateStatus {
        conditions: vec![condition("Denied", "NotOurs", why)],
        ..PodCertificateStatus::default()
    }
}

fn condition(kind: &str, reason: &str, message: &str) -> Condition {
    Condition {
        last_transition_time: Time(Timestamp::now()),
        message: message.to_owned(),
        observed_generation: None,
        reason: reason.to_owned(),
        status: "True".to_owned(),
        type_: kind.to_owned(),
    }
}

fn time(second: u64) -> Time {
    let second = i64::try_from(second).unwrap_or(i64::MAX);
    Time(Timestamp::from_second(second).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn asked_by(account: &str) -> PodCertificateSpec {
        PodCertificateSpec {
            signer_name: SIGNER_NAME.into(),
            pod_name: "a".into(),
            pod_uid: "pod".into(),
            service_account_name: account.into(),
            service_account_uid: "account".into(),
            node_name: "hv-01".into(),
            node_uid: "one".into(),
            max_expiration_seconds: None,
            stub_pkcs10_request: ByteString(Vec::new()),
            unverified_user_annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn the_account_of_the_release_says_who_it_is_and_nobody_else_gets_a_name() {
        let owner = |namespace, account| owner("ours", namespace, &asked_by(account));
        assert_eq!(owner("ours", "liveupdate-controller"), Ok(Identity::Controller));
        assert_eq!(owner("ours", "liveupdate-agent"), Ok(Identity::node("hv-01", "one")));
        for (namespace, account) in [
            ("theirs", "liveupdate-controller"),
            ("theirs", "liveupdate-agent"),
            ("ours", "default"),
            ("ours", "liveupdate-uninstall"),
        ] {
            assert!(owner(namespace, account).is_err(), "{namespace}/{account}");
        }
    }
}
