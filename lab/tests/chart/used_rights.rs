//! No right too many and none too few: each verb on each resource that the controller's roles give is one that the API
//! server saw it use in a run with everything that happens to a fleet, and it was refused nothing.
//!
//! Take a rule away and the run is refused; add one and nobody uses it. The API server streams no lists, and there is no
//! garbage collector: what the controller does where they help would show no use of the rights for where they do not.
//! A second run has a controller that gives out certificates.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use liveupdate_crds::update::JoinPolicy;
use liveupdate_lab::control_plane::AuditEntry;
use liveupdate_lab::testbed::{NAMESPACE, machines};
use liveupdate_lab::wait::{Answer, until};
use liveupdate_lab::{Account, Audit, Options, Testbed, TestbedOptions};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(120);

/// One verb on one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    /// Empty: everywhere.
    namespace: String,
    group: String,
    resource: String,
    /// Empty: any.
    name: String,
    verb: String,
}

impl Right {
    fn covers(&self, entry: &AuditEntry) -> bool {
        let resource = if entry.subresource.is_empty() {
            entry.resource.clone()
        } else {
            format!("{}/{}", entry.resource, entry.subresource)
        };
        (self.namespace.is_empty() || self.namespace == entry.namespace)
            && self.group == entry.group
            && self.resource == resource
            && (self.name.is_empty() || self.name == entry.name)
            // A Lease that is written by update and is not there is made.
            && (self.verb == entry.verb || (self.verb == "create" && entry.verb == "update" && entry.code == 201))
    }
}

/// What the roles give, each of which is bound to the controller's account.
fn given() -> BTreeSet<Right> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../controller/deploy/rbac.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap();
    let words = |value: &Value| -> Vec<String> {
        let words = value
            .as_array()
            .map(|words| words.iter().map(|word| word.as_str().unwrap().to_owned()).collect());
        words.unwrap_or_else(|| vec![String::new()])
    };
    let mut rights = BTreeSet::new();
    for role in
        documents.iter().filter(|document| document["kind"].as_str().unwrap_or_default().ends_with("Role"))
    {
        let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
        for rule in role["rules"].as_array().unwrap() {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    for name in words(&rule["resourceNames"]) {
                        for verb in words(&rule["verbs"]) {
                            rights.insert(Right {
                                namespace: namespace.to_owned(),
                                group: group.clone(),
                                resource: resource.clone(),
                                name: name.clone(),
                                verb,
                            });
                        }
                    }
                }
            }
        }
    }
    rights
}

/// Everything that happens to a fleet, with two nodes.
async fn run_everything(bed: &mut Testbed) {
    bed.apply_policy(machines::policy()).await.unwrap();
    bed.start_controller().await.unwrap();
    bed.await_known(LONG).await.unwrap();

    // Somebody deletes the Lease while a run stands, and another process leads.
    let mut update = machines::update("roll", machines::NEW);
    update.spec.paused = true;
    update.spec.join_policy = JoinPolicy::Include;
    bed.apply_update(&update).await.unwrap();
    bed.await_update("roll", "stands", LONG, |status| status.counts.waiting == 2).await.unwrap();
    kubectl(bed, &["delete", "lease", "liveupdate-controller", "-n", NAMESPACE]).await;
    until("the Lease that was deleted", LONG, async || {
        bed.revive_controllers()?;
        let lease = bed
            .plane
            .kubectl(["get", "lease", "liveupdate-controller", "-n", NAMESPACE, "-o", "name"])
            .await?;
        Ok(if lease.code == Some(0) { Answer::Yes(()) } else { Answer::not_yet(lease.stderr) })
    })
    .await
    .unwrap();

    // A node is made again under its name.
    let node = bed.fleet.node("hv-02").unwrap();
    let before = node.uid();
    kubectl(bed, &["delete", "node", "hv-02"]).await;
    node.register_again(&bed.certificates).await.unwrap();
    let after = bed.fleet.node("hv-02").unwrap().uid();
    assert_ne!(before, after);
    bed.await_node_update("hv-02", "of the new node", LONG, |status| status.node_uid == after).await.unwrap();

    update.spec.paused = false;
    bed.apply_update(&update).await.unwrap();
    bed.await_success("roll", LONG).await.unwrap();
    bed.await_rest("roll", LONG).await.unwrap();
    // The same is told again.
    bed.restart_controller(0).unwrap();
    bed.apply_update(&machines::update("back", machines::OLD)).await.unwrap();
    bed.await_success("back", LONG).await.unwrap();
    bed.await_rest("back", LONG).await.unwrap();
}

async fn kubectl(bed: &Testbed, args: &[&str]) {
    let output = bed.plane.kubectl_as(&Account::admin(), args).await.unwrap();
    assert_eq!(output.code, Some(0), "{args:?}: {}", output.stderr);
}

/// A node asks for a certificate with the token of its pod, and is updated.
async fn run_enrolment(bed: &mut Testbed) {
    let node = "hv-01";
    bed.fleet.node(node).unwrap().set(|settings| settings.agent = false);
    bed.apply_policy(machines::policy()).await.unwrap();
    bed.install_agents().await.unwrap();
    bed.start_controller().await.unwrap();
    let pod = bed.agent_pod(node, None, LONG).await.unwrap();
    let mounts = bed.mount(node, &pod, LONG).await.unwrap();
    let folder = bed.plane.run().folder("enrolled").unwrap();
    bed.fleet.node(node).unwrap().set(|settings| {
        settings.agent = true;
        settings.enrolment = Some(mounts.enrolment.clone());
        settings.tls_dir = folder;
    });
    bed.await_known(LONG).await.unwrap();
}

async fn seen(
    options: Options,
    args: &[&str],
    nodes: u16,
    run: impl AsyncFnOnce(&mut Testbed),
) -> Vec<AuditEntry> {
    let users = vec![Testbed::controller_account().user];
    let plane = Options { audit: Audit::Users(users), ..options };
    let controller_args = args.iter().map(|arg| (*arg).to_owned()).collect();
    let options = TestbedOptions { plane, controller_args, ..TestbedOptions::default() };
    let mut bed = Testbed::start(options, machines::nodes(nodes)).await.unwrap();
    run(&mut bed).await;
    bed.plane.audit().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_controller_uses_every_right_that_it_has_and_lacks_none() {
    let bare = Options {
        scheduler: false,
        controller_manager: false,
        api_server_args: vec!["--feature-gates=WatchList=false".to_owned()],
        ..Options::default()
    };
    let mut entries = seen(bare, &[], 2, async |bed| run_everything(bed).await).await;
    let certificates = ["--tls-mode=self-managed"];
    entries.extend(seen(Options::default(), &certificates, 1, async |bed| run_enrolment(bed).await).await);

    let given = given();
    assert!(given.len() > 15, "{given:?}");
    let refused: Vec<_> = entries.iter().filter(|entry| entry.code == 403).collect();
    assert!(refused.is_empty(), "a right is missing: {refused:#?}");
    let served: Vec<_> =
        entries.iter().filter(|entry| entry.started || (200..300).contains(&entry.code)).collect();
    let unused: Vec<_> =
        given.iter().filter(|right| !served.iter().any(|entry| right.covers(entry))).collect();
    assert!(unused.is_empty(), "no use was seen of {unused:#?}");
}
