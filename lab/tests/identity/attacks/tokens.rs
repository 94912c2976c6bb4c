//! At enrolment: tokens that are not those of a pod of our DaemonSet, here and now.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use liveupdate_crds::LiveUpdateStatus;
use liveupdate_host::simulated::Fault;
use liveupdate_lab::Account;
use liveupdate_lab::testbed::pods::{AGENT, Ask, ENROL, pod_spec};
use liveupdate_lab::testbed::{NAMESPACE, machines};
use liveupdate_lab::wait::{Answer, until};
use liveupdate_proto::controller::v1::UninstallReply;
use liveupdate_proto::refusal::Refusal;
use serde_json::{Value, json};

use crate::bed::{Bed, SOON, alone, run};
use crate::logs::Log;
use crate::wire::{refused, request};

/// A pod that is bound to a node, as the administrator may make one.
async fn pod(bed: &Bed, namespace: &str, name: &str, account: &str, owner: Option<Value>) -> Pod {
    let mut spec = pod_spec(account);
    spec["nodeName"] = json!(bed.nodes[0].name);
    let mut metadata = json!({"name": name, "namespace": namespace});
    if let Some(owner) = owner {
        metadata["ownerReferences"] = json!([owner]);
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    let pod = serde_json::from_value(pod).unwrap();
    bed.bed.in_namespace::<Pod>(namespace).create(&PostParams::default(), &pod).await.unwrap()
}

fn bound(pod: &Pod, account: &str) -> Ask {
    Ask { account: account.to_owned(), ..Ask::of_agent(pod) }
}

async fn token(bed: &Bed, ask: &Ask) -> String {
    bed.bed.token(&Account::admin(), ask).await.unwrap()
}

/// Tries it, expects the refusal and its line, and sees that the legitimate agent gets in all the same.
async fn attack(bed: &Bed, token: &str, word: Refusal, reason: &str) {
    let log = bed.log();
    refused(bed.door().enrol(token).await, word);
    log.line(&["refused to enrol", &format!("reason=\"{reason}\"")]).await;
    assert!(!log.text().contains(" enrolled "), "{reason}: {}", log.text());
    bed.door().enrol(&bed.nodes[0].token()).await.unwrap();
}

#[test]
fn a_token_for_another_audience_account_or_namespace_is_worth_nothing() {
    run(async |bed| {
        let own = Ask::of_agent(&bed.nodes[0].pod);
        // Each differs from the legitimate one in one thing alone.
        for audience in ["https://kubernetes.default.svc", "liveupdate.dev/uninstall"] {
            let ask = Ask { audience: audience.into(), ..own.clone() };
            attack(bed, &token(bed, &ask).await, Refusal::TokenRefused, "WrongAudience").await;
        }
        bed.bed.service_account(NAMESPACE, "other").await.unwrap();
        let other = pod(bed, NAMESPACE, "other-account", "other", None).await;
        let ask = bound(&other, "other");
        attack(bed, &token(bed, &ask).await, Refusal::NotEnrollable, "WrongServiceAccount").await;

        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}});
        let namespace: Namespace = serde_json::from_value(namespace).unwrap();
        bed.bed.all::<Namespace>().create(&PostParams::default(), &namespace).await.unwrap();
        bed.bed.service_account("elsewhere", AGENT).await.unwrap();
        let theirs = pod(bed, "elsewhere", "agent", AGENT, None).await;
        let ask = bound(&theirs, AGENT);
        attack(bed, &token(bed, &ask).await, Refusal::NotEnrollable, "WrongNamespace").await;
    });
}

#[test]
fn a_token_of_no_pod_or_of_a_pod_that_our_daemonset_does_not_control_is_worth_nothing() {
    run(async |bed| {
        let own = Ask::of_agent(&bed.nodes[0].pod);
        let unbound = Ask { pod: None, ..own };
        attack(bed, &token(bed, &unbound).await, Refusal::NotEnrollable, "NoPod").await;
        // Of our account, in our namespace, on our node: made by somebody else.
        let bare = pod(bed, NAMESPACE, "bare", AGENT, None).await;
        attack(bed, &token(bed, &Ask::of_agent(&bare)).await, Refusal::NotEnrollable, "ForeignPod").await;
        let owner = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": AGENT,
            "uid": "00000000-0000-4000-8000-000000000000", "controller": true});
        let claimed = pod(bed, NAMESPACE, "claimed", AGENT, Some(owner)).await;
        let ask = Ask::of_agent(&claimed);
        attack(bed, &token(bed, &ask).await, Refusal::NotEnrollable, "ForeignPod").await;
    });
}

#[test]
fn a_token_that_was_changed_or_is_none_is_worth_nothing() {
    run(async |bed| {
        let good = bed.nodes[0].token();
        // The signature is the last part: another letter in the middle of it.
        let mut bytes = good.clone().into_bytes();
        let at = bytes.len() - 20;
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(bytes).unwrap();
        attack(bed, &forged, Refusal::TokenRefused, "TokenRejected").await;
        attack(bed, "no.token.atall", Refusal::TokenRefused, "TokenMalformed").await;
        attack(bed, "", Refusal::TokenRefused, "TokenMalformed").await;
        attack(bed, &"x".repeat(16 * 1024 + 1), Refusal::Malformed, "TokenTooLarge").await;
        let log = bed.log();
        refused(bed.door().enrol_with(&good, vec![0; 8 * 1024 + 1]).await, Refusal::Malformed);
        log.line(&["refused to enrol", "reason=\"RequestTooLarge\""]).await;
        let (mut wish, _) = request();
        *wish.last_mut().unwrap() ^= 1;
        refused(bed.door().enrol_with(&good, wish).await, Refusal::Malformed);
        log.line(&["refused to enrol", "reason=\"RequestUnusable\""]).await;
        bed.door().enrol(&good).await.unwrap();
    });
}

/// A pod's token goes with it, also when another pod takes its place or its name.
#[test]
fn a_token_is_worth_nothing_after_its_pod() {
    alone(async {
        let bed = Bed::start(1, &[]).await;
        let (node, door) = (&bed.nodes[0], bed.door());
        let (name, replayed) = (node.pod.name_any(), node.token());
        door.enrol(&replayed).await.unwrap();
        let pods = bed.bed.in_namespace::<Pod>(NAMESPACE);
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        pods.delete(&name, &now).await.unwrap();

        // The API server may remember for ten seconds that it knew the token. That the pod is gone is seen at once.
        let log = bed.log();
        until("the token to be refused by the API server, too", SOON, async || {
            let status = door.enrol(&replayed).await.unwrap_err();
            let word = Refusal::of(&status);
            assert!(matches!(word, Some(Refusal::NotEnrollable | Refusal::TokenRefused)), "{status:?}");
            Ok(match word {
                Some(Refusal::TokenRefused) => Answer::Yes(()),
                _ => Answer::not_yet(status),
            })
        })
        .await
        .unwrap();
        log.line(&["refused to enrol", "reason=\"TokenRejected\""]).await;
        // The one that the DaemonSet made in its place.
        let second = bed.bed.agent_pod(&node.name, node.pod.uid().as_deref(), SOON).await.unwrap();
        let fresh = token(&bed, &Ask::of_agent(&second)).await;
        pod(&bed, NAMESPACE, &name, AGENT, None).await;
        let log = bed.log();
        refused(door.enrol(&replayed).await, Refusal::TokenRefused);
        log.line(&["refused to enrol", "reason=\"TokenRejected\""]).await;
        door.enrol(&fresh).await.unwrap();
    });
}

/// What keeps a node that was taken over from others: its kubelet gets tokens of its own pods alone.
#[test]
fn a_kubelet_gets_no_token_of_another_nodes_agent() {
    run(async |bed| {
        let (own, other) = (&bed.nodes[0], &bed.nodes[1]);
        let kubelet = Account::kubelet(&own.name);
        let refused = bed.bed.token(&kubelet, &Ask::of_agent(&other.pod)).await.unwrap_err();
        let why = liveupdate_proto::causes::chain(&refused);
        assert!(why.contains("Forbidden") || why.contains("forbidden") || why.contains("403"), "{why}");
        let token = bed.bed.token(&kubelet, &Ask::of_agent(&own.pod)).await.unwrap();
        bed.door().enrol(&token).await.unwrap();
    });
}

/// Whoever could take the keepers off all nodes could end every rollout.
#[test]
fn keepers_are_taken_away_for_the_account_that_uninstalls_alone() {
    alone(async {
        let bed = Bed::start(1, &[]).await;
        let (node, door) = (&bed.nodes[0], bed.door());
        let (hook, audience) = (hook(&bed).await, "liveupdate.dev/uninstall");
        let agent = Ask::of_agent(&node.pod);
        let attacks = [
            (
                token(&bed, &Ask { audience: ENROL.into(), ..hook.clone() }).await,
                Refusal::TokenRefused,
                "WrongAudience",
            ),
            (token(&bed, &agent).await, Refusal::TokenRefused, "WrongAudience"),
            (
                token(&bed, &Ask { audience: audience.into(), ..agent }).await,
                Refusal::NotEnrollable,
                "WrongServiceAccount",
            ),
            (String::new(), Refusal::TokenRefused, "TokenMalformed"),
        ];
        for (token, word, reason) in attacks {
            let log = bed.log();
            refused(door.uninstall(&token).await, word);
            log.line(&["refused to uninstall", &format!("reason=\"{reason}\"")]).await;
            assert!(!log.text().contains("keepers are uninstalled"), "{}", log.text());
        }
        let log = bed.log();
        door.uninstall(&token(&bed, &hook).await).await.unwrap();
        log.line(&["no node objects", "nodes=1"]).await;
    });
}

/// What the hook asks for.
async fn hook(bed: &Bed) -> Ask {
    let account = "liveupdate-uninstall";
    bed.bed.service_account(NAMESPACE, account).await.unwrap();
    let pod = pod(bed, NAMESPACE, "hook", account, None).await;
    Ask { audience: "liveupdate.dev/uninstall".to_owned(), ..bound(&pod, account) }
}

/// Refused, an uninstall has changed nothing.
#[test]
fn while_one_node_has_something_in_custody_no_keeper_goes() {
    alone(async {
        let bed = Bed::start(2, &[]).await;
        let kept = bed.bed.fleet.node("hv-01").unwrap();
        let overdue = Fault::ReclaimOverdue { holder: machines::HOLDER.into() };
        kept.world().change(|world| world.faults = vec![overdue]).unwrap();
        let mut update = machines::update("overdue", machines::NEW);
        update.spec.deadlines.reclaim = "3s".to_owned();
        bed.bed.apply_update(&update).await.unwrap();
        bed.stands("hv-01", "kept", |status| status.reason == "Quarantined").await;
        let over = |status: &LiveUpdateStatus| status.failures == 1 && status.in_flight.is_empty();
        let update = bed.bed.await_update("overdue", "nothing in flight", SOON, over).await.unwrap();
        let revision = update.status.unwrap().revision;

        let (agents, log) = (Log::of_agents(), bed.log());
        let (door, token) = (bed.door(), token(&bed, &hook(&bed).await).await);
        let ended = async |what: &str, wanted: &dyn Fn(&UninstallReply) -> bool| {
            until(what, SOON, async || {
                Ok(match door.uninstall(&token).await {
                    Ok(reply) if reply.done && wanted(&reply) => Answer::Yes(reply),
                    Ok(reply) => Answer::not_yet(format!("{reply:?}")),
                    Err(status) => Answer::not_yet(status),
                })
            })
            .await
            .unwrap()
        };
        let refused = ended("an end", &|_| true).await;
        let [problem, marks] = refused.problems.as_slice() else { panic!("{refused:?}") };
        assert_eq!(problem.node, "hv-01");
        assert!(problem.why.contains("the keeper stays: holders may still come for files"), "{problem:?}");
        assert!(marks.why.contains("LiveUpdate overdue has marks on nodes"), "{marks:?}");
        assert_eq!(refused.removed, 0, "a keeper was removed");
        log.line(&["the keeper stays", "hv-01"]).await;
        assert!(!agents.text().contains("the keeper is uninstalled"), "{}", agents.text());

        // Its holder comes after all, and somebody has looked.
        kept.world().change(|world| world.faults.clear()).unwrap();
        let accept = format!("liveupdate.dev/accept-failure={revision}");
        let accepted = bed.bed.plane.kubectl(["annotate", "lu", "overdue", &accept]).await.unwrap();
        assert_eq!(accepted.code, Some(0), "{accepted:?}");
        let done = ended("no objection", &|reply| reply.problems.is_empty()).await;
        assert_eq!(done.removed, 2, "{done:?}");
        assert_eq!(agents.text().matches("the keeper is uninstalled").count(), 2, "{}", agents.text());
    });
}
