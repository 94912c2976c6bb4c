//! Invariants 5 and 6 where controllers follow each other: one leads, the other takes over, and who slept
//! through its lease is refused.

use std::time::Duration;

use liveupdate_crds::{Epoch, LiveUpdateStatus};
use liveupdate_lab::testbed::agents::subject;
use liveupdate_lab::testbed::{Observer, machines};
use liveupdate_lab::wait::{self, Answer};
use liveupdate_lab::write_proxy::{Fate, Moment, Write, WriteClass};
use liveupdate_lab::{Audit, Options, Testbed, TestbedOptions, WriteProxy};
use liveupdate_proto::node::v1::{AbortRequest, InspectRequest};
use liveupdate_proto::refusal::Refusal;
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_secs(90);
const NODES: u16 = 4;

async fn bed() -> Testbed {
    let plane = Options {
        audit: Audit::Users(vec![Testbed::controller_account().user]),
        scheduler: false,
        ..Options::default()
    };
    let options = TestbedOptions { plane, ..TestbedOptions::default() };
    let nodes = machines::nodes_like(NODES, &machines::unhurried());
    let bed = Testbed::start(options, nodes).await.unwrap();
    bed.apply_policy(machines::policy()).await.unwrap();
    bed
}

fn epoch(status: &LiveUpdateStatus) -> Epoch {
    status.epoch.clone().unwrap()
}

/// The run is over, and every node went over once.
async fn all_over_once(bed: &Testbed, observer: &Observer) {
    bed.await_success("roll", 2 * LONG).await.unwrap();
    let status = bed.await_rest("roll", LONG).await.unwrap().status.unwrap();
    assert_eq!((status.counts.updated, status.failures), (i32::from(NODES), 0));
    for (node, jumps) in bed.jumps().unwrap() {
        assert_eq!(jumps.len(), 1, "{node} jumped for {jumps:?}");
    }
    assert_eq!(observer.violations(LONG).await.unwrap(), Vec::<String>::new());
}

async fn takes_over(bed: &Testbed, from: &Epoch) -> Epoch {
    let raised = |status: &LiveUpdateStatus| epoch(status).counter > from.counter;
    let update = bed.await_update("roll", "another leader's epoch", LONG, raised).await.unwrap();
    epoch(&update.status.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn invariant_6_another_controller_takes_over_from_one_that_died() {
    let mut bed = bed().await;
    let observer = Observer::start(&bed).unwrap();
    bed.start_controller().await.unwrap();
    bed.await_known(LONG).await.unwrap();
    let standby = bed.start_controller().await.unwrap();
    bed.apply_update(&machines::update("roll", machines::NEW)).await.unwrap();
    let begun = bed.await_update("roll", "a node over", LONG, |status| status.counts.updated > 0).await;
    let first = epoch(&begun.unwrap().status.unwrap());
    assert_eq!(first.counter, 1, "the one that came first leads, and the other stands by");
    bed.controller(standby).unwrap().check_running().unwrap();

    bed.controller(0).unwrap().kill().unwrap();

    let second = takes_over(&bed, &first).await;
    assert_eq!((second.counter, second.cluster), (2, first.cluster));
    all_over_once(&bed, &observer).await;
    for record in bed.node_updates().await.unwrap() {
        let status = record.status.unwrap();
        assert_eq!(status.state, "Updated", "{}", status.message);
    }
}

/// A write of the leader is on its way when its process is frozen; it arrives when another one leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn invariant_5_a_leader_that_slept_through_its_lease_changes_nothing_more() {
    let mut bed = bed().await;
    let observer = Observer::start(&bed).unwrap();
    let proxy = WriteProxy::start(&bed.plane, &Testbed::controller_account()).await.unwrap();
    bed.start_controller_with(proxy.kubeconfig()).await.unwrap();
    bed.await_known(LONG).await.unwrap();
    bed.start_controller().await.unwrap();
    bed.apply_update(&machines::update("roll", machines::NEW)).await.unwrap();
    let begun = bed.await_update("roll", "a node over", LONG, |status| status.counts.updated > 0).await;
    let first = epoch(&begun.unwrap().status.unwrap());

    let sleeper = bed.controller(0).unwrap().handle();
    let go_on = CancellationToken::new();
    // Until another one leads: nothing of this leader's gets through meanwhile.
    let until = go_on.clone();
    let is_status = |write: &Write| write.resource == "liveupdates" && write.subresource == "status";
    let sprung = proxy.arm_first("a write of the update's status", Moment::Before, is_status, move |_| {
        sleeper.freeze().unwrap();
        Fate::Hold(until)
    });
    let second = takes_over(&bed, &first).await;
    go_on.cancel();
    let late = sprung.wait(LONG).await.unwrap();
    let refused = wait::until("an answer to the late write", LONG, async || {
        let write = proxy.writes().into_iter().find(|w| (w.class, w.number) == (late.class, late.number));
        let code = write.and_then(|write| write.code);
        Ok(code.map_or_else(|| Answer::not_yet("none"), Answer::Yes))
    })
    .await
    .unwrap();
    assert!(refused == 409 || refused == 422, "{late} was answered with {refused}");

    bed.controller(0).unwrap().thaw().unwrap();

    let status = bed.controller(0).unwrap().wait(LONG).await.unwrap();
    assert_eq!(status.code(), Some(1), "it ends, to be started again as a standby");
    let writes = proxy.writes();
    let after = writes.iter().skip_while(|write| (write.class, write.number) != (late.class, late.number));
    for write in after.filter(|write| write.class == WriteClass::Object || write.class == WriteClass::Lease) {
        assert!(write.code.is_none_or(|code| code >= 400), "{write} was answered with {:?}", write.code);
    }
    let audited = bed.plane.audit().unwrap();
    let refusals = audited.iter().filter(|entry| {
        entry.resource == "liveupdates" && entry.subresource == "status" && entry.code == refused
    });
    assert!(refusals.count() > 0, "the API server itself refused it");
    all_over_once(&bed, &observer).await;
    agents_refuse(&bed, &first, &second).await;
}

/// What a stale leader would say is refused by every agent, whatever it is.
async fn agents_refuse(bed: &Testbed, stale: &Epoch, valid: &Epoch) {
    let foreign = Epoch { cluster: "another-cluster".into(), counter: valid.counter + 1 };
    for node in bed.fleet.nodes() {
        let jumps = node.world().jumps().unwrap();
        let mut agent = bed.agent(node).await.unwrap();
        for (epoch, refusal) in [(stale, Refusal::StaleEpoch), (&foreign, Refusal::ForeignCluster)] {
            let look = InspectRequest { subject: Some(subject(node, epoch, "")) };
            let status = agent.inspect(look).await.unwrap_err();
            assert_eq!(Refusal::of(&status), Some(refusal), "{status}");
            let subject = Some(subject(node, epoch, &jumps[0]));
            let status = agent.abort(AbortRequest { subject, reason: "late".into() }).await.unwrap_err();
            assert_eq!(Refusal::of(&status), Some(refusal), "{status}");
        }
        let look = InspectRequest { subject: Some(subject(node, valid, "")) };
        agent.inspect(look).await.unwrap();
    }
}
