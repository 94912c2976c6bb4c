//! Who talks to the API server: user and groups, as a client certificate in a kubeconfig.

use kube::config::{AuthInfo, Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext};
use kube::{Client, Config};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::certs::{Authority, Certificate, Request};
use crate::{Error, Result};

/// A user of the API server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    /// The user name as RBAC sees it.
    pub user: String,
    /// The groups as RBAC sees them; at most two.
    pub groups: Vec<String>,
}

impl Account {
    /// A user in no group.
    pub fn user(user: impl Into<String>) -> Account {
        Account { user: user.into(), groups: Vec::new() }
    }

    /// May do everything.
    pub fn admin() -> Account {
        Account { user: "lab-admin".into(), groups: vec!["system:masters".into()] }
    }

    /// What the API server sees when a pod with this service account talks to it.
    pub fn service_account(namespace: &str, name: &str) -> Account {
        Account {
            user: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")],
        }
    }

    /// A kubelet, bounded by the Node authorizer and NodeRestriction.
    pub fn kubelet(node: &str) -> Account {
        Account { user: format!("system:node:{node}"), groups: vec!["system:nodes".into()] }
    }

    /// Adds a group.
    #[must_use]
    pub fn with_group(mut self, group: impl Into<String>) -> Account {
        self.groups.push(group.into());
        self
    }

    pub(crate) fn identity(&self, authority: &Authority) -> Result<Certificate> {
        if self.groups.len() > 2 {
            // The certificate library keeps one value per attribute type, and there are two ways to
            // spell the organisation's.
            return Err(Error::Account {
                user: self.user.clone(),
                reason: format!("{} groups were asked for and at most two fit", self.groups.len()),
            });
        }
        authority.issue(&Request::client(&self.user).organisations(&self.groups))
    }

    /// A file name that no other account shares.
    pub(crate) fn file_name(&self) -> String {
        let plain = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
        let mut name = plain(&self.user);
        for group in &self.groups {
            name.push('+');
            name.push_str(&plain(group));
        }
        name
    }
}

/// A kubeconfig with everything inside, so that it can be moved.
pub(crate) fn kubeconfig(
    account: &Account,
    server: &str,
    authority_pem: &str,
    identity: &Certificate,
) -> Kubeconfig {
    let name = "liveupdate-lab".to_owned();
    Kubeconfig {
        api_version: Some("v1".into()),
        kind: Some("Config".into()),
        clusters: vec![NamedCluster {
            name: name.clone(),
            cluster: Some(Cluster {
                server: Some(server.to_owned()),
                certificate_authority_data: Some(base64(authority_pem.as_bytes())),
                ..Cluster::default()
            }),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: account.user.clone(),
            auth_info: Some(auth_info(identity)),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: name.clone(),
            context: Some(Context {
                cluster: name.clone(),
                user: Some(account.user.clone()),
                ..Context::default()
            }),
            ..NamedContext::default()
        }],
        current_context: Some(name),
        ..Kubeconfig::default()
    }
}

/// A client that never touches the disk.
pub(crate) fn client(
    account: &Account,
    server: &str,
    authority_pem: &str,
    identity: &Certificate,
) -> Result<Client> {
    let config = || -> std::result::Result<Client, Box<dyn std::error::Error + Send + Sync>> {
        let mut config = Config::new(server.parse()?);
        config.root_cert = Some(vec![CertificateDer::from_pem_slice(authority_pem.as_bytes())?.to_vec()]);
        config.auth_info = auth_info(identity);
        Ok(Client::try_from(config)?)
    };
    config().map_err(|source| Error::Client { user: account.user.clone(), source })
}

fn auth_info(identity: &Certificate) -> AuthInfo {
    AuthInfo {
        client_certificate_data: Some(base64(identity.certificate_pem.as_bytes())),
        client_key_data: Some(base64(identity.key_pem.as_bytes()).into()),
        ..AuthInfo::default()
    }
}

/// Base64 as Kubernetes writes bytes, by the type that already does so for Secrets.
fn base64(bytes: &[u8]) -> String {
    let value = serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec()));
    value.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
