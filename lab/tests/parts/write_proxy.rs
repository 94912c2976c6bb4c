//! The write proxy counts what a client writes and can take any one write away from it.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use liveupdate_lab::process::{Process, Spec};
use liveupdate_lab::write_proxy::{Fate, Moment, Place, WriteClass};
use liveupdate_lab::{Account, RunDir, TestCluster, WriteProxy};
use serde_json::json;

const SOON: Duration = Duration::from_secs(10);

async fn client(proxy: &WriteProxy) -> Client {
    let kubeconfig = Kubeconfig::read_from(proxy.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

async fn set_up(cluster: &TestCluster) -> (WriteProxy, Api<ConfigMap>) {
    let proxy = WriteProxy::start(cluster, &Account::admin()).await.unwrap();
    let maps = Api::namespaced(client(&proxy).await, "default");
    (proxy, maps)
}

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    }
}

fn object(number: usize, moment: Moment) -> Place {
    Place { class: WriteClass::Object, number, moment }
}

#[tokio::test]
async fn writes_are_counted_by_what_they_are_about_and_reads_are_not() {
    let cluster = TestCluster::shared().await.unwrap();
    let name = cluster.unique("counted");
    let (proxy, maps) = set_up(cluster).await;
    maps.create(&PostParams::default(), &config_map(&name)).await.unwrap();
    maps.get(&name).await.unwrap();
    maps.list(&ListParams::default()).await.unwrap();
    for value in ["1", "2"] {
        let patch = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": value}});
        maps.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(patch)).await.unwrap();
    }
    let leases: Api<Lease> = Api::namespaced(client(&proxy).await, "default");
    let lease = Lease { metadata: config_map(&name).metadata, ..Lease::default() };
    leases.create(&PostParams::default(), &lease).await.unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    assert!(maps.create(&dry, &config_map(&name)).await.is_err());

    let counts = proxy.counts();

    assert_eq!(counts.of(WriteClass::Object), 3);
    assert_eq!(counts.of(WriteClass::Lease), 1);
    assert_eq!(counts.of(WriteClass::Question), 1);
    assert_eq!(counts.of(WriteClass::Event), 0);
    let of = |verb| counts.objects.get(&(verb, "configmaps".to_owned(), name.clone())).copied();
    assert_eq!((of("create"), of("patch"), of("delete")), (Some(1), Some(2), None));
    let codes: Vec<_> = proxy.writes().iter().map(|write| write.code).collect();
    assert_eq!(codes, [Some(201), Some(200), Some(200), Some(201), Some(409)]);
    proxy.reset();
    assert_eq!(proxy.counts().of(WriteClass::Object), 0);
}

#[tokio::test]
async fn a_write_dropped_before_never_happened_and_one_dropped_after_did() {
    let cluster = TestCluster::shared().await.unwrap();
    let direct: Api<ConfigMap> = Api::namespaced(cluster.client(&Account::admin()).unwrap(), "default");
    for (moment, happened) in [(Moment::Before, false), (Moment::After, true)] {
        let (proxy, maps) = set_up(cluster).await;
        let names: Vec<_> = (0..3).map(|_| cluster.unique("struck")).collect();
        let sprung = proxy.arm(object(2, moment), |_| Fate::Drop);

        maps.create(&PostParams::default(), &config_map(&names[0])).await.unwrap();
        maps.create(&PostParams::default(), &config_map(&names[1])).await.unwrap_err();
        let write = sprung.wait(SOON).await.unwrap();
        maps.create(&PostParams::default(), &config_map(&names[2])).await.unwrap();

        assert_eq!((write.number, write.verb, write.name.as_str()), (2, "create", names[1].as_str()));
        assert_eq!(write.code, happened.then_some(201));
        assert!(direct.get_opt(&names[0]).await.unwrap().is_some());
        assert_eq!(direct.get_opt(&names[1]).await.unwrap().is_some(), happened, "{moment:?}");
        assert!(direct.get_opt(&names[2]).await.unwrap().is_some());
        assert_eq!(proxy.counts().of(WriteClass::Object), 3);
    }
}

#[tokio::test]
async fn a_hook_that_lets_pass_changes_nothing() {
    let cluster = TestCluster::shared().await.unwrap();
    let (proxy, maps) = set_up(cluster).await;
    let name = cluster.unique("passed");
    let sprung = proxy.arm(object(1, Moment::After), |write| {
        assert_eq!(write.code, Some(201));
        Fate::Pass
    });
    maps.create(&PostParams::default(), &config_map(&name)).await.unwrap();
    sprung.wait(SOON).await.unwrap();
}

#[tokio::test]
async fn a_trap_that_no_write_reaches_says_so() {
    let cluster = TestCluster::shared().await.unwrap();
    let (proxy, _maps) = set_up(cluster).await;
    let error = proxy
        .arm(object(7, Moment::Before), |_| Fate::Drop)
        .wait(Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(
        error.to_string().starts_with("write number 7 of class Object (Before) did not happen"),
        "{error}"
    );
}

/// As the crash tests do it: a process of its own is killed at a certain write and started again.
#[tokio::test]
async fn a_client_killed_at_a_write_writes_nothing_more_until_it_is_started_again() {
    let cluster = TestCluster::shared().await.unwrap();
    let direct: Api<ConfigMap> = Api::namespaced(cluster.client(&Account::admin()).unwrap(), "default");
    for (moment, written) in [(Moment::Before, 2), (Moment::After, 3)] {
        let (proxy, _maps) = set_up(cluster).await;
        let names: Vec<_> = (0..6).map(|_| cluster.unique("victim")).collect();
        let run = RunDir::create().unwrap();
        let document =
            |name: &String| format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
        let manifest = run.path().join("maps.yaml");
        std::fs::write(&manifest, names.iter().map(document).collect::<String>()).unwrap();
        let start = || {
            let spec = Spec::new("victim", cluster.tools().binary("kubectl"), run.path())
                .args(["apply".as_ref(), "-f".as_ref(), manifest.as_os_str()])
                .env("KUBECONFIG", proxy.kubeconfig())
                .env("HOME", run.path());
            Process::start(spec).unwrap()
        };
        let there = async || {
            let all = direct.list(&ListParams::default()).await.unwrap();
            all.iter()
                .filter(|map| map.metadata.name.as_ref().is_some_and(|name| names.contains(name)))
                .count()
        };
        let mut victim = start();
        let handle = victim.handle();
        let sprung = proxy.arm(object(3, moment), move |_| {
            handle.kill().unwrap();
            Fate::Drop
        });
        sprung.wait(Duration::from_secs(30)).await.unwrap();
        assert_eq!(victim.wait(SOON).await.unwrap().code(), None, "ended by a signal");
        assert_eq!(there().await, written, "{moment:?}");
        assert_eq!(proxy.counts().of(WriteClass::Object), 3);

        assert_eq!(start().wait(Duration::from_secs(30)).await.unwrap().code(), Some(0));
        assert_eq!(there().await, 6);
        assert_eq!(proxy.counts().of(WriteClass::Object), 3 + 6 - written);
    }
}

#[tokio::test]
async fn watches_stream_through() {
    let cluster = TestCluster::shared().await.unwrap();
    let (proxy, maps) = set_up(cluster).await;
    let name = cluster.unique("watched");
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    let version = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut watch = maps.watch(&params, &version).await.unwrap().boxed();

    maps.create(&PostParams::default(), &config_map(&name)).await.unwrap();
    let event = tokio::time::timeout(SOON, watch.try_next()).await.unwrap().unwrap().unwrap();
    assert!(
        matches!(&event, WatchEvent::Added(map) if map.metadata.name.as_ref() == Some(&name)),
        "{event:?}"
    );

    // A second event on the same stream: the first did not end it.
    let patch = json!({"data": {"key": "value"}});
    maps.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    let event = tokio::time::timeout(SOON, watch.try_next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(event, WatchEvent::Modified(_)), "{event:?}");
    assert_eq!(proxy.counts().of(WriteClass::Object), 2);
}

#[tokio::test]
async fn a_stranger_is_not_let_in() {
    let cluster = TestCluster::shared().await.unwrap();
    let (proxy, _maps) = set_up(cluster).await;
    let mut kubeconfig = Kubeconfig::read_from(proxy.kubeconfig()).unwrap();
    kubeconfig.auth_infos[0].auth_info = Some(kube::config::AuthInfo::default());
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(Client::try_from(config).unwrap(), "default");
    assert!(maps.list(&ListParams::default()).await.is_err());
}
