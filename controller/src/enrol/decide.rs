//! Who the bearer of a token is, and which node's certificate that is worth: pure.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use k8s_openapi::api::core::v1::Pod;
use liveupdate_proto::tls::Identity;
use serde::Deserialize;

use super::refused::{Reason, Refused};

/// A token is about 1.5 KiB.
pub(super) const MAX_TOKEN: usize = 16 * 1024;
/// A request for one key is about 300 bytes.
pub(super) const MAX_REQUEST: usize = 8 * 1024;

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE_UID: &str = "authentication.kubernetes.io/node-uid";

/// Whose tokens are good for what.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Of the account, its pods and their DaemonSet.
    pub namespace: String,
    /// The account.
    pub service_account: String,
    /// The audience that the token has to be for.
    pub audience: String,
}

/// The pod that a token is bound to, and the node that it was made on where the token says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod.
    pub pod_uid: String,
    /// Name of the node.
    pub node: Option<String>,
    /// UID of the node.
    pub node_uid: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    aud: Audiences,
    #[serde(default)]
    sub: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

/// Looks at what the token says of itself. Nothing of it is believed; but what is not even meant for us is not
/// worth a question to the API server.
pub(super) fn claims(token: &str, expected: &Expected) -> Result<(), Refused> {
    let malformed = |why: &str| Refused::new(Reason::TokenMalformed, why);
    let payload = match token.split('.').collect::<Vec<_>>().as_slice() {
        [_, payload, _] => *payload,
        _ => return Err(malformed("it is no JSON web token")),
    };
    let claims: Claims = decoded(payload).ok_or_else(|| malformed("its claims cannot be read"))?;
    let audiences = match claims.aud {
        Audiences::One(one) => vec![one],
        Audiences::Many(many) => many,
    };
    if !audiences.contains(&expected.audience) {
        let found = cut(&audiences.join(", "));
        return Err(Refused::new(Reason::WrongAudience, format!("it is for {found:?}")));
    }
    account(&claims.sub, expected)
}

/// The user as the API server names accounts.
fn account(user: &str, expected: &Expected) -> Result<(), Refused> {
    let found = user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let Some((namespace, name)) = found else {
        return Err(Refused::new(Reason::WrongServiceAccount, format!("it is of {:?}", cut(user))));
    };
    if namespace != expected.namespace {
        return Err(Refused::new(
            Reason::WrongNamespace,
            format!("it is of an account in {:?}", cut(namespace)),
        ));
    }
    if name != expected.service_account {
        return Err(Refused::new(
            Reason::WrongServiceAccount,
            format!("it is of the account {:?}", cut(name)),
        ));
    }
    Ok(())
}

/// What others sent is cut before it is logged.
fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

/// Base64 as in URLs, by the type that reads the usual one.
fn decoded<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    let mut usual: String = part
        .chars()
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            other => other,
        })
        .collect();
    while !usual.len().is_multiple_of(4) {
        usual.push('=');
    }
    let ByteString(bytes) = serde_json::from_value(serde_json::Value::String(usual)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Who the API server says that the bearer is.
pub(super) fn bearer(review: &TokenReviewStatus, expected: &Expected) -> Result<Bearer, Refused> {
    if review.authenticated != Some(true) {
        let why = review.error.clone().unwrap_or_else(|| "without a reason".to_owned());
        return Err(Refused::new(Reason::TokenRejected, cut(&why)));
    }
    // Without this, a server that knows no audiences would vouch for tokens that are meant for itself.
    if !review.audiences.iter().flatten().any(|audience| *audience == expected.audience) {
        return Err(Refused::new(Reason::WrongAudience, "the API server does not vouch for our audience"));
    }
    let user = review.user.as_ref();
    account(user.and_then(|user| user.username.as_deref()).unwrap_or_default(), expected)?;
    let extra = |name: &str| one(user.and_then(|user| user.extra.as_ref()), name);
    let (Some(pod), Some(pod_uid)) = (extra(POD_NAME), extra(POD_UID)) else {
        return Err(Refused::new(Reason::NoPod, "it is bound to no pod"));
    };
    Ok(Bearer { pod, pod_uid, node: extra(NODE_NAME), node_uid: extra(NODE_UID) })
}

fn one(extra: Option<&BTreeMap<String, Vec<String>>>, name: &str) -> Option<String> {
    match extra?.get(name)?.as_slice() {
        [one] if !one.is_empty() => Some(one.clone()),
        _ => None,
    }
}

/// The node that the bearer's pod is on, if it is a pod of the DaemonSet with this UID.
pub(super) fn node_of(
    bearer: &Bearer,
    pod: Option<&Pod>,
    daemonset: Option<&str>,
) -> Result<String, Refused> {
    let name = &bearer.pod;
    let pod = pod.ok_or_else(|| Refused::new(Reason::PodGone, format!("pod {name} is gone")))?;
    if pod.metadata.uid.as_ref() != Some(&bearer.pod_uid) {
        return Err(Refused::new(Reason::PodRemade, format!("pod {name} is another one by now")));
    }
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true));
    let ours = owner.is_some_and(|owner| {
        owner.kind == "DaemonSet" && owner.api_version == "apps/v1" && daemonset == Some(owner.uid.as_str())
    });
    if !ours {
        let found = owner.map_or("nobody".to_owned(), |owner| format!("{} {}", owner.kind, owner.name));
        return Err(Refused::new(Reason::ForeignPod, format!("pod {name} is controlled by {found}")));
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty());
    let node = node.ok_or_else(|| Refused::new(Reason::NotScheduled, format!("pod {name} is on no node")))?;
    if bearer.node.as_ref().is_some_and(|claimed| *claimed != node) {
        return Err(Refused::new(
            Reason::WrongNode,
            format!("pod {name} is on {node}, the token on another"),
        ));
    }
    Ok(node)
}

/// Whose certificate it will be. `uid` is that of the Node object, if there is one.
pub(super) fn identity(bearer: &Bearer, node: &str, uid: Option<String>) -> Result<Identity, Refused> {
    let uid = uid.ok_or_else(|| Refused::new(Reason::NodeGone, format!("Node {node} is gone")))?;
    if bearer.node_uid.as_ref().is_some_and(|claimed| *claimed != uid) {
        return Err(Refused::new(Reason::NodeRemade, format!("Node {node} is another one by now")));
    }
    Ok(Identity::node(node, uid))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
