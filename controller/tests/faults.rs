//! Controllers that die, sleep, or find others in their place.

mod support;

use std::rc::Rc;
use std::time::Duration;

use liveupdate_controller::lease::{Elector, LeaseLost, Timing};
use support::cluster::Strike;
use support::{DIGEST, Fault, Lab, spec};

const LONG: Duration = Duration::from_secs(3600);
const STRATEGY: &str =
    r#"{"maxUnavailable":2,"steps":[{"name":"canary","nodes":1},{"name":"rest","nodes":"100%"}]}"#;

/// One rollout with a controller that dies at one write and is started again.
async fn die_at(write: usize, strike: Strike) -> bool {
    let lab = Lab::new(3);
    lab.cluster.apply("kernel", spec(STRATEGY));
    lab.cluster.strike(write, strike);
    lab.control("a", LONG, |lab| lab.cluster.is_dead() || lab.finished("kernel")).await;
    let struck = lab.cluster.is_dead();
    lab.cluster.revive();
    let status = lab.roll("kernel").await;
    let context = format!("{strike:?} write {write}: {:#?}", lab.cluster.writes());
    assert_eq!((status.counts.updated, status.failures), (3, 0), "{context}");
    assert!(lab.agents.jumps().values().all(|jumps| *jumps == 1), "{:?} {context}", lab.agents.jumps());
    assert!(lab.cluster.most_marked.get() <= 2, "{context}");
    struck
}

#[tokio::test(start_paused = true)]
async fn invariant_6_a_controller_may_die_at_every_write() {
    for strike in [Strike::Before, Strike::After] {
        let mut write = 0;
        // Every write of an undisturbed run gets its turn, until there is none with that number.
        while die_at(write, strike).await {
            write += 1;
        }
        assert!(write > 15, "only {write} writes were struck");
    }
}

#[tokio::test(start_paused = true)]
async fn a_conflict_at_any_write_is_observed_again_and_counted_again() {
    for write in 0..30 {
        let lab = Lab::new(3);
        lab.cluster.apply("kernel", spec(STRATEGY));
        lab.cluster.strike(write, Strike::Conflict);
        let status = lab.roll("kernel").await;
        assert_eq!((status.counts.updated, status.failures), (3, 0), "conflict at write {write}");
        assert!(lab.cluster.most_marked.get() <= 2);
    }
}

#[tokio::test(start_paused = true)]
async fn invariant_5_a_leader_that_lost_its_lease_ends() {
    let lab = Lab::new(2);
    lab.cluster.apply("kernel", spec(STRATEGY));
    lab.control("a", LONG, |lab| !lab.cluster.marked().is_empty()).await;
    // Somebody takes it while we lead.
    let thief = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        lab.cluster.steal_lease("b");
        std::future::pending::<()>().await;
    };
    let lost = tokio::select! {
        lost = lab.control("a", LONG, |_| false) => lost,
        () = thief => None,
    };
    assert!(matches!(lost, Some(LeaseLost::Taken { ref holder, .. }) if holder == "b"), "{lost:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stale_lease_stops_every_write() {
    let lab = Lab::new(2);
    lab.cluster.apply("kernel", spec(STRATEGY));
    // The API server takes writes of everything but the lease.
    let elector = Elector::new(Rc::clone(&lab.cluster), Rc::clone(&lab.clock), "a", Timing::default());
    let term = elector.acquire().await;
    assert!(term.holds(&*lab.clock));
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(!term.holds(&*lab.clock), "it was not renewed for longer than it may be relied on");
    let parts = (Rc::clone(&lab.cluster), Rc::clone(&lab.agents), Rc::clone(&lab.clock));
    let shared = std::sync::Arc::default();
    let mut engine = liveupdate_controller::engine::Engine::new(parts, term, 9443, shared);
    let (_sender, mut knocks) = tokio::sync::mpsc::channel(1);
    let before = lab.cluster.writes().len();
    let mut observed = liveupdate_controller::cluster::Cluster::observe(&*lab.cluster);
    assert!(!engine.turn(&mut observed, &mut knocks).await);
    assert_eq!(lab.cluster.writes().len(), before);
}

#[tokio::test(start_paused = true)]
async fn invariant_5_an_older_leader_is_refused_by_the_server_and_by_agents() {
    let lab = Lab::new(1);
    lab.cluster.apply("kernel", spec(STRATEGY));
    lab.control("a", LONG, |lab| lab.status("kernel").epoch.is_some_and(|e| e.counter == 1)).await;
    let old = lab.status("kernel");
    lab.control("a", LONG, |lab| lab.status("kernel").epoch.is_some_and(|e| e.counter == 2)).await;
    let version = lab.update("kernel").version;
    let write =
        liveupdate_controller::cluster::Cluster::write_update_status(&*lab.cluster, "kernel", &version, &old);
    assert!(write.await.unwrap_err().to_string().contains("never lowered"));
}

#[tokio::test(start_paused = true)]
async fn a_standby_waits_until_the_lease_runs_out_and_takes_the_next_epoch() {
    let lab = Lab::new(1);
    let elect = |name| Elector::new(Rc::clone(&lab.cluster), Rc::clone(&lab.clock), name, Timing::default());
    let first = elect("a").acquire().await;
    assert_eq!(first.epoch.counter, 1);
    let before = lab.clock.start_elapsed();
    let second = elect("b").acquire().await;
    assert_eq!(second.epoch.counter, 2);
    assert!(lab.clock.start_elapsed() - before >= Duration::from_secs(15));
    // Released: no waiting. Its own name: no waiting either.
    elect("b").release(&second).await.unwrap();
    let before = lab.clock.start_elapsed();
    assert_eq!(elect("c").acquire().await.epoch.counter, 3);
    assert_eq!(elect("c").acquire().await.epoch.counter, 4);
    assert!(lab.clock.start_elapsed() - before < Duration::from_secs(1));
}

/// What the API server and the nodes hold on to does not go with the Lease, nor with the updates.
#[tokio::test(start_paused = true)]
async fn invariant_5_who_leads_after_a_lease_was_deleted_counts_on_from_what_nodes_say() {
    use liveupdate_controller::cluster::{Cluster as _, LeaseObject};
    let lab = Lab::new(2);
    lab.cluster.write_lease(&LeaseObject { epoch: 12, ..LeaseObject::default() }).await.unwrap();
    lab.cluster.apply("kernel", spec(STRATEGY));
    lab.roll("kernel").await;
    assert_eq!(lab.status("kernel").epoch.unwrap().counter, 13);

    lab.cluster.edit_update("kernel", |update| {
        update.deleting = true;
        update.finalizers.clear();
    });
    lab.cluster.delete_lease();
    lab.cluster.apply("next", spec(STRATEGY));
    let asks =
        |lab: &Lab| lab.cluster.node_update("n01").is_some_and(|n| n.status.update_uid.contains("next"));
    lab.control("b", LONG, |lab| asks(lab) && lab.finished("next")).await;
    assert_eq!(lab.cluster.lease().epoch, 14);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_labelled_is_given_back_and_one_that_was_taken_is_left_alone() {
    use liveupdate_controller::cluster::Cluster as _;
    let lab = Lab::new(1);
    let elect = |name| Elector::new(Rc::clone(&lab.cluster), Rc::clone(&lab.clock), name, Timing::default());
    let first = elect("a").acquire().await;
    // As an upgrade of the chart does, too.
    lab.cluster.write_lease(&lab.cluster.lease()).await.unwrap();
    elect("a").release(&first).await.unwrap();
    assert_eq!(lab.cluster.lease().holder, "");

    let second = elect("b").acquire().await;
    lab.cluster.steal_lease("c");
    elect("b").release(&second).await.unwrap();
    assert_eq!(lab.cluster.lease().holder, "c");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_for_a_while_delays_and_harms_nothing() {
    let lab = Lab::new(4);
    lab.cluster.apply("kernel", spec(STRATEGY));
    let outage = async {
        tokio::time::sleep(Duration::from_millis(3_300)).await;
        lab.cluster.down.set(true);
        tokio::time::sleep(Duration::from_secs(4)).await;
        lab.cluster.down.set(false);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = lab.control("a", LONG, |lab| lab.finished("kernel")) => {}
        () = outage => {}
    }
    let status = lab.status("kernel");
    assert_eq!((status.counts.updated, status.failures), (4, 0));
    assert!(lab.agents.jumps().values().all(|jumps| *jumps == 1));
}

#[tokio::test(start_paused = true)]
async fn invariant_6_an_answer_that_comes_late_is_not_taken_for_the_next_nodes() {
    let lab = Lab::new(1);
    lab.agents.fault("n00", Fault::LateAnswer);
    let again = async {
        while lab.agents.calls.get() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        lab.cluster.remove_node("n00");
        lab.agents.add("n00", "another");
        lab.agents.fault("n00", Fault::Silent);
        lab.cluster.add_node("n00", "another");
        std::future::pending::<()>().await;
    };
    let a_while = |lab: &Lab| lab.clock.start_elapsed() > Duration::from_secs(20);
    tokio::select! {
        _ = lab.control("a", LONG, a_while) => {}
        () = again => {}
    }
    assert!(lab.agents.calls.get() > 1, "the new node's agent is asked for itself");
    let known = lab.cluster.node_update("n00");
    assert!(known.is_none(), "no agent has ever answered for this node: {known:?}");
}

/// The end is what a controller that starts anew has to go by: nothing may be written over it that is worth
/// less, however long the attempt takes to leave.
#[tokio::test(start_paused = true)]
async fn invariant_6_an_end_stands_until_its_attempt_has_left() {
    let lab = Lab::new(1);
    lab.agents.fault("n00", Fault::SlowToAsk);
    lab.cluster.apply("kernel", spec(STRATEGY));
    lab.control("a", LONG, |lab| !lab.cluster.marked().is_empty()).await;
    lab.cluster.stuck.set("unmark");
    let revision = lab.status("kernel").revision;
    lab.cluster.edit_update("kernel", |update| {
        update.annotations.insert("liveupdate.dev/abort".into(), revision);
    });
    let state = |lab: &Lab| lab.cluster.node_update("n00").map(|n| n.status.state).unwrap_or_default();
    lab.control("a", LONG, |lab| state(lab) == "Aborted").await;
    let ended = lab.clock.start_elapsed();
    lab.control("a", LONG, |lab| {
        assert_eq!(state(lab), "Aborted", "it is written over while its attempt is in flight");
        lab.clock.start_elapsed() > ended + Duration::from_secs(30)
    })
    .await;
    assert_eq!(lab.status("kernel").in_flight.len(), 1);
    lab.cluster.stuck.set("nothing");
    lab.roll("kernel").await;
    assert_eq!(lab.agents.jumps().values().sum::<u32>(), 0);
}

/// The keeper alone knows what became of a jump. A controller that starts while it is down has nobody to ask, and
/// forgets nothing: the kernel that came up wrong would be given to the next node.
#[tokio::test(start_paused = true)]
async fn invariant_6_a_jump_is_remembered_while_nobody_can_say_what_became_of_it() {
    for agent in [None, Some(Fault::OldAgent)] {
        let lab = Lab::new(2);
        lab.agents.fault("n00", Fault::WrongKernel);
        lab.agents.fault("n00", Fault::LateKubelet);
        agent.into_iter().for_each(|fault| lab.agents.fault("n00", fault));
        lab.cluster.apply("kernel", spec(STRATEGY));
        lab.control("a", LONG, |lab| lab.agents.jumps()["n00"] == 1).await;

        lab.agents.fault("n00", Fault::NoKeeper);
        let started = lab.clock.start_elapsed();
        lab.control("a", LONG, |lab| {
            assert_eq!(lab.status("kernel").in_flight.len(), 1, "{agent:?}");
            assert_eq!(lab.cluster.marked(), ["n00"], "{agent:?}");
            lab.clock.start_elapsed() > started + Duration::from_secs(60)
        })
        .await;
        assert!(lab.cluster.node_update("n00").is_some());

        lab.agents.heal("n00");
        lab.cluster.edit_node("n00", |node| {
            node.boot_id = format!("boot-{}-1", node.uid);
            node.ready = true;
        });
        lab.control("a", LONG, |lab| lab.status("kernel").in_flight.is_empty()).await;
        let status = lab.status("kernel");
        assert_eq!((status.failures, status.bad_targets.as_slice()), (1, &[DIGEST.to_owned()][..]));
        let known = lab.cluster.node_update("n00").unwrap().status;
        assert_eq!((known.state.as_str(), known.reason.as_str()), ("Failed", "WrongKernel"));
        assert_eq!(lab.agents.jumps()["n01"], 0);
    }
}
