//! Where the CAs are kept: a Secret, and a ConfigMap for those who are to trust them. Both exist beforehand,
//! empty at first, so that the controller needs no right to make Secrets: who may make one in a namespace can
//! get a token of every account in it.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::PostParams;
use kube::{Api, Client};
use liveupdate_proto::causes::chain;

use super::state::Authorities;

/// The key of the Secret.
const AUTHORITIES: &str = "authorities.json";
/// The key of the ConfigMap.
const BUNDLE: &str = "ca.crt";

/// Why the CAs cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is not there.
    #[error("there is no {what}; make an empty one, as the chart and controller/deploy do")]
    Missing {
        /// Kind, namespace and name.
        what: String,
    },
    /// Its content is not ours.
    #[error(
        "{what} cannot be read ({why}); put back what was there, or empty it and have all nodes enrol anew"
    )]
    Unreadable {
        /// Kind, namespace, name and key.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// Somebody else wrote it meanwhile.
    #[error("{what} was changed by another process")]
    Conflict {
        /// Kind, namespace and name.
        what: String,
    },
    /// The API server refuses, or cannot be reached.
    #[error("cannot {verb} {what}: {why}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// Kind, namespace and name.
        what: String,
        /// What it said.
        why: String,
    },
}

/// The Secret and the ConfigMap.
#[derive(Clone)]
pub struct Store {
    client: Client,
    namespace: String,
    secret: String,
    config_map: String,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("secret", &self.name("Secret")).finish_non_exhaustive()
    }
}

/// What is kept, each with the object that it was read from.
#[derive(Debug)]
pub struct Kept {
    /// None before the first start.
    pub authorities: Option<Authorities>,
    secret: Secret,
    config_map: ConfigMap,
}

impl Store {
    /// Both are in `namespace`.
    pub fn new(client: Client, namespace: &str, secret: &str, config_map: &str) -> Self {
        let [namespace, secret, config_map] = [namespace, secret, config_map].map(str::to_owned);
        Self { client, namespace, secret, config_map }
    }

    fn name(&self, kind: &str) -> String {
        let name = if kind == "Secret" { &self.secret } else { &self.config_map };
        format!("{kind} {}/{name}", self.namespace)
    }

    /// Reads both. The ConfigMap comes first: whoever wrote it had written the Secret before, so that the bundle
    /// that follows from the Secret is never older than the one in the ConfigMap.
    ///
    /// # Errors
    /// The API server, or what stands there is not of this product.
    pub async fn read(&self) -> Result<Kept, StoreError> {
        let config_map = Api::<ConfigMap>::namespaced(self.client.clone(), &self.namespace)
            .get_opt(&self.config_map)
            .await
            .map_err(|error| fail(&error, "read", self.name("ConfigMap")))?
            .ok_or_else(|| StoreError::Missing { what: self.name("ConfigMap") })?;
        let secret = Api::<Secret>::namespaced(self.client.clone(), &self.namespace)
            .get_opt(&self.secret)
            .await
            .map_err(|error| fail(&error, "read", self.name("Secret")))?
            .ok_or_else(|| StoreError::Missing { what: self.name("Secret") })?;
        let bytes = secret.data.as_ref().and_then(|data| data.get(AUTHORITIES));
        let authorities = match bytes {
            Some(ByteString(bytes)) => {
                Some(serde_json::from_slice(bytes).map_err(|error| StoreError::Unreadable {
                    what: format!("{}: {AUTHORITIES}", self.name("Secret")),
                    // The library's words may quote what it read, which is a key: the place alone is told.
                    why: format!("line {}, column {}", error.line(), error.column()),
                })?)
            }
            None => None,
        };
        Ok(Kept { authorities, secret, config_map })
    }

    /// Writes the CAs, unless somebody wrote them since they were read.
    ///
    /// # Errors
    /// The API server; somebody else's write among it.
    pub async fn write(&self, kept: &Kept, authorities: &Authorities) -> Result<(), StoreError> {
        let what = self.name("Secret");
        let bytes = serde_json::to_vec(authorities).map_err(|error| StoreError::Api {
            verb: "write",
            what: what.clone(),
            why: error.to_string(),
        })?;
        let mut secret = kept.secret.clone();
        secret.data.get_or_insert_default().insert(AUTHORITIES.to_owned(), ByteString(bytes));
        let api = Api::<Secret>::namespaced(self.client.clone(), &self.namespace);
        let done = api.replace(&self.secret, &PostParams::default(), &secret).await;
        done.map(drop).map_err(|error| fail(&error, "write", what))
    }

    /// Sees to it that the bundle is what is to be trusted, unless somebody wrote it since it was read.
    ///
    /// # Errors
    /// The API server; somebody else's write among it.
    pub async fn publish(&self, kept: &Kept) -> Result<(), StoreError> {
        let Some(authorities) = &kept.authorities else { return Ok(()) };
        let bundle = authorities.bundle();
        let out = kept.config_map.data.as_ref().and_then(|data| data.get(BUNDLE));
        if out == Some(&bundle) {
            return Ok(());
        }
        let mut config_map = kept.config_map.clone();
        config_map.data.get_or_insert_default().insert(BUNDLE.to_owned(), bundle);
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &self.namespace);
        let done = api.replace(&self.config_map, &PostParams::default(), &config_map).await;
        done.map(drop).map_err(|error| fail(&error, "write", self.name("ConfigMap")))
    }
}

fn fail(error: &kube::Error, verb: &'static str, what: String) -> StoreError {
    match error {
        kube::Error::Api(status) if status.code == 409 => StoreError::Conflict { what },
        kube::Error::Api(status) => StoreError::Api { verb, what, why: status.message.clone() },
        other => StoreError::Api { verb, what, why: chain(other) },
    }
}
