//! The control plane is a real one: it serves, survives, collects garbage and judges rights.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use liveupdate_lab::wait::{Answer, until};
use liveupdate_lab::{Account, ControlPlane, Error, Options, TestCluster};

fn config_maps(client: kube::Client) -> Api<ConfigMap> {
    Api::namespaced(client, "default")
}

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    }
}

/// Only what the API server needs, for tests that start it alone.
fn small() -> Options {
    Options { controller_manager: false, scheduler: false, ..Options::default() }
}

#[tokio::test]
async fn two_run_side_by_side_and_share_nothing() {
    let (one, two) = tokio::join!(ControlPlane::start(small()), ControlPlane::start(small()));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.server(), two.server());

    let maps = config_maps(one.client(&Account::admin()).unwrap());
    maps.create(&PostParams::default(), &config_map("only-here")).await.unwrap();

    assert!(maps.get_opt("only-here").await.unwrap().is_some());
    let others = config_maps(two.client(&Account::admin()).unwrap());
    assert!(others.get_opt("only-here").await.unwrap().is_none());
    // The one's account is nobody to the other.
    let stranger = one.kubeconfig(&Account::admin()).unwrap();
    let output = two
        .kubectl(["--kubeconfig", stranger.to_str().unwrap(), "--server", &two.server(), "get", "nodes"])
        .await
        .unwrap();
    assert_ne!(output.code, Some(0), "{output:?}");
}

#[tokio::test]
async fn restarts_of_the_api_server_keep_port_and_data() {
    let mut plane = ControlPlane::start(small()).await.unwrap();
    let server = plane.server();
    let maps = config_maps(plane.client(&Account::admin()).unwrap());
    maps.create(&PostParams::default(), &config_map("kept")).await.unwrap();

    plane.restart_api_server().await.unwrap();
    assert!(maps.get_opt("kept").await.unwrap().is_some());

    plane.kill_api_server().unwrap();
    assert!(maps.get_opt("kept").await.is_err());
    plane.start_api_server().await.unwrap();
    assert!(maps.get_opt("kept").await.unwrap().is_some());
    assert_eq!(plane.server(), server);
}

#[tokio::test]
async fn a_component_that_ends_is_reported_with_its_own_words() {
    let options = Options { api_server_args: vec!["--no-such-flag".into()], ..small() };
    let error = ControlPlane::start(options).await.unwrap_err();
    assert!(matches!(error, Error::Exited { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("kube-apiserver ended early"), "{text}");
    assert!(text.contains("unknown flag: --no-such-flag"), "{text}");
}

#[tokio::test]
async fn what_a_gone_node_owned_is_collected() {
    let cluster = TestCluster::shared().await.unwrap();
    let client = cluster.client(&Account::admin()).unwrap();
    let name = cluster.unique("owner");
    let nodes: Api<Node> = Api::all(client.clone());
    let node = Node { metadata: config_map(&name).metadata, ..Node::default() };
    let node = nodes.create(&PostParams::default(), &node).await.unwrap();
    let mut owned = config_map(&name);
    owned.metadata.owner_references = Some(vec![kube::Resource::owner_ref(&node, &()).unwrap()]);
    let maps = config_maps(client);
    maps.create(&PostParams::default(), &owned).await.unwrap();

    nodes.delete(&name, &DeleteParams::default()).await.unwrap();

    until("garbage collection", Duration::from_secs(30), async || {
        let left = maps.get_opt(&name).await.map_err(Error::api("reading"))?;
        Ok(if left.is_none() { Answer::Yes(()) } else { Answer::not_yet("it is still there") })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn kubectl_says_what_a_person_would_see() {
    let cluster = TestCluster::shared().await.unwrap();
    let good = cluster.kubectl(["get", "namespaces", "-o", "name"]).await.unwrap();
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(good.stdout.contains("namespace/kube-system"), "{good:?}");

    let bad = cluster.kubectl(["get", "node", "nowhere"]).await.unwrap();
    assert_eq!(bad.code, Some(1));
    assert!(bad.stderr.contains("nodes \"nowhere\" not found"), "{bad:?}");
}

#[tokio::test]
async fn rights_are_judged_by_account() {
    let cluster = TestCluster::shared().await.unwrap();
    let nobody = cluster.client(&Account::user("nobody")).unwrap();
    let refused = config_maps(nobody).list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused:?}");

    // A kubelet may make its own node and no other.
    let (own, other) = (cluster.unique("node"), cluster.unique("node"));
    let nodes: Api<Node> = Api::all(cluster.client(&Account::kubelet(&own)).unwrap());
    let node = |name: &str| Node { metadata: config_map(name).metadata, ..Node::default() };
    nodes.create(&PostParams::default(), &node(&own)).await.unwrap();
    let refused = nodes.create(&PostParams::default(), &node(&other)).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused:?}");

    let account = Account::service_account("default", "default");
    let output = cluster.kubectl_as(&account, ["auth", "whoami", "-o", "yaml"]).await.unwrap();
    assert!(output.stdout.contains("system:serviceaccount:default:default"), "{output:?}");
    assert!(output.stdout.contains("system:serviceaccounts:default"), "{output:?}");
}

#[tokio::test]
async fn more_groups_than_fit_are_refused() {
    let cluster = TestCluster::shared().await.unwrap();
    let account = Account::user("many").with_group("a").with_group("b").with_group("c");
    let error = cluster.kubeconfig(&account).unwrap_err();
    assert!(error.to_string().contains("3 groups were asked for and at most two fit"), "{error}");
}

#[tokio::test]
async fn the_audit_log_says_who_did_what() {
    let cluster = TestCluster::shared().await.unwrap();
    let name = cluster.unique("audited");
    let account = Account::user(name.as_str()).with_group("system:masters");
    let maps = config_maps(cluster.client(&account).unwrap());
    maps.create(&PostParams::default(), &config_map(&name)).await.unwrap();
    maps.get(&name).await.unwrap();
    assert!(maps.create(&PostParams::default(), &config_map(&name)).await.is_err());

    let entries = until("three audit entries", Duration::from_secs(5), async || {
        let mut entries = cluster.audit()?;
        entries.retain(|entry| entry.user == name);
        Ok(if entries.len() < 3 { Answer::not_yet(format!("{entries:?}")) } else { Answer::Yes(entries) })
    })
    .await
    .unwrap();

    let short: Vec<_> = entries.iter().map(|e| (e.verb.as_str(), e.code, e.is_write())).collect();
    assert_eq!(short, [("create", 201, true), ("get", 200, false), ("create", 409, true)]);
    assert!(entries.iter().all(|entry| entry.resource == "configmaps" && entry.namespace == "default"));
}
