use k8s_openapi::api::authentication::v1::UserInfo;
use serde_json::{Value, json};

use super::*;

fn expected() -> Expected {
    Expected { namespace: "lu".into(), service_account: "agent".into(), audience: "lu/enrol".into() }
}

fn base64url(bytes: &[u8]) -> String {
    let value = serde_json::to_value(ByteString(bytes.to_vec())).unwrap();
    value.as_str().unwrap().replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned()
}

fn token(claims: &Value) -> String {
    format!("{}.{}.c2ln", base64url(b"{}"), base64url(claims.to_string().as_bytes()))
}

#[test]
fn a_token_that_is_not_meant_for_us_is_not_worth_a_question() {
    let told = |claims: &Value| super::claims(&token(claims), &expected()).map_err(|refused| refused.reason);
    let sub = "system:serviceaccount:lu:agent";
    assert_eq!(told(&json!({"aud": ["x", "lu/enrol"], "sub": sub, "junk": "\u{3ff}\u{3fe}"})), Ok(()));
    assert_eq!(told(&json!({"aud": "lu/enrol", "sub": sub})), Ok(()));
    for (claims, reason) in [
        (json!({"aud": ["lu/enrol2"], "sub": sub}), Reason::WrongAudience),
        (json!({"sub": sub}), Reason::WrongAudience),
        (json!({"aud": ["lu/enrol"], "sub": "system:serviceaccount:other:agent"}), Reason::WrongNamespace),
        (json!({"aud": ["lu/enrol"], "sub": "system:serviceaccount:lu:agent2"}), Reason::WrongServiceAccount),
        (json!({"aud": ["lu/enrol"], "sub": "system:node:agent"}), Reason::WrongServiceAccount),
        (json!({"aud": ["lu/enrol"]}), Reason::WrongServiceAccount),
        (json!({"aud": 7, "sub": sub}), Reason::TokenMalformed),
        (json!("no claims"), Reason::TokenMalformed),
    ] {
        assert_eq!(told(&claims), Err(reason), "{claims}");
    }
    for junk in ["", "a.b", "a.b.c.d", "a.!!!.c", "a..c"] {
        let refused = super::claims(junk, &expected()).unwrap_err();
        assert_eq!(refused.reason, Reason::TokenMalformed, "{junk:?}");
    }
}

fn review(edit: impl FnOnce(&mut TokenReviewStatus)) -> TokenReviewStatus {
    let extra = [(POD_NAME, "agent-x"), (POD_UID, "p1"), (NODE_NAME, "worker-1"), (NODE_UID, "n1")];
    let mut review = TokenReviewStatus {
        authenticated: Some(true),
        audiences: Some(vec!["lu/enrol".into()]),
        user: Some(UserInfo {
            username: Some("system:serviceaccount:lu:agent".into()),
            extra: Some(extra.map(|(key, value)| (key.to_owned(), vec![value.to_owned()])).into()),
            ..UserInfo::default()
        }),
        error: None,
    };
    edit(&mut review);
    review
}

fn extra(review: &mut TokenReviewStatus) -> &mut BTreeMap<String, Vec<String>> {
    review.user.as_mut().unwrap().extra.as_mut().unwrap()
}

#[test]
fn only_what_the_api_server_vouches_for_counts() {
    let found = bearer(&review(|_| {}), &expected()).unwrap();
    assert_eq!((found.pod.as_str(), found.pod_uid.as_str()), ("agent-x", "p1"));
    let old = bearer(&review(|r| extra(r).retain(|key, _| !key.contains("node"))), &expected()).unwrap();
    assert_eq!((old.node, old.node_uid), (None, None));
    let name = |r: &mut TokenReviewStatus, name: &str| r.user.as_mut().unwrap().username = Some(name.into());
    type Edit = Box<dyn FnOnce(&mut TokenReviewStatus)>;
    let refused: [(Edit, Reason); 9] = [
        (Box::new(|r| r.authenticated = Some(false)), Reason::TokenRejected),
        (Box::new(|r| r.authenticated = None), Reason::TokenRejected),
        (Box::new(|r| r.audiences = None), Reason::WrongAudience),
        (Box::new(|r| r.audiences = Some(vec!["other".into()])), Reason::WrongAudience),
        (Box::new(move |r| name(r, "system:serviceaccount:kube-system:agent")), Reason::WrongNamespace),
        (Box::new(move |r| name(r, "system:serviceaccount:lu:controller")), Reason::WrongServiceAccount),
        (Box::new(|r| r.user = None), Reason::WrongServiceAccount),
        (Box::new(|r| drop(extra(r).remove(POD_UID))), Reason::NoPod),
        (Box::new(|r| extra(r).get_mut(POD_NAME).unwrap().push("agent-y".into())), Reason::NoPod),
    ];
    for (edit, reason) in refused {
        assert_eq!(bearer(&review(edit), &expected()).unwrap_err().reason, reason);
    }
}

fn pod(edit: impl FnOnce(&mut Value)) -> Pod {
    let mut pod = json!({
        "metadata": {"name": "agent-x", "uid": "p1", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Other", "name": "o", "uid": "d1"},
            {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": "d1", "controller": true},
        ]},
        "spec": {"nodeName": "worker-1", "containers": []},
    });
    edit(&mut pod);
    serde_json::from_value(pod).unwrap()
}

#[test]
fn only_a_pod_of_our_daemonset_that_is_on_a_node_is_worth_a_certificate() {
    let bearer = bearer(&review(|_| {}), &expected()).unwrap();
    let node = |pod: Option<Pod>, daemonset: Option<&str>| {
        node_of(&bearer, pod.as_ref(), daemonset).map_err(|refused| refused.reason)
    };
    assert_eq!(node(Some(pod(|_| {})), Some("d1")), Ok("worker-1".into()));
    assert_eq!(node(None, Some("d1")), Err(Reason::PodGone));
    assert_eq!(node(Some(pod(|p| p["metadata"]["uid"] = json!("p2"))), Some("d1")), Err(Reason::PodRemade));
    assert_eq!(node(Some(pod(|_| {})), Some("d2")), Err(Reason::ForeignPod));
    assert_eq!(node(Some(pod(|_| {})), None), Err(Reason::ForeignPod));
    let foreign: [fn(&mut Value); 4] = [
        |p| p["metadata"]["ownerReferences"][1]["kind"] = json!("ReplicaSet"),
        |p| p["metadata"]["ownerReferences"][1]["apiVersion"] = json!("apps.example/v1"),
        |p| p["metadata"]["ownerReferences"][1]["controller"] = json!(false),
        |p| p["metadata"]["ownerReferences"] = json!([]),
    ];
    for edit in foreign {
        assert_eq!(node(Some(pod(edit)), Some("d1")), Err(Reason::ForeignPod));
    }
    assert_eq!(
        node(Some(pod(|p| p["spec"]["nodeName"] = json!(null))), Some("d1")),
        Err(Reason::NotScheduled)
    );
    assert_eq!(node(Some(pod(|p| p["spec"]["nodeName"] = json!("b"))), Some("d1")), Err(Reason::WrongNode));
}

#[test]
fn the_certificate_is_for_the_node_that_is_there_now() {
    let bearer = bearer(&review(|_| {}), &expected()).unwrap();
    let found = |uid: Option<&str>| {
        identity(&bearer, "worker-1", uid.map(str::to_owned)).map_err(|refused| refused.reason)
    };
    assert_eq!(found(Some("n1")), Ok(Identity::node("worker-1", "n1")));
    assert_eq!(found(Some("n2")), Err(Reason::NodeRemade));
    assert_eq!(found(None), Err(Reason::NodeGone));
    let old = Bearer { node_uid: None, ..bearer };
    assert_eq!(identity(&old, "worker-1", Some("n2".into())).unwrap(), Identity::node("worker-1", "n2"));
}
