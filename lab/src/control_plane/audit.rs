//! The API server's audit log: what is written to it, and reading it.

use std::path::Path;

use serde::Deserialize;

use super::Audit;
use crate::{Error, Result};

/// One finished request, or the beginning of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Who asked; the impersonated user where there is one.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource, plural; empty for paths such as `/readyz`.
    pub resource: String,
    /// `status`, …; empty for the object itself.
    pub subresource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Empty for lists.
    pub name: String,
    /// The HTTP status code; 0 when none was sent.
    pub code: u16,
    /// The path and query.
    pub uri: String,
    /// The client program's own word.
    pub user_agent: String,
    /// True for the beginning of a long request (a watch), which has no other entry until its end.
    pub started: bool,
    /// When the request arrived.
    pub received: jiff::Timestamp,
}

impl AuditEntry {
    /// Whether it asked to change something that is kept (reviews are not, nor are dry runs).
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
            && !self.group.ends_with("authentication.k8s.io")
            && !self.group.ends_with("authorization.k8s.io")
            && !self.uri.contains("dryRun=")
    }
}

/// The policy file for a choice, or none when nothing is logged.
pub(super) fn policy(audit: &Audit) -> Option<String> {
    let users = match audit {
        Audit::Off => return None,
        Audit::Everybody => String::new(),
        Audit::Users(users) => {
            // JSON strings are YAML strings, and quote whatever a user name holds.
            let quoted: Vec<String> =
                users.iter().map(|user| serde_json::Value::from(user.as_str()).to_string()).collect();
            format!("\n  users: [{}]", quoted.join(", "))
        }
    };
    Some(format!(
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nomitManagedFields: true\n\
         rules:\n- level: Metadata{users}\n- level: None\n"
    ))
}

/// Reads the whole log. The end of a request reaches the log a moment after its response.
pub(super) fn read(path: &Path) -> Result<Vec<AuditEntry>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        // The API server makes the file with its first entry.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::File { action: "read", path: path.to_owned(), source }),
    };
    // A last line without its end is still being written.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    bytes[..whole]
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let event: Event = serde_json::from_slice(line)
                .map_err(|source| Error::Encoding { what: "the audit log", source: source.into() })?;
            Ok(event.into())
        })
        .collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: User,
    impersonated_user: Option<User>,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    response_status: Option<ResponseStatus>,
    request_received_timestamp: jiff::Timestamp,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

impl From<Event> for AuditEntry {
    fn from(event: Event) -> AuditEntry {
        let object = event.object_ref;
        AuditEntry {
            user: event.impersonated_user.unwrap_or(event.user).username,
            verb: event.verb,
            group: object.api_group,
            resource: object.resource,
            subresource: object.subresource,
            namespace: object.namespace,
            name: object.name,
            code: event.response_status.map_or(0, |status| status.code),
            uri: event.request_uri,
            user_agent: event.user_agent,
            started: event.stage == "ResponseStarted",
            received: event.request_received_timestamp,
        }
    }
}
