//! The verbs against a fake API server that keeps one update, and a controller that takes what is asked.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests; clippy.toml covers only the tests themselves"
)]

use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use kubectl_liveupdate::cli::{DryRun, VerbOptions};
use kubectl_liveupdate::error::Error;
use kubectl_liveupdate::verbs::{self, Request as Verb};
use liveupdate_crds::verbs as encoding;
use liveupdate_proto::causes::chain;
use serde_json::{Value, json};

/// What the fake API server keeps.
struct Server {
    update: Value,
    node: Option<Value>,
    /// Whether there is a controller that takes verbs.
    controller: bool,
    /// Patches that are still answered with a conflict.
    conflicts: u32,
    /// Patches that came, with their query.
    patches: Vec<(String, Value)>,
}

type Shared = Arc<Mutex<Server>>;

#[expect(clippy::needless_pass_by_value, reason = "json! at every call")]
fn update(status: Value) -> Value {
    let mut all = json!({
        "observedGeneration": 1, "revision": "7f3c9a21d04be68c5512f0a9937e6b1d",
        "counts": {"total": 20, "eligible": 20, "updated": 1},
        "step": {"index": 1, "of": 2, "name": "canary", "target": 1, "reachedAt": "2026-11-23T14:00:00Z"},
        "conditions": [condition("Progressing", "True", "WaitingForApproval")],
    });
    for (key, value) in status.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    json!({
        "apiVersion": "liveupdate.dev/v1alpha1", "kind": "LiveUpdate",
        "metadata": {"name": "gpu", "uid": "u1", "resourceVersion": "7", "generation": 1},
        "spec": {
            "nodeSelector": {},
            "target": {"release": "7.3.5", "bundle": {"name": "b", "digest": "sha256:1"}},
            "strategy": {"steps": [
                {"name": "canary", "nodes": 1, "approval": "Required"},
                {"name": "rest", "nodes": "100%"},
            ]},
        },
        "status": all,
    })
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-11-23T14:00:00Z"})
}

fn failed_node(state: &str, reason: &str) -> Value {
    json!({
        "apiVersion": "liveupdate.dev/v1alpha1", "kind": "NodeLiveUpdate",
        "metadata": {"name": "node-3"}, "spec": {},
        "status": {"state": state, "reason": reason, "revision": "7f3c9a21d04be68c5512f0a9937e6b1d", "update": {"name": "gpu", "uid": "u1"}},
    })
}

fn server(update: Value) -> Shared {
    Arc::new(Mutex::new(Server { update, node: None, controller: true, conflicts: 0, patches: vec![] }))
}

fn client(shared: &Shared) -> Client {
    let shared = Arc::clone(shared);
    let service = tower::service_fn(move |request: Request<Body>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, std::convert::Infallible>(answer(&shared, request).await) }
    });
    Client::new(service, "default")
}

async fn answer(shared: &Shared, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let bytes = body.collect_bytes().await.unwrap();
    let mut server = shared.lock().unwrap();
    let (code, value) = match (parts.method.as_str(), parts.uri.path()) {
        ("GET", "/apis/liveupdate.dev/v1alpha1/liveupdates/gpu") => (200, server.update.clone()),
        ("PATCH", "/apis/liveupdate.dev/v1alpha1/liveupdates/gpu") => {
            let patch: Value = serde_json::from_slice(&bytes).unwrap();
            server.patch(parts.uri.query().unwrap_or_default(), &patch)
        }
        ("GET", "/apis/liveupdate.dev/v1alpha1/nodeliveupdates/node-3") if server.node.is_some() => {
            (200, server.node.clone().unwrap())
        }
        ("GET", path) => {
            let name = path.rsplit('/').next().unwrap();
            (404, status(404, "NotFound", &format!("{name:?} not found"), Some(name)))
        }
        other => panic!("nobody asked for {other:?}"),
    };
    let body = Body::from(serde_json::to_vec(&value).unwrap());
    Response::builder().status(StatusCode::from_u16(code).unwrap()).body(body).unwrap()
}

fn status(code: u16, reason: &str, message: &str, name: Option<&str>) -> Value {
    let details = name.map_or(json!({}), |name| json!({"name": name}));
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": details, "code": code,
    })
}

impl Server {
    fn patch(&mut self, query: &str, patch: &Value) -> (u16, Value) {
        let conflict = self.conflicts > 0;
        if conflict || patch["metadata"]["resourceVersion"] != self.update["metadata"]["resourceVersion"] {
            self.conflicts = self.conflicts.saturating_sub(1);
            self.update["metadata"]["resourceVersion"] = "8".into();
            return (409, status(409, "Conflict", "the object has been modified", Some("gpu")));
        }
        self.patches.push((query.to_owned(), patch.clone()));
        if query.contains("dryRun=All") {
            return (200, self.update.clone());
        }
        for (key, value) in patch["metadata"]["annotations"].as_object().unwrap() {
            if value.is_null() {
                if let Some(annotations) = self.update["metadata"]["annotations"].as_object_mut() {
                    annotations.remove(key);
                }
            } else {
                self.update["metadata"]["annotations"][key] = value.clone();
            }
        }
        if self.controller {
            self.take_verbs();
        }
        (200, self.update.clone())
    }

    fn take_verbs(&mut self) {
        let annotations = serde_json::from_value(self.update["metadata"]["annotations"].clone()).unwrap();
        let echoes: Vec<_> = encoding::parse(&annotations).verbs.iter().map(encoding::echo).collect();
        self.update["status"]["verbs"] = json!(echoes);
    }
}

async fn run(shared: &Shared, verb: Verb) -> Result<String, Error> {
    verbs::run(client(shared), "gpu", &verb, VerbOptions::default()).await
}

async fn refusal(shared: &Shared, verb: Verb) -> String {
    let before = shared.lock().unwrap().patches.len();
    let error = run(shared, verb).await.unwrap_err();
    assert_eq!(shared.lock().unwrap().patches.len(), before, "nothing is written by what is refused");
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
    assert_eq!(error.exit_code(), 1);
    error.to_string()
}

fn approve(step: Option<&str>) -> Verb {
    Verb::Approve { step: step.map(str::to_owned) }
}

fn retry() -> Verb {
    Verb::Retry { node: "node-3".into() }
}

#[tokio::test]
async fn an_approval_is_bound_to_step_and_revision_and_to_what_was_read() {
    let shared = server(update(json!({})));
    let said = run(&shared, approve(None)).await.unwrap();
    assert_eq!(
        said,
        "liveupdate \"gpu\": approve canary taken by the controller\n\
         Step \"rest\" (100% nodes in all) begins now.\n\
         Follow it with: kubectl liveupdate status gpu -w\n"
    );
    let (query, patch) = shared.lock().unwrap().patches[0].clone();
    assert_eq!(
        patch,
        json!({"metadata": {"resourceVersion": "7", "annotations": {"liveupdate.dev/approve": "canary@7f3c9a21d04be68c5512f0a9937e6b1d"}}})
    );
    assert!(query.contains("fieldManager=kubectl-liveupdate"), "{query}");
    assert_eq!(refusal(&shared, approve(None)).await, "step \"canary\" is approved already");
}

#[tokio::test]
async fn an_approval_that_makes_no_sense_is_refused_with_what_would() {
    let shared = server(update(json!({})));
    assert_eq!(
        refusal(&shared, approve(Some("cannary"))).await,
        "there is no step \"cannary\": the steps are canary, rest"
    );
    assert_eq!(
        refusal(&shared, approve(Some("rest"))).await,
        "step \"rest\" needs no approval: it goes on by itself"
    );
    let early = json!({"index": 1, "of": 2, "name": "canary", "target": 3});
    let shared = server(update(json!({"step": early})));
    assert!(refusal(&shared, approve(None)).await.contains("has 1 of 3 nodes"));
    let shared = server(update(json!({"conditions": [condition("Progressing", "True", "Baking")]})));
    assert!(refusal(&shared, approve(None)).await.contains("still baking"));
}

#[tokio::test]
async fn nothing_is_told_to_an_update_that_is_over_unread_or_edited() {
    let over = json!({"finishedAt": "2026-11-23T14:00:00Z", "conditions": [condition("Succeeded", "True", "Completed")]});
    let over = server(update(over));
    for verb in [approve(None), Verb::Abort, Verb::Pause, Verb::Resume] {
        assert!(refusal(&over, verb).await.contains("is over (Completed)"));
    }
    assert_eq!(refusal(&over, Verb::AcceptFailure).await, "there is no failure to accept");
    let unread = server(update(json!({"revision": ""})));
    assert!(refusal(&unread, Verb::Pause).await.contains("no controller has read it"));
    let edited = server(update(json!({"observedGeneration": 0})));
    assert!(refusal(&edited, Verb::Abort).await.contains("was edited"));
}

#[tokio::test]
async fn pause_and_resume_take_each_other_away() {
    let shared = server(update(json!({})));
    assert_eq!(refusal(&shared, Verb::Resume).await, "the update is not paused: there is nothing to resume");
    run(&shared, Verb::Pause).await.unwrap();
    assert!(refusal(&shared, Verb::Pause).await.contains("paused by `hold` already"));
    run(&shared, Verb::Resume).await.unwrap();
    run(&shared, Verb::Pause).await.unwrap();
    let server = shared.lock().unwrap();
    let annotations = server.patches.iter().map(|(_, patch)| &patch["metadata"]["annotations"]);
    let expected = [
        json!({"liveupdate.dev/hold": "7f3c9a21d04be68c5512f0a9937e6b1d", "liveupdate.dev/resume": null}),
        json!({"liveupdate.dev/resume": "7f3c9a21d04be68c5512f0a9937e6b1d", "liveupdate.dev/hold": null}),
        json!({"liveupdate.dev/hold": "7f3c9a21d04be68c5512f0a9937e6b1d", "liveupdate.dev/resume": null}),
    ];
    assert!(annotations.eq(&expected), "{:#?}", server.patches);
}

/// Its failed node stays marked, and other updates wait for that node, until somebody does.
#[tokio::test]
async fn failures_of_a_run_that_ended_can_be_accepted() {
    let ended = json!({"finishedAt": "2026-11-23T14:00:00Z", "failures": 1, "conditions": [condition("Succeeded", "False", "Aborted")]});
    let shared = server(update(ended));
    run(&shared, Verb::AcceptFailure).await.unwrap();
    let server = shared.lock().unwrap();
    let written = &server.update["metadata"]["annotations"]["liveupdate.dev/accept-failure"];
    assert_eq!(*written, "7f3c9a21d04be68c5512f0a9937e6b1d");
}

#[tokio::test]
async fn what_no_verb_can_lift_is_named() {
    let mut spec_paused = update(json!({"conditions": [condition("Paused", "True", "Paused")]}));
    spec_paused["spec"]["paused"] = true.into();
    assert!(refusal(&server(spec_paused), Verb::Resume).await.contains("spec.paused: set it to false"));
    let policy = update(json!({"conditions": [condition("Paused", "True", "PolicyHold")]}));
    assert!(refusal(&server(policy), Verb::Resume).await.contains("liveupdatepolicy/default"));
}

#[tokio::test]
async fn a_node_is_retried_twice_and_the_lists_do_not_grow() {
    let shared = server(update(json!({})));
    assert!(refusal(&shared, retry()).await.contains("there is no node \"node-3\""));
    shared.lock().unwrap().node = Some(failed_node("Updated", "Updated"));
    assert!(refusal(&shared, retry()).await.contains("is Updated (Updated): only a node that failed"));
    shared.lock().unwrap().node = Some(failed_node("Failed", "DidNotReturn"));
    run(&shared, retry()).await.unwrap();
    run(&shared, retry()).await.unwrap();
    let server = shared.lock().unwrap();
    assert_eq!(
        server.update["metadata"]["annotations"]["liveupdate.dev/retry"],
        "node-3@7f3c9a21d04be68c5512f0a9937e6b1d#1"
    );
}

fn release() -> Verb {
    Verb::Release { node: "node-3".into() }
}

#[tokio::test]
async fn what_a_release_gives_up_is_said_and_only_a_quarantined_node_has_any() {
    let shared = server(update(json!({})));
    assert!(refusal(&shared, release()).await.contains("node \"node-3\" has no record"));
    for (state, reason) in [("Failed", "DidNotReturn"), ("Updated", "Updated"), ("Reclaiming", "InProgress")]
    {
        shared.lock().unwrap().node = Some(failed_node(state, reason));
        let said = refusal(&shared, release()).await;
        assert!(
            said.contains(&format!("is {state} ({reason}): only of a node that is Quarantined")),
            "{said}"
        );
    }
    let mut node = failed_node("Failed", "Quarantined");
    node["status"]["message"] = "these holders did not take their files back: vm-b".into();
    node["status"]["devices"] = json!([
        {"address": "0000:01:00.0", "model": "10de:2330", "holder": "vm-a", "outcome": "Paused"},
        {"address": "0000:03:00.0", "model": "10de:2330", "holder": "vm-b", "outcome": "Lost"},
    ]);
    shared.lock().unwrap().node = Some(node);
    let said = run(&shared, release()).await.unwrap();
    assert_eq!(
        said,
        "liveupdate \"gpu\": release node-3 taken by the controller\n\
         What node \"node-3\" kept (these holders did not take their files back: vm-b) is given up: memory and \
         devices of its holders are gone for good, and a holder that comes now starts from nothing. Devices: \
         0000:03:00.0 of vm-b. The node counts as failed and stays what its record says; `kubectl liveupdate \
         retry` lets it be tried again.\n\
         Follow it with: kubectl liveupdate status gpu -w\n"
    );
    let patch = shared.lock().unwrap().patches.pop().unwrap().1;
    assert_eq!(
        patch["metadata"],
        json!({"resourceVersion": "7", "annotations": {"liveupdate.dev/release": "node-3@7f3c9a21d04be68c5512f0a9937e6b1d"}})
    );
}

#[tokio::test]
async fn a_run_that_is_over_still_gives_up_what_its_nodes_keep() {
    let over = json!({"finishedAt": "2026-11-23T14:00:00Z", "conditions": [condition("Succeeded", "True", "CompletedWithSkipped")]});
    let shared = server(update(over));
    // Another target may have found it so: the record says Blocked then.
    shared.lock().unwrap().node = Some(failed_node("Blocked", "Quarantined"));
    assert!(run(&shared, release()).await.unwrap().contains("release node-3 taken"));
    assert!(refusal(&shared, Verb::Skip { node: "node-3".into() }).await.contains("is over"));
}

#[tokio::test]
async fn a_bundle_that_came_up_as_another_kernel_is_not_retried() {
    let shared = server(update(json!({"badTargets": ["sha256:1"]})));
    shared.lock().unwrap().node = Some(failed_node("Failed", "WrongKernel"));
    assert!(refusal(&shared, retry()).await.contains("set spec.target to another one"));
}

#[tokio::test]
async fn failures_are_accepted_only_where_there_are_some() {
    assert_eq!(
        refusal(&server(update(json!({}))), Verb::AcceptFailure).await,
        "there is no failure to accept"
    );
    let shared = server(update(json!({"failures": 2, "acceptedFailures": 1})));
    assert!(run(&shared, Verb::AcceptFailure).await.unwrap().contains("1 failure so far accepted"));
    // With `onBlocked: Fail` the blocked nodes are the failures.
    let spent = json!({
        "type": "Paused", "status": "True", "reason": "FailureBudgetSpent",
        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let shared = server(update(json!({"counts": {"blocked": 2}, "conditions": [spent]})));
    assert!(run(&shared, Verb::AcceptFailure).await.unwrap().contains("2 blocked nodes so far accepted"));
}

#[tokio::test]
async fn a_dry_run_asks_the_server_and_waits_for_nobody() {
    let shared = server(update(json!({})));
    shared.lock().unwrap().controller = false;
    let options = VerbOptions { dry_run: DryRun::Server, no_wait: false };
    let said = verbs::run(client(&shared), "gpu", &Verb::Abort, options).await.unwrap();
    assert_eq!(said, "liveupdate \"gpu\": abort written for revision 7f3c9a21 (server dry run)\n");
    assert!(shared.lock().unwrap().patches[0].0.contains("dryRun=All"));
}

#[tokio::test]
async fn a_conflict_is_read_again_and_too_many_end() {
    let shared = server(update(json!({})));
    shared.lock().unwrap().conflicts = 2;
    run(&shared, Verb::Pause).await.unwrap();
    let stubborn = server(update(json!({})));
    stubborn.lock().unwrap().conflicts = 100;
    assert!(matches!(run(&stubborn, Verb::Pause).await, Err(Error::Conflict { .. })));
    assert!(stubborn.lock().unwrap().patches.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_verb_that_no_controller_takes_is_told_and_not_asked_twice() {
    let shared = server(update(json!({})));
    shared.lock().unwrap().controller = false;
    assert!(matches!(run(&shared, Verb::Abort).await, Err(Error::NotTaken { seconds: 10 })));
    assert!(refusal(&shared, Verb::Abort).await.contains("the controller has not taken it yet"));
    let other = server(update(json!({})));
    other.lock().unwrap().controller = false;
    let options = VerbOptions { dry_run: DryRun::None, no_wait: true };
    let said = verbs::run(client(&other), "gpu", &Verb::Abort, options).await.unwrap();
    assert!(said.contains("not waited for the controller"), "{said}");
}

#[tokio::test]
async fn what_is_not_there_is_told_apart_from_what_is_not_installed() {
    let shared = server(update(json!({})));
    let missing =
        verbs::run(client(&shared), "other", &Verb::Abort, VerbOptions::default()).await.unwrap_err();
    assert_eq!(
        chain(&missing),
        "liveupdate \"other\" not found: see `kubectl liveupdate status` for those there are"
    );
    let bare = tower::service_fn(|_: Request<Body>| async {
        let body = status(404, "NotFound", "the server could not find the requested resource", None);
        let body = Body::from(serde_json::to_vec(&body).unwrap());
        Ok::<_, std::convert::Infallible>(Response::builder().status(404).body(body).unwrap())
    });
    let client = Client::new(bare, "default");
    let error = verbs::run(client, "gpu", &Verb::Abort, VerbOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::NotInstalled), "{error:?}");
}
