//! Manifests on a cluster: server-side apply, kinds first, and waiting until they are served.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::discovery::{Scope, pinned_kind};
use kube::{Api, Client, ResourceExt};
use liveupdate_proto::causes::chain;

use crate::wait::{self, Answer};
use crate::{Error, Result};

const FIELD_MANAGER: &str = "liveupdate-lab";
const ESTABLISHED: Duration = Duration::from_secs(30);

/// The product's own manifests: its kinds, the controller's account, rights and admission policies.
pub fn product() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    [root.join("crds/yaml"), root.join("controller/deploy")]
        .into_iter()
        .filter(|folder| folder.is_dir())
        .collect()
}

/// Applies files, and all `.yaml` files of folders by name. Kinds and namespaces go first, whatever
/// file they are in, and are served when this returns. May be repeated.
///
/// # Errors
/// Names the file and document that is malformed or was refused.
pub async fn paths(client: &Client, paths: &[PathBuf]) -> Result<()> {
    let mut documents = Vec::new();
    for path in paths {
        for file in yaml_files(path)? {
            documents.extend(parse(&file)?);
        }
    }
    documents.sort_by_key(|document| rank(&document.object));
    let mut kinds = Vec::new();
    let mut documents = documents.into_iter().peekable();
    while let Some(document) = documents.next_if(|document| rank(&document.object) < OTHERS) {
        if is_kind(&document.object) {
            kinds.push(document.object.name_any());
        }
        apply(client, document).await?;
    }
    for kind in kinds {
        await_established(client, &kind).await?;
    }
    for document in documents {
        apply(client, document).await?;
    }
    Ok(())
}

struct Document {
    path: PathBuf,
    number: usize,
    object: DynamicObject,
}

impl Document {
    fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::Manifest { path: self.path.clone(), document: self.number, reason: reason.into() }
    }
}

const OTHERS: u8 = 2;

fn rank(object: &DynamicObject) -> u8 {
    match object.types.as_ref().map(|types| types.kind.as_str()) {
        Some("CustomResourceDefinition") => 0,
        Some("Namespace") => 1,
        _ => OTHERS,
    }
}

fn is_kind(object: &DynamicObject) -> bool {
    rank(object) == 0
}

fn yaml_files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::file("read", path))? {
        let file = entry.map_err(Error::file("read", path))?.path();
        if file.extension().is_some_and(|extension| extension == "yaml") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn parse(path: &Path) -> Result<Vec<Document>> {
    let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
    let malformed = |document, reason: String| Error::Manifest { path: path.to_owned(), document, reason };
    let values: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(&text).map_err(|error| malformed(1, error.to_string()))?;
    let mut documents = Vec::new();
    for (index, value) in values.into_iter().enumerate().filter(|(_, value)| !value.is_null()) {
        let number = index + 1;
        let object = serde_json::from_value(value).map_err(|error| malformed(number, error.to_string()))?;
        documents.push(Document { path: path.to_owned(), number, object });
    }
    Ok(documents)
}

async fn apply(client: &Client, document: Document) -> Result<()> {
    let types =
        document.object.types.clone().ok_or_else(|| document.refuse("it has no apiVersion and kind"))?;
    let name = document.object.name_any();
    if name.is_empty() {
        return Err(document.refuse("it has no metadata.name"));
    }
    let kind = kind_of(&types).map_err(|reason| document.refuse(reason))?;
    let (resource, capabilities) =
        pinned_kind(client, &kind).await.map_err(|error| document.refuse(chain(&error)))?;
    let api: Api<DynamicObject> = match (capabilities.scope, document.object.namespace()) {
        (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), &namespace, &resource),
        (Scope::Namespaced, None) => Api::default_namespaced_with(client.clone(), &resource),
    };
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch(&name, &params, &Patch::Apply(&document.object)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(document.refuse(chain(&error))),
    }
}

fn kind_of(types: &TypeMeta) -> std::result::Result<GroupVersionKind, String> {
    GroupVersionKind::try_from(types).map_err(|error| error.to_string())
}

async fn await_established(client: &Client, name: &str) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    wait::until(&format!("the establishing of kind {name}"), ESTABLISHED, async || {
        let kind = api.get(name).await.map_err(Error::api(format!("reading the kind {name}")))?;
        let conditions = kind.status.and_then(|status| status.conditions).unwrap_or_default();
        if conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True") {
            return Ok(Answer::Yes(()));
        }
        let said: Vec<_> = conditions.iter().filter_map(|condition| condition.message.as_deref()).collect();
        Ok(Answer::not_yet(said.join("; ")))
    })
    .await
}
