//! The cluster: which one, and reads that say what is missing.

use std::fmt::Debug;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt};
use liveupdate_crds::{LiveUpdate, NodeLiveUpdate};
use serde::de::DeserializeOwned;

use crate::cli::ClusterArgs;
use crate::error::Error;

/// Objects per page of a list: about as much as fits one answer of a few megabytes.
const PAGE: u32 = 500;

/// A client for the cluster that the arguments name.
///
/// # Errors
/// When there is no such cluster in the kubeconfig.
pub async fn connect(args: &ClusterArgs) -> Result<Client, Error> {
    // Fails only when another provider was installed before, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let config = match &args.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(Error::Kubeconfig)?;
            Config::from_custom_kubeconfig(file, &options).await
        }
        None => Config::from_kubeconfig(&options).await,
    }
    .map_err(Error::Kubeconfig)?;
    Client::try_from(config).map_err(|source| Error::Client(Box::new(source)))
}

/// One update.
///
/// # Errors
/// [`Error::NotFound`] when there is none of that name.
pub async fn update(client: &Client, name: &str) -> Result<LiveUpdate, Error> {
    let found = get_opt::<LiveUpdate>(client, name).await?;
    found.ok_or_else(|| Error::NotFound {
        kind: "liveupdate",
        name: name.to_owned(),
        look: "see `kubectl liveupdate status` for those there are",
    })
}

/// One object of a cluster-scoped kind, or none.
///
/// # Errors
/// When the API server refuses, cannot be reached, or has no such kind.
pub async fn get_opt<K>(client: &Client, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let doing = || format!("reading {} {name:?}", K::kind(&()).to_lowercase());
    match Api::<K>::all(client.clone()).get(name).await {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status))
            if status.code == 404 && status.reason == "NotFound" && is_object(&status) =>
        {
            Ok(None)
        }
        Err(source) => Err(failed(doing(), source)),
    }
}

/// All updates.
///
/// # Errors
/// When the API server refuses, cannot be reached, or has no such kind.
pub async fn updates(client: &Client) -> Result<Vec<LiveUpdate>, Error> {
    list(client, "listing liveupdates").await
}

/// All nodes' objects.
///
/// # Errors
/// As [`updates`].
pub async fn nodes(client: &Client) -> Result<Vec<NodeLiveUpdate>, Error> {
    list(client, "listing nodeliveupdates").await
}

async fn list<K>(client: &Client, doing: &str) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api = Api::<K>::all(client.clone());
    let mut params = kube::api::ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = api.list(&params).await.map_err(|source| failed(doing.to_owned(), source))?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    all.sort_by_key(ResourceExt::name_any);
    Ok(all)
}

/// What a failed call becomes: a kind that is not served is told as such.
pub(crate) fn failed(doing: String, source: kube::Error) -> Error {
    match &source {
        kube::Error::Api(status) if status.code == 404 && !is_object(status) => Error::NotInstalled,
        _ => Error::Api { doing, source: Box::new(source) },
    }
}

/// Whether a 404 speaks of an object: that of a kind which is not served names nothing.
fn is_object(status: &kube::core::Status) -> bool {
    status.details.as_ref().is_some_and(|details| !details.name.is_empty())
}
