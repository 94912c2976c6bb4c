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

use super::placed::Placed;
use crate::{Error, Result};

/// How often what may change is looked at again; a kubelet takes a minute.
const REFRESH: Duration = Duration::from_secs(1);
/// A token whose placed nobody says.
const AN_HOUR: i64 = 3600;

/// Writes all volumes and says where they are, by name.
pub(super) async fn mount(placed: &Placed) -> Result<BTreeMap<String, PathBuf>> {
    let mut mounted = BTreeMap::new();
    for volume in placed.spec.volumes.iter().flatten() {
        let folder = match &volume.host_path {
            Some(host) => placed.machine.root().join(host.path.trim_start_matches('/')),
            None => placed.folder.join(&volume.name),
        };
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
    if let Some(source) = &volume.config_map {
        config_map(placed, &source.name, source.items.as_deref(), folder).await?;
    }
    if let Some(source) = &volume.secret {
        secret(placed, source.secret_name.as_deref().unwrap_or_default(), source.items.as_deref(), folder)
            .await?;
    }
    let projected = volume.projected.as_ref().and_then(|projected| projected.sources.as_deref());
    for source in projected.unwrap_or_default() {
        if let Some(source) = &source.config_map {
            config_map(placed, &source.name, source.items.as_deref(), folder).await?;
        }
        if let Some(source) = &source.secret {
            secret(placed, &source.name, source.items.as_deref(), folder).await?;
        }
        if let Some(source) = &source.service_account_token {
            token(placed, source, folder, first).await?;
        }
    }
    Ok(())
}

async fn config_map(placed: &Placed, name: &str, items: Option<&[KeyToPath]>, folder: &Path) -> Result<()> {
    let namespace = placed.pod.namespace().unwrap_or_default();
    let all: Api<ConfigMap> = Api::namespaced(placed.ground.client.clone(), &namespace);
    let found = all.get(name).await.map_err(Error::api(format!("mount ConfigMap {namespace}/{name}")))?;
    let data = found.data.unwrap_or_default();
    let files = data.iter().map(|(key, text)| (key.as_str(), text.as_bytes()));
    write_all(folder, items, files)
}

async fn secret(placed: &Placed, name: &str, items: Option<&[KeyToPath]>, folder: &Path) -> Result<()> {
    let namespace = placed.pod.namespace().unwrap_or_default();
    let all: Api<Secret> = Api::namespaced(placed.ground.client.clone(), &namespace);
    let found = all.get(name).await.map_err(Error::api(format!("mount Secret {namespace}/{name}")))?;
    let data = found.data.unwrap_or_default();
    write_all(folder, items, data.iter().map(|(key, bytes)| (key.as_str(), bytes.0.as_slice())))
}

fn write_all<'a>(
    folder: &Path,
    items: Option<&[KeyToPath]>,
    files: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<()> {
    for (key, bytes) in files {
        let place = match items {
            None => Some(key),
            Some(items) => items.iter().find(|item| item.key == key).map(|item| item.path.as_str()),
        };
        if let Some(place) = place {
            write(&folder.join(place), bytes)?;
        }
    }
    Ok(())
}

/// A token of the pod's account, bound to the pod, as a kubelet asks for it; again when most of its placed is over.
async fn token(
    placed: &Placed,
    source: &ServiceAccountTokenProjection,
    folder: &Path,
    first: bool,
) -> Result<()> {
    let (file, seconds) = (folder.join(&source.path), source.expiration_seconds.unwrap_or(AN_HOUR));
    let due = Duration::from_secs(u64::try_from(seconds).unwrap_or_default()).mul_f64(0.8);
    if !first && age(&file).is_some_and(|age| age < due) {
        return Ok(());
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
    write(&file, made.status.map(|status| status.token).unwrap_or_default().as_bytes())
}

/// By renaming: who reads it reads all of it.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let partial = path.with_extension("partial");
    fs::write(&partial, bytes).map_err(Error::file("write", &partial))?;
    fs::rename(&partial, path).map_err(Error::file("write", path))
}

fn age(path: &Path) -> Option<Duration> {
    let changed = fs::metadata(path).ok()?.modified().ok()?;
    SystemTime::now().duration_since(changed).ok()
}
