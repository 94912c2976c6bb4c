//! What the decisions rest on, asked of the API server.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::PostParams;
use kube::{Api, Client};
use liveupdate_proto::causes::chain;

use super::decide::{self, Bearer, Expected};
use super::refused::{Reason, Refused};

fn unavailable(what: &str, error: &kube::Error) -> Refused {
    let why = match error {
        kube::Error::Api(status) => status.message.clone(),
        other => chain(other),
    };
    Refused::new(Reason::ApiUnavailable, format!("cannot {what}: {why}"))
}

/// Who the bearer of a token is, if it is one of the expected ones: looked at, and then reviewed by the API
/// server.
pub async fn review(client: &Client, token: &str, expected: &Expected) -> Result<Bearer, Refused> {
    if token.len() > decide::MAX_TOKEN {
        return Err(Refused::new(Reason::TokenTooLarge, format!("the token has {} bytes", token.len())));
    }
    decide::claims(token, expected)?;
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: Some(token.to_owned()),
            audiences: Some(vec![expected.audience.clone()]),
        },
        ..TokenReview::default()
    };
    let reviewed = Api::<TokenReview>::all(client.clone()).create(&PostParams::default(), &review).await;
    let reviewed = reviewed.map_err(|error| unavailable("have the token reviewed", &error))?;
    let status: TokenReviewStatus = reviewed.status.unwrap_or_default();
    decide::bearer(&status, expected)
}

pub(super) async fn pod(client: &Client, namespace: &str, name: &str) -> Result<Option<Pod>, Refused> {
    let found = Api::<Pod>::namespaced(client.clone(), namespace).get_opt(name).await;
    found.map_err(|error| unavailable("read the pod", &error))
}

pub(super) async fn daemonset_uid(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<String>, Refused> {
    let found = Api::<DaemonSet>::namespaced(client.clone(), namespace).get_metadata_opt(name).await;
    let found = found.map_err(|error| unavailable("read the DaemonSet", &error))?;
    Ok(found.and_then(|daemonset| daemonset.metadata.uid))
}

pub(super) async fn node_uid(client: &Client, name: &str) -> Result<Option<String>, Refused> {
    let found = Api::<Node>::all(client.clone()).get_metadata_opt(name).await;
    let found = found.map_err(|error| unavailable("read the Node", &error))?;
    Ok(found.and_then(|node| node.metadata.uid))
}
