//! The agents' pods, and what a kubelet does for them: tokens of the real API server, and the ConfigMap with the
//! trusted CAs as a mounted file. Pods are made by the real DaemonSet controller and bound by the real
//! scheduler; what runs in them is a simulated node's agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use liveupdate_agent::Enrolment;
use serde_json::json;
use tokio::task::JoinHandle;

use super::{NAMESPACE, Testbed};
use crate::certs::write_secret;
use crate::wait::{self, Answer};
use crate::{Account, Error, Result};

/// Name of the agents' DaemonSet and of their account.
pub const AGENT: &str = "liveupdate-agent";
/// The audience of enrolment.
pub const ENROL: &str = "liveupdate.dev/enrol";
const TRUST: &str = "liveupdate-trust";
const FIELD_MANAGER: &str = "liveupdate-lab";

/// What a token is asked for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Of the account.
    pub namespace: String,
    /// The account.
    pub account: String,
    /// The pod that it is bound to: name and UID.
    pub pod: Option<(String, String)>,
    /// Whom it is for.
    pub audience: String,
}

impl Ask {
    /// What the kubelet asks for an agent's pod.
    pub fn of_agent(pod: &Pod) -> Ask {
        Ask {
            namespace: pod.namespace().unwrap_or_default(),
            account: AGENT.to_owned(),
            pod: Some((pod.name_any(), pod.uid().unwrap_or_default())),
            audience: ENROL.to_owned(),
        }
    }
}

/// The files in a pod, for as long as it lives.
#[derive(Debug)]
pub struct Mounts {
    /// As the agent is told of them.
    pub enrolment: Enrolment,
    refreshing: JoinHandle<()>,
}

impl Drop for Mounts {
    fn drop(&mut self) {
        self.refreshing.abort();
    }
}

impl Testbed {
    /// Makes the agents' account and DaemonSet.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn install_agents(&self) -> Result<DaemonSet> {
        self.service_account(NAMESPACE, AGENT).await?;
        let labels = json!({"app": AGENT});
        let pod = json!({
            "metadata": {"labels": labels},
            "spec": pod_spec(AGENT),
        });
        let daemonset = json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": AGENT, "namespace": NAMESPACE},
            "spec": {"selector": {"matchLabels": labels}, "template": pod},
        });
        let api: Api<DaemonSet> = self.in_namespace(NAMESPACE);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let applied = api.patch(AGENT, &params, &Patch::Apply(daemonset)).await;
        applied.map_err(Error::api("apply the agents' DaemonSet"))
    }

    /// Makes an account.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<()> {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace},
        });
        let api: Api<ServiceAccount> = self.in_namespace(namespace);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let applied = api.patch(name, &params, &Patch::Apply(account)).await;
        applied.map(drop).map_err(Error::api(format!("apply ServiceAccount {namespace}/{name}")))
    }

    /// The API of a namespaced kind, as the administrator.
    pub fn in_namespace<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Waits until the DaemonSet has a pod on a node, other than `not`, and returns it.
    ///
    /// # Errors
    /// When there is none at the deadline.
    pub async fn agent_pod(&self, node: &str, not: Option<&str>, deadline: Duration) -> Result<Pod> {
        let api: Api<Pod> = self.in_namespace(NAMESPACE);
        let params = ListParams::default().labels(&format!("app={AGENT}"));
        wait::until(&format!("an agent's pod on {node}"), deadline, async || {
            let pods = api.list(&params).await.map_err(Error::api("list the agents' pods"))?;
            let mut seen = Vec::new();
            for pod in pods {
                let on = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
                if on == node && pod.uid().as_deref() != not && pod.metadata.deletion_timestamp.is_none() {
                    return Ok(Answer::Yes(pod));
                }
                seen.push(format!("{} on {on:?}", pod.name_any()));
            }
            Ok(Answer::not_yet(format!("{seen:?}")))
        })
        .await
    }

    /// A token of the API server.
    ///
    /// # Errors
    /// When the API server refuses, as it does when a kubelet asks for a pod of another node.
    pub async fn token(&self, asker: &Account, ask: &Ask) -> Result<String> {
        let api: Api<ServiceAccount> = Api::namespaced(self.plane.client(asker)?, &ask.namespace);
        let bound = ask.pod.clone().map(|(name, uid)| BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(name),
            uid: Some(uid),
        });
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![ask.audience.clone()],
                bound_object_ref: bound,
                expiration_seconds: Some(3600),
            },
            ..TokenRequest::default()
        };
        let asked = api.create_token_request(&ask.account, &PostParams::default(), &request).await;
        let answer = asked.map_err(Error::api(format!("ask for a token of {ask:?}")))?;
        Ok(answer.status.map(|status| status.token).unwrap_or_default())
    }

    /// Does for an agent's pod what the kubelet of its node does: asks for its token, under the kubelet's own
    /// account, and keeps the trusted CAs as they are in the ConfigMap.
    ///
    /// # Errors
    /// When the kubelet gets no token, or the files cannot be written.
    pub async fn mount(&self, node: &str, pod: &Pod, deadline: Duration) -> Result<Mounts> {
        let folder = self.plane.run().folder("mounts")?.join(pod.name_any());
        std::fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        let enrolment = Enrolment { token: folder.join("token"), trust: folder.join("ca.crt") };
        let kubelet = Account::kubelet(node);
        // The authorizer hears of the binding a moment later.
        let token = wait::until(&format!("a token for {}", pod.name_any()), deadline, async || {
            match self.token(&kubelet, &Ask::of_agent(pod)).await {
                Ok(token) => Ok(Answer::Yes(token)),
                Err(error) => Ok(Answer::not_yet(liveupdate_proto::causes::chain(&error))),
            }
        })
        .await?;
        write_secret(&enrolment.token, &token)?;
        let refreshing = tokio::spawn(refresh(self.client.clone(), enrolment.trust.clone()));
        Ok(Mounts { enrolment, refreshing })
    }

    /// The CAs that agents are to trust, as they are now; none before the controller's first start.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn trust(&self) -> Result<Option<String>> {
        bundle(&self.client).await
    }
}

/// A pod that runs nothing, as an account, with a token for enrolment as a volume: NodeRestriction lets a kubelet
/// have tokens for the audiences of a pod's volumes alone.
pub fn pod_spec(account: &str) -> serde_json::Value {
    json!({
        "serviceAccountName": account,
        "automountServiceAccountToken": false,
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "agent", "image": "registry.example/liveupdate-agent"}],
        "volumes": [{"name": "enrol", "projected": {"sources": [
            {"serviceAccountToken": {"audience": ENROL, "path": "token"}},
        ]}}],
    })
}

async fn bundle(client: &Client) -> Result<Option<String>> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let found = api.get(TRUST).await.map_err(Error::api("read the trusted CAs"))?;
    Ok(found.data.and_then(|data| data.get("ca.crt").cloned()))
}

async fn refresh(client: Client, path: PathBuf) {
    loop {
        if let Ok(Some(bundle)) = bundle(&client).await
            && let Err(error) = replace(&path, &bundle)
        {
            tracing::warn!("a mounted ConfigMap is not renewed: {error}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let next = path.with_extension("next");
    std::fs::write(&next, text)?;
    std::fs::rename(&next, path)
}
