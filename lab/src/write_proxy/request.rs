//! What a request to the API server is about, read from its method, path and body.

use http::{Method, Uri};
use serde::Deserialize;

/// Kinds of writes, counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WriteClass {
    /// Everything that is kept and is none of the others.
    Object,
    /// Leases of `coordination.k8s.io`.
    Lease,
    /// Events of either group.
    Event,
    /// Kept nowhere: reviews of tokens and rights, and dry runs.
    Question,
}

/// What a write is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) class: WriteClass,
    pub(super) verb: &'static str,
    pub(super) group: String,
    pub(super) resource: String,
    pub(super) subresource: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// The target of a write, or none for a read.
pub(super) fn target(method: &Method, uri: &Uri, body: &[u8]) -> Option<Target> {
    let mut verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => return None,
    };
    let segments: Vec<&str> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
    let (group, rest) = match segments.as_slice() {
        ["api", _version, rest @ ..] => ("", rest),
        ["apis", group, _version, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        // A namespace's own subresources look like a resource inside it.
        ["namespaces", _, "status" | "finalize"] => ("", rest),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        _ => ("", rest),
    };
    let part = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
    let (resource, mut name, subresource) = (part(0), part(1), part(2));
    if name.is_empty() {
        if *method == Method::DELETE {
            verb = "deletecollection";
        } else {
            name = name_in(body);
        }
    }
    let dry_run = uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("dryRun=")));
    let class = match (group, resource.as_str()) {
        _ if dry_run => WriteClass::Question,
        ("authentication.k8s.io" | "authorization.k8s.io", _) => WriteClass::Question,
        ("coordination.k8s.io", "leases") => WriteClass::Lease,
        ("" | "events.k8s.io", "events") => WriteClass::Event,
        _ => WriteClass::Object,
    };
    let (group, namespace) = (group.to_owned(), namespace.to_owned());
    Some(Target { class, verb, group, resource, subresource, namespace, name })
}

/// A created object names itself in its body.
fn name_in(body: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Metadata {
        name: String,
        generate_name: String,
    }
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        metadata: Metadata,
    }
    let metadata = serde_json::from_slice::<Named>(body).map(|named| named.metadata).unwrap_or_default();
    if metadata.name.is_empty() && !metadata.generate_name.is_empty() {
        format!("{}*", metadata.generate_name)
    } else {
        metadata.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &Method, uri: &'static str, body: &str) -> Option<(WriteClass, String)> {
        let target = target(method, &Uri::from_static(uri), body.as_bytes())?;
        let Target { class, verb, group, resource, subresource, namespace, name } = target;
        Some((class, format!("{verb} {group}/{resource}/{subresource} {namespace}/{name}")))
    }

    #[test]
    fn requests_are_told_apart() {
        use WriteClass::{Event, Lease, Object, Question};
        let named = r#"{"metadata":{"name":"x"}}"#;
        let cases = [
            (Method::GET, "/api/v1/nodes/a", "", None),
            (Method::PATCH, "/api/v1/nodes/a?fieldManager=m", "", Some((Object, "patch /nodes/ /a"))),
            (
                Method::POST,
                "/api/v1/namespaces/n/configmaps",
                named,
                Some((Object, "create /configmaps/ n/x")),
            ),
            (Method::POST, "/api/v1/namespaces", named, Some((Object, "create /namespaces/ /x"))),
            (
                Method::PUT,
                "/api/v1/namespaces/n/finalize",
                "",
                Some((Object, "update /namespaces/finalize /n")),
            ),
            (Method::DELETE, "/api/v1/namespaces/n", "", Some((Object, "delete /namespaces/ /n"))),
            (Method::DELETE, "/api/v1/namespaces/n/pods", "", Some((Object, "deletecollection /pods/ n/"))),
            (
                Method::PATCH,
                "/apis/liveupdate.dev/v1alpha1/nodeliveupdates/a/status",
                "",
                Some((Object, "patch liveupdate.dev/nodeliveupdates/status /a")),
            ),
            (
                Method::PUT,
                "/apis/coordination.k8s.io/v1/namespaces/n/leases/l",
                "",
                Some((Lease, "update coordination.k8s.io/leases/ n/l")),
            ),
            (
                Method::POST,
                "/apis/events.k8s.io/v1/namespaces/n/events",
                r#"{"metadata":{"generateName":"e-"}}"#,
                Some((Event, "create events.k8s.io/events/ n/e-*")),
            ),
            (
                Method::PATCH,
                "/api/v1/nodes/a?fieldManager=m&dryRun=All",
                "",
                Some((Question, "patch /nodes/ /a")),
            ),
        ];
        for (method, uri, body, expected) in cases {
            let expected = expected.map(|(class, text)| (class, text.to_owned()));
            assert_eq!(read(&method, uri, body), expected, "{method} {uri}");
        }
    }
}
