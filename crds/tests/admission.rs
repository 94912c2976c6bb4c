//! Who may write what, on a real API server with the manifests of `controller/deploy`.
// Helpers of tests are tests, which clippy does not see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use liveupdate_lab::control_plane::Output;
use liveupdate_lab::{Account, ControlPlane, Options};

const NODE: &str = r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1","labels":{"pool":"a"},"annotations":{"others":"1"}},"spec":{"taints":[{"key":"others","effect":"NoSchedule"}]}}"#;

fn controller() -> Account {
    Account::service_account("liveupdate-system", "liveupdate-controller")
}

struct Cluster(ControlPlane);

impl Cluster {
    async fn start() -> Self {
        let manifests = vec![common::path("yaml"), common::path("../controller/deploy")];
        let cluster =
            ControlPlane::start(Options { scheduler: false, manifests, ..Options::default() }).await.unwrap();
        let cluster = Self(cluster);
        cluster.allowed(&Account::admin(), &["apply", "-f", &example()]).await;
        cluster.apply(&Account::admin(), "node.json", NODE, &[]).await;
        cluster.await_policies().await;
        cluster
    }

    /// Policies count a moment after they are made.
    async fn await_policies(&self) {
        let begun = Instant::now();
        let status = [
            "patch",
            "lu",
            "kernel-735",
            "--subresource=status",
            "--dry-run=server",
            "--type=merge",
            "-p",
            r#"{"status":{"state":"x"}}"#,
        ];
        loop {
            let refused = [
                self.patch("node", "n1", r#"{"spec":{"unschedulable":true}}"#).await.is_err(),
                self.run(&Account::admin(), &status).await.code != Some(0),
                self.patch("lu", "kernel-735", r#"{"spec":{"paused":true}}"#).await.is_err(),
            ];
            if refused == [true; 3] {
                return;
            }
            self.patch("lu", "kernel-735", r#"{"spec":{"paused":false}}"#).await.ok();
            self.patch("node", "n1", r#"{"spec":{"unschedulable":null}}"#).await.ok();
            assert!(begun.elapsed() < Duration::from_secs(60), "the admission policies do not work");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn run(&self, account: &Account, args: &[&str]) -> Output {
        self.0.kubectl_as(account, args).await.unwrap()
    }

    async fn allowed(&self, account: &Account, args: &[&str]) {
        let output = self.run(account, args).await;
        assert_eq!(output.code, Some(0), "{} {args:?}: {}", account.user, output.stderr);
    }

    async fn refused(&self, account: &Account, args: &[&str], words: &str) {
        let output = self.run(account, args).await;
        assert_ne!(output.code, Some(0), "{} may {args:?}", account.user);
        assert!(output.stderr.contains(words), "{} {args:?}: {}", account.user, output.stderr);
    }

    async fn apply(&self, account: &Account, name: &str, text: &str, flags: &[&str]) -> Output {
        let file = self.0.run().path().join(name);
        std::fs::write(&file, text).unwrap();
        let file = file.to_string_lossy().into_owned();
        let mut args = vec!["apply", "--server-side", "-f", &file];
        args.extend(flags);
        self.run(account, &args).await
    }

    /// Writes a status whole, as the controller does: kubectl's own ways to write one read it through the
    /// subresource before, which the controller never does and may not.
    async fn write_status(&self, account: &Account, kind: &str, name: &str, status: &str) -> Output {
        let read = self.run(&Account::admin(), &["get", kind, name, "-o", "json"]).await;
        let mut object: serde_json::Value = serde_json::from_str(&read.stdout).unwrap();
        object["status"] = serde_json::from_str(status).unwrap();
        let file = self.0.run().path().join("status.json");
        std::fs::write(&file, object.to_string()).unwrap();
        let path = format!("/apis/liveupdate.dev/v1alpha1/{kind}/{name}/status");
        self.run(account, &["replace", "--raw", &path, "-f", &file.to_string_lossy()]).await
    }

    /// Patches as the controller does: kubectl reads an object before, which the controller never does and may not.
    async fn patch(&self, kind: &str, name: &str, patch: &str) -> Result<(), String> {
        let kind = match kind {
            "node" => GroupVersionKind::gvk("", "v1", "Node"),
            _ => GroupVersionKind::gvk("liveupdate.dev", "v1alpha1", "LiveUpdate"),
        };
        let client = self.0.client(&controller()).unwrap();
        let api: Api<DynamicObject> = Api::all_with(client, &ApiResource::from_gvk(&kind));
        let patch: Patch<serde_json::Value> = match patch.strip_prefix('[') {
            Some(_) => Patch::Json(serde_json::from_str(patch).unwrap()),
            None => Patch::Merge(serde_json::from_str(patch).unwrap()),
        };
        let done = api.patch(name, &PatchParams::default(), &patch).await;
        done.map(drop).map_err(|error| error.to_string())
    }

    async fn patch_node(&self, patch: &str, words: &str) {
        let refused = self.patch("node", "n1", patch).await.unwrap_err();
        assert!(refused.contains(words), "{patch}: {refused}");
    }
}

fn example() -> String {
    common::path("examples/full.yaml").to_string_lossy().into_owned()
}

fn record(owner_uid: &str) -> String {
    format!(
        r#"{{"apiVersion":"liveupdate.dev/v1alpha1","kind":"NodeLiveUpdate","metadata":{{"name":"n1","ownerReferences":[{{"apiVersion":"v1","kind":"Node","name":"n1","uid":"{owner_uid}"}}]}},"spec":{{}}}}"#
    )
}

#[tokio::test]
async fn invariant_7_on_a_node_the_controller_changes_its_own_marks_alone() {
    let cluster = Cluster::start().await;
    let (mark, unmark) = (
        r#"[{"op":"add","path":"/spec/taints/0","value":{"key":"liveupdate.dev/updating","value":"kernel-735","effect":"NoSchedule"}},{"op":"add","path":"/metadata/annotations/liveupdate.dev~1mark","value":"u/a"}]"#,
        r#"[{"op":"remove","path":"/spec/taints/0"},{"op":"remove","path":"/metadata/annotations/liveupdate.dev~1mark"}]"#,
    );
    for patch in [mark, unmark] {
        cluster.patch("node", "n1", patch).await.unwrap();
    }
    cluster.patch_node(r#"{"spec":{"unschedulable":true}}"#, "spec of a Node").await;
    cluster.patch_node(r#"{"spec":{"providerID":"x://y"}}"#, "spec of a Node").await;
    cluster.patch_node(r#"{"spec":{"taints":null}}"#, "any taint but").await;
    cluster
        .patch_node(
            r#"[{"op":"add","path":"/spec/taints/0","value":{"key":"liveupdate.dev/updating","effect":"NoExecute"}}]"#,
            "only have the effect NoSchedule",
        )
        .await;
    cluster
        .patch_node(
            r#"[{"op":"add","path":"/spec/taints/0","value":{"key":"x","effect":"NoSchedule"}}]"#,
            "any taint but",
        )
        .await;
    cluster.patch_node(r#"{"metadata":{"annotations":{"others":null}}}"#, "any annotation but").await;
    cluster.patch_node(r#"{"metadata":{"annotations":{"more":"1"}}}"#, "any annotation but").await;
    cluster.patch_node(r#"{"metadata":{"annotations":{"others":"2"}}}"#, "any annotation but").await;
    cluster.patch_node(r#"{"metadata":{"labels":{"pool":"b"}}}"#, "metadata of a Node").await;
    cluster.patch_node(r#"{"metadata":{"finalizers":["a.b/c"]}}"#, "metadata of a Node").await;
    cluster.refused(&controller(), &["delete", "node", "n1"], "cannot delete").await;
    let status = ["auth", "can-i", "patch", "nodes", "--subresource=status"];
    cluster.refused(&controller(), &status, "").await;
    // The policy speaks of the controller's account alone.
    cluster.allowed(&Account::admin(), &["cordon", "n1"]).await;
}

#[tokio::test]
async fn of_an_update_the_controller_writes_status_and_finalizer_and_nobody_else_its_status() {
    let cluster = Cluster::start().await;
    let merge = |patch| ["patch", "lu", "kernel-735", "--type=merge", "-p", patch];
    let status = |account, status: &'static str| {
        let cluster = &cluster;
        async move {
            let output = cluster.write_status(&account, "liveupdates", "kernel-735", status).await;
            if output.code == Some(0) { String::new() } else { output.stderr }
        }
    };
    let patch = |patch: &'static str| cluster.patch("lu", "kernel-735", patch);
    patch(r#"{"metadata":{"finalizers":["liveupdate.dev/in-flight"]}}"#).await.unwrap();
    let written = status(controller(), r#"{"epoch":{"cluster":"c","counter":5}}"#).await;
    assert_eq!(written, "");
    let stale = status(controller(), r#"{"epoch":{"cluster":"c","counter":3}}"#).await;
    assert!(stale.contains("stale leader: epoch 3 is lower than 5"), "{stale:?}");
    let missing = status(controller(), "{}").await;
    assert!(missing.contains("status.epoch is missing"), "{missing:?}");
    let refused = patch(r#"{"spec":{"paused":true}}"#).await.unwrap_err();
    assert!(refused.contains("may not write the spec"), "{refused}");
    let refused = patch(r#"{"metadata":{"finalizers":["a.b/c"]}}"#).await.unwrap_err();
    assert!(refused.contains("any finalizer but"), "{refused}");
    // Else whoever takes over its pod approves, or hands the update to the garbage collector.
    for metadata in [
        r#"{"annotations":{"liveupdate.dev/approve":"canary@7f3c9a21"}}"#,
        r#"{"annotations":{"liveupdate.dev/abort":"7f3c9a21"}}"#,
        r#"{"labels":{"a":"b"}}"#,
        r#"{"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"n1","uid":"u"}]}"#,
    ] {
        let refused = cluster.patch("lu", "kernel-735", &format!(r#"{{"metadata":{metadata}}}"#)).await;
        let refused = refused.expect_err(metadata);
        assert!(refused.contains("the metadata of a LiveUpdate"), "{metadata}: {refused}");
    }
    cluster.refused(&controller(), &["delete", "lu", "kernel-735"], "cannot delete").await;
    let foreign = status(Account::admin(), r#"{"epoch":{"cluster":"c","counter":6}}"#).await;
    assert!(foreign.contains("may not write it"), "{foreign:?}");
    cluster.allowed(&Account::admin(), &merge(r#"{"spec":{"paused":true}}"#)).await;
    patch(r#"{"metadata":{"finalizers":null}}"#).await.unwrap();
    cluster.allowed(&Account::admin(), &["delete", "lu", "kernel-735", "--timeout=30s"]).await;
}

#[tokio::test]
async fn invariant_5_records_of_nodes_are_written_by_the_leading_controller_and_go_with_their_node() {
    let cluster = Cluster::start().await;
    let uid =
        cluster.run(&Account::admin(), &["get", "node", "n1", "-o", "jsonpath={.metadata.uid}"]).await.stdout;

    let made = cluster.apply(&Account::admin(), "nlu.json", &record(&uid), &[]).await;
    assert!(made.code != Some(0) && made.stderr.contains("may not write them"), "{}", made.stderr);
    let file = cluster.0.run().path().join("nlu.json").to_string_lossy().into_owned();
    cluster.allowed(&controller(), &["create", "-f", &file]).await;
    let epoch = |account, counter| {
        let cluster = &cluster;
        async move {
            let status = format!(r#"{{"epoch":{{"cluster":"c","counter":{counter}}}}}"#);
            let output = cluster.write_status(&account, "nodeliveupdates", "n1", &status).await;
            if output.code == Some(0) { String::new() } else { output.stderr }
        }
    };
    assert_eq!(epoch(controller(), 5).await, "");
    let stale = epoch(controller(), 3).await;
    assert!(stale.contains("stale leader: epoch 3 is lower than 5"), "{stale:?}");
    let foreign = epoch(Account::admin(), 6).await;
    assert!(foreign.contains("may not write them"), "{foreign:?}");

    let kubelet = Account::kubelet("n1");
    let patch = ["patch", "nlu", "n1", "--type=merge", "-p", r#"{"metadata":{"labels":{"x":"y"}}}"#];
    cluster.refused(&Account::admin(), &patch, "may not write them").await;
    cluster.refused(&kubelet, &patch, "forbidden").await;
    cluster.refused(&Account::admin(), &["delete", "nlu", "n1"], "may not write them").await;

    cluster.allowed(&Account::admin(), &["delete", "node", "n1"]).await;
    cluster.allowed(&Account::admin(), &["wait", "--for=delete", "nlu/n1", "--timeout=90s"]).await;
}

#[tokio::test]
async fn the_controllers_account_can_do_what_it_needs_and_no_more() {
    let cluster = Cluster::start().await;
    let can = async |verb: &str, resource: &str, more: &[&str]| {
        let mut args = vec!["auth", "can-i", verb, resource];
        args.extend(more);
        cluster.run(&controller(), &args).await.code == Some(0)
    };
    for (verb, resource, more) in [
        ("watch", "nodes", &[][..]),
        ("patch", "nodes", &[]),
        ("get", "nodes", &[]),
        ("patch", "liveupdates.liveupdate.dev", &["--subresource=status"]),
        ("create", "nodeliveupdates.liveupdate.dev", &[]),
        ("update", "nodeliveupdates.liveupdate.dev", &["--subresource=status"]),
        ("delete", "nodeliveupdates.liveupdate.dev", &[]),
        ("watch", "liveupdatepolicies.liveupdate.dev", &[]),
        ("update", "leases.coordination.k8s.io/liveupdate-controller", &["-n", "liveupdate-system"]),
        ("get", "leases.coordination.k8s.io", &["-n", "kube-node-lease"]),
        ("create", "events.events.k8s.io", &["-n", "default"]),
        ("get", "namespaces/kube-system", &[]),
    ] {
        assert!(can(verb, resource, more).await, "{verb} {resource} {more:?} is refused");
    }
    for (verb, resource, more) in [
        ("list", "secrets", &["-A"][..]),
        ("list", "pods", &["-A"]),
        ("create", "liveupdates.liveupdate.dev", &[]),
        ("update", "liveupdates.liveupdate.dev", &[]),
        ("update", "nodes", &[]),
        ("patch", "nodes", &["--subresource=status"]),
        ("create", "events.events.k8s.io", &["-n", "kube-system"]),
        ("patch", "liveupdatepolicies.liveupdate.dev", &[]),
        ("delete", "nodes", &[]),
        ("update", "leases.coordination.k8s.io", &["-n", "liveupdate-system"]),
        ("update", "leases.coordination.k8s.io", &["-n", "kube-node-lease"]),
        ("list", "leases.coordination.k8s.io", &["-n", "kube-node-lease"]),
        ("get", "namespaces/default", &[]),
    ] {
        assert!(!can(verb, resource, more).await, "{verb} {resource} {more:?} is allowed");
    }
}
