//! Agents that lie, stammer, dawdle or are not there: each node says so, and the others go on (invariant 9).

use std::time::Duration;

use kube::Api;
use kube::api::PostParams;
use liveupdate_agent::Misbehaviour;
use liveupdate_crds::{Epoch, IntOrPercent, LiveUpdate, NodeLiveUpdate, NodeLiveUpdateStatus};
use liveupdate_host::simulated::{Pace, WorldSpec};
use liveupdate_lab::Testbed;
use liveupdate_lab::testbed::machines::{NEW, OLD};

use crate::bed::{is_clean, is_marked, run, says};

fn lies(edit: impl FnOnce(&mut Misbehaviour)) -> Misbehaviour {
    let mut lies = Misbehaviour::default();
    edit(&mut lies);
    lies
}

#[test]
fn invariant_9_whoever_cannot_be_used_says_so_and_the_rest_is_updated() {
    run(async |bed| {
        let pool = bed.pool("agents", 7, |_, _| {}).await;
        let behaviour = [
            (1, lies(|lies| lies.garbage = true)),
            (2, lies(|lies| lies.delay = Duration::from_secs(60))),
            (3, lies(|lies| lies.node = Some("agents-7".into()))),
            (4, lies(|lies| lies.boot_id = Some("01234567-89ab-4cde-8f01-23456789abcd".into()))),
        ];
        for (number, lies) in behaviour {
            pool.replace_agent(number, |settings| settings.misbehaviour = lies).await;
        }
        pool.node(5).set(|settings| settings.agent = false);
        for number in 1..=5 {
            pool.listens(number, number != 5).await;
        }
        pool.roll(|update| update.spec.deadlines.preflight = "3s".to_owned()).await;

        let status = bed
            .update("agents", "two updated, five blocked", |s| s.counts.updated == 2 && s.counts.blocked == 5)
            .await;
        assert_eq!((status.counts.waiting, status.failures), (0, 0));
        let expected = [
            (1, "AgentMisbehaves", "its answer makes no sense"),
            (2, "AgentUnreachable", "did not answer within"),
            (3, "AgentMisbehaves", "the node's name is \"agents-7\", expected \"agents-3\""),
            (
                4,
                "AgentMisbehaves",
                "the agent says boot 01234567-89ab-4cde-8f01-23456789abcd, the kubelet says",
            ),
            (5, "AgentUnreachable", "cannot be reached"),
        ];
        for (number, reason, message) in expected {
            let node = pool.name_of(number);
            // Until its agent listens again, nothing answers there.
            let wanted = |s: &NodeLiveUpdateStatus| s.reason == reason && s.message.contains(message);
            let record = pool.node_update(&node, message, wanted).await;
            assert_eq!(record.state, "Blocked");
            says(&bed.kubectl(&format!("get nlu {node}")).await, &[&format!("7.3.4-lu1 Blocked {reason}")]);
            says(&bed.kubectl(&format!("describe nlu {node}")).await, &[message]);
            assert!(is_clean(&bed.bed.node(&node).await.unwrap()), "nothing was begun there");
        }
        let described = bed.kubectl("describe lu agents").await;
        says(&described, &["Reason: AgentMisbehaves", "Reason: AgentUnreachable", "agents-1", "agents-5"]);
        says(&bed.kubectl("get lu agents").await, &["agents 7.3.5-lu2 1/1 all 2 7 0"]);

        for number in 1..=5 {
            pool.node(number).set(|settings| {
                settings.misbehaviour = Misbehaviour::default();
                settings.agent = true;
            });
        }
        assert_eq!(bed.success("agents").await.counts.updated, 7);
    });
}

/// A lie about what came up is found out by the kubelet's word: such a node is never `Updated`.
#[test]
fn an_agent_that_lies_about_what_came_up_is_never_believed() {
    let jumps = |_: u16, world: &mut WorldSpec| {
        world.pace = Pace::Real;
        world.durations.jump = 4_000;
    };
    run(async |bed| {
        let pool = bed.pool("liars", 2, jumps).await;
        pool.roll(|update| {
            update.spec.strategy.max_failures = IntOrPercent::Int(1);
            update.spec.deadlines.reclaim = "2s".to_owned();
            update.spec.deadlines.verify = "2s".to_owned();
        })
        .await;
        let behaviour = [
            (1, lies(|lies| lies.boot_id = Some("01234567-89ab-4cde-8f01-23456789abcd".into()))),
            (2, lies(|lies| lies.release = Some("7.3.5-lu8".into()))),
        ];
        for (number, lies) in behaviour {
            pool.off(number).await;
            pool.node(number).set(|settings| settings.misbehaviour = lies);
        }
        let record = pool.stands(1, "Failed", "VerifyFailed").await;
        says(&record.message, &["the kubelet has not written the boot id and release that the agent proved"]);
        assert_eq!(record.verified_at, None);
        let record = pool.stands(2, "Failed", "WrongKernel").await;
        says(&record.message, &["7.3.5-lu8"]);
        let status = bed.update("liars", "both failed", |status| status.counts.failed == 2).await;
        assert_eq!((status.counts.updated, status.state.as_str()), (0, "FailureBudgetSpent"));
        says(
            &bed.kubectl("get nlu liars-1 liars-2").await,
            &["liars-1 7.3.5-lu2 Failed VerifyFailed", "liars-2 7.3.5-lu2 Failed WrongKernel"],
        );
        for node in ["liars-1", "liars-2"] {
            assert!(is_marked(&bed.bed.node(node).await.unwrap()));
        }
    });
}

/// Invariant 5 does not hang on the agent: what a superseded leader would write, the API server refuses.
#[test]
fn invariant_5_an_agent_that_obeys_any_leader_does_no_harm() {
    run(async |bed| {
        let pool = bed.pool("obedient", 1, |_, _| {}).await;
        pool.replace_agent(1, |settings| settings.misbehaviour = lies(|lies| lies.any_epoch = true)).await;
        pool.roll(|_| {}).await;
        bed.success("obedient").await;
        let record = pool.stands(1, "Updated", "Updated").await;
        let (kernel, epoch) = (record.kernel, record.epoch.unwrap());
        assert_eq!(kernel, NEW);
        let leader = bed.bed.plane.client(&Testbed::controller_account()).unwrap();
        let mut object = bed.bed.node_update("obedient-1").await.unwrap();
        let status = object.status.as_mut().unwrap();
        status.epoch = Some(Epoch { counter: epoch.counter - 1, ..epoch.clone() });
        status.kernel = OLD.to_owned();
        let records: Api<NodeLiveUpdate> = Api::all(leader.clone());
        let refused = records.replace_status("obedient-1", &PostParams::default(), &object).await;
        says(&refused.unwrap_err().to_string(), &["epoch"]);
        let mut object = bed.bed.update("obedient").await.unwrap();
        let status = object.status.as_mut().unwrap();
        status.epoch = Some(Epoch { counter: epoch.counter - 1, ..epoch.clone() });
        let updates: Api<LiveUpdate> = Api::all(leader);
        let refused = updates.replace_status("obedient", &PostParams::default(), &object).await;
        says(&refused.unwrap_err().to_string(), &["epoch"]);
        assert_eq!(pool.stands(1, "Updated", "Updated").await.epoch, Some(epoch));
    });
}
