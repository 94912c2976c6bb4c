//! What is mounted: each volume as a folder of the run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, KeyToPath, Secret, ServiceAccount, ServiceAccountTokenProjection, Volume,
};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use liveupdate_proto::causes::chain;

use super::certificates;
use super::placed::Placed;
use super::publish::{Payload, publish};
use crate::{Error, Result};

/// How often what may change is looked at again; a kubelet takes a minute.
const REFRESH: Duration = Duration::from_secs(1);
/// A token whose life nobody says.
const AN_HOUR: i64 = 3600;

/// Writes all volumes and says where they are, by name.
pub(super) async fn mount(placed: &Placed) -> Result<BTreeMap<String, PathBuf>> {
    let mut mounted = BTreeMap::new();
    for volume in placed.spec.volumes.iter().flatten() {
        let folder = match &volume.host_path {
            Some(host) => placed.machine.root().join(host.path.trim_start_matches('/')),
            None => placed.folder.join(&volume.name),
        };
        // As a kubelet: what the host was to have already is not made for it.
        let own = volume.host_path.as_ref().is_some_and(|host| host.type_.as_deref() == Some("Directory"));
        if own && !folder.is_dir() {
            let reason = format!("volume {}: the host has no folder {}", volume.name, folder.display());
            return Err(Error::Pod { pod: placed.pod.name_any(), reason });
        }
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        fill(placed, volume, &folder, true).await?;
        mounted.insert(volume.name.clone(), folder);
    }
    Ok(mounted)
}

/// Writes what has changed since.
pub(super) async fn refresh(placed: &Placed, mounted: &BTreeMap<String, PathBuf>) {
    let stamp = placed.folder.join("refreshed");
    if age(&stamp).is_some_and(|age| age < REFRESH) || fs::write(&stamp, "").is_err() {
        return;
    }
    for volume in placed.spec.volumes.iter().flatten() {
        let Some(folder) = mounted.get(&volume.name) else { continue };
        if let Err(error) = fill(placed, volume, folder, false).await {
            tracing::debug!(volume = volume.name, "{}", chain(&error));
        }
    }
}

async fn fill(placed: &Placed, volume: &Volume, folder: &Path, first: bool) -> Result<()> {
    let mut payload = Payload::new();
    if let Some(source) = &volume.config_map {
        config_map(placed, &source.name, source.items.as_deref(), &mut payload).await?;
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        secret(placed, name, source.items.as_deref(), &mut payload).await?;
    } else if let Some(projected) = &volume.projected {
        for source in projected.sources.iter().flatten() {
            if let Some(source) = &source.config_map {
                config_map(placed, &source.name, source.items.as_deref(), &mut payload).await?;
            }
            if let Some(source) = &source.secret {
                secret(placed, &source.name, source.items.as_deref(), &mut payload).await?;
            }
            if let Some(source) = &source.service_account_token {
                let bytes = token(placed, source, &folder.join(&source.path), first).await?;
                payload.insert(source.path.clone(), bytes);
            }
        }
        certificates::add(placed, volume, first, &mut payload).await?;
    } else {
        return Ok(());
    }
    publish(folder, &payload)
}

async fn config_map(
    placed: &Placed,
    name: &str,
    items: Option<&[KeyToPath]>,
    payload: &mut Payload,
) -> Result<()> {
    let namespace = placed.pod.namespace().unwrap_or_default();
    let all: Api<ConfigMap> = Api::namespaced(placed.ground.client.clone(), &namespace);
    let found = all.get(name).await.map_err(Error::api(format!("mount ConfigMap {namespace}/{name}")))?;
    let data = found.data.unwrap_or_default();
    add(payload, items, data.into_iter().map(|(key, text)| (key, text.into_bytes())));
    Ok(())
}

async fn secret(
    placed: &Placed,
    name: &str,
    items: Option<&[KeyToPath]>,
    payload: &mut Payload,
) -> Result<()> {
    let namespace = placed.pod.namespace().unwrap_or_default();
    let all: Api<Secret> = Api::namespaced(placed.ground.client.clone(), &namespace);
    let found = all.get(name).await.map_err(Error::api(format!("mount Secret {namespace}/{name}")))?;
    let data = found.data.unwrap_or_default();
    add(payload, items, data.into_iter().map(|(key, bytes)| (key, bytes.0)));
    Ok(())
}

fn add(payload: &mut Payload, items: Option<&[KeyToPath]>, files: impl Iterator<Item = (String, Vec<u8>)>) {
    for (key, bytes) in files {
        let place = match items {
            None => Some(key),
            Some(items) => items.iter().find(|item| item.key == key).map(|item| item.path.clone()),
        };
        if let Some(place) = place {
            payload.insert(place, bytes);
        }
    }
}

/// A token of the pod's account, bound to the pod, as a kubelet asks for it; again when most of its life is over.
async fn token(
    placed: &Placed,
    source: &ServiceAccountTokenProjection,
    file: &Path,
    first: bool,
) -> Result<Vec<u8>> {
    let seconds = source.expiration_seconds.unwrap_or(AN_HOUR);
    let due = Duration::from_secs(u64::try_from(seconds).unwrap_or_default()).mul_f64(0.8);
    if !first && age(file).is_some_and(|age| age < due) {
        return fs::read(file).map_err(Error::file("read", file));
    }
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: source.audience.clone().into_iter().collect(),
            expiration_seconds: Some(seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: placed.pod.metadata.name.clone(),
                uid: placed.pod.uid(),
            }),
        },
        ..TokenRequest::default()
    };
    let account = placed.spec.service_account_name.as_deref().unwrap_or("default");
    let namespace = placed.pod.namespace().unwrap_or_default();
    let accounts: Api<ServiceAccount> = Api::namespaced(placed.ground.client.clone(), &namespace);
    let made: TokenRequest = accounts
        .create_subresource("token", account, &PostParams::default(), &request)
        .await
        .map_err(Error::api(format!("ask for a token of {namespace}/{account}")))?;
    Ok(made.status.map(|status| status.token).unwrap_or_default().into_bytes())
}

fn age(path: &Path) -> Option<Duration> {
    let changed = fs::metadata(path).ok()?.modified().ok()?;
    SystemTime::now().duration_since(changed).ok()
}
