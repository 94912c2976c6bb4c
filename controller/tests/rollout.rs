//! The shipped loop over a cluster in memory: whole rollouts, and what goes wrong in them.

mod support;

use std::time::Duration;

use liveupdate_crds::conditions::LiveUpdateCondition;
use support::{Fault, Lab, spec};

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_fleet_rolls_in_steps_and_succeeds() {
    let lab = Lab::new(10);
    let steps = r#"{"maxUnavailable":3,"steps":[
        {"name":"canary","nodes":1,"bake":"30s"},{"name":"rest","nodes":"100%"}]}"#;
    lab.cluster.apply("kernel", spec(steps));
    let status = lab.roll("kernel").await;
    assert_eq!(lab.condition("kernel", LiveUpdateCondition::Succeeded), ("True".into(), "Completed".into()));
    assert_eq!((status.counts.updated, status.counts.total), (10, 10), "{status:?}");
    assert!(lab.agents.jumps().values().all(|jumps| *jumps == 1), "{:?}", lab.agents.jumps());
    assert!(status.in_flight.is_empty() && lab.cluster.marked().is_empty());
    assert!((lab.clock.start_elapsed()) >= Duration::from_secs(30), "the canary bakes");
}

#[tokio::test(start_paused = true)]
async fn invariant_1_never_more_nodes_are_out_than_may_be() {
    let lab = Lab::new(20);
    lab.cluster.apply("kernel", spec(r#"{"maxUnavailable":"20%"}"#));
    lab.roll("kernel").await;
    assert_eq!(lab.cluster.most_marked.get(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_costs_few_writes() {
    let lab = Lab::new(40);
    // Discovery first: it belongs to the installation and not to the rollout.
    lab.control("a", LONG, |lab| lab.cluster.node_update("n39").is_some_and(|n| n.status.state == "Idle"))
        .await;
    let before = lab.cluster.writes().len();
    lab.cluster.apply("kernel", spec(r#"{"maxUnavailable":"10%"}"#));
    lab.roll("kernel").await;
    let all = lab.cluster.writes();
    let of_nodes = all[before..].iter().filter(|write| !write.contains(" kernel")).count();
    assert!(of_nodes <= 40 * 6, "{of_nodes} writes: {:#?}", &all[before..]);
    let notes = lab.cluster.notes().len();
    assert!(notes <= 40 * 3 + 6, "{notes} Events");
}

#[tokio::test(start_paused = true)]
async fn a_lost_knock_costs_time_and_nothing_else() {
    let lab = Lab::new(2);
    lab.agents.fault("n00", Fault::LostKnock);
    lab.cluster.apply("kernel", spec("{}"));
    let status = lab.roll("kernel").await;
    assert_eq!(status.counts.updated, 2);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_hangs_over_the_jump_is_hung_up_by_the_knock_on_return() {
    let lab = Lab::new(2);
    lab.agents.fault("n00", Fault::NoFarewell);
    lab.cluster.apply("kernel", spec("{}"));
    let begun = tokio::time::Instant::now();
    let status = lab.roll("kernel").await;
    assert_eq!((status.counts.updated, status.failures), (2, 0), "{status:?}");
    assert_eq!(lab.agents.jumps()["n00"], 1);
    // As soon as one that says farewell: nothing waits for the connection to be given up.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn invariant_9_a_malformed_update_and_node_stop_nothing_else() {
    let lab = Lab::new(3);
    lab.cluster.edit_node("n01", |node| node.malformed = Some("status cannot be read: no".into()));
    lab.cluster.apply_read("broken", Err("spec cannot be read: no".into()));
    lab.cluster.apply("kernel", spec(r#"{"onBlocked":"Skip"}"#));
    let status = lab.roll("kernel").await;
    assert_eq!(status.counts.updated, 2, "{status:?}");
    assert_eq!(
        lab.condition("kernel", LiveUpdateCondition::Succeeded),
        ("True".into(), "CompletedWithSkipped".into())
    );
    let (accepted, reason) = lab.condition("broken", LiveUpdateCondition::Accepted);
    assert_eq!((accepted.as_str(), reason.as_str()), ("False", "SpecInvalid"));
    assert!(lab.status("broken").summary.contains("spec cannot be read"));
}

#[tokio::test(start_paused = true)]
async fn a_blocked_node_says_why_and_is_waited_for() {
    let lab = Lab::new(2);
    lab.agents.fault("n01", Fault::Blocked);
    lab.cluster.apply("kernel", spec("{}"));
    let blocked = |lab: &Lab| {
        lab.cluster.node_update("n01").is_some_and(|n| n.status.state == "Blocked")
            && lab.status("kernel").counts.updated == 1
    };
    lab.control("a", LONG, blocked).await;
    let group = lab.status("kernel").waiting;
    assert_eq!(
        (group[0].reason.as_str(), group[0].nodes.as_slice()),
        ("GateNotPassed", &["n01".to_owned()][..])
    );
    lab.agents.heal("n01");
    lab.agents.knock("n01");
    assert_eq!(lab.roll("kernel").await.counts.updated, 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_stage_the_target_is_undone_and_then_blocked() {
    let lab = Lab::new(2);
    lab.agents.fault("n00", Fault::DamagedBundle);
    lab.cluster.apply("kernel", spec(r#"{"onBlocked":"Skip"}"#));
    let status = lab.roll("kernel").await;
    assert_eq!((status.counts.updated, status.failures), (1, 0), "{status:?}");
    let node = lab.cluster.node_update("n00").unwrap().status;
    assert_eq!((node.aborts, node.state.as_str()), (3, "Skipped"), "{node:?}");
    assert_eq!(lab.agents.jumps()["n00"], 0);
    assert!(lab.cluster.marked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_agent_of_another_name_is_never_believed() {
    let lab = Lab::new(2);
    lab.agents.fault("n00", Fault::OtherName);
    lab.cluster.apply("kernel", spec(r#"{"onBlocked":"Skip"}"#));
    let status = lab.roll("kernel").await;
    assert_eq!((status.counts.updated, status.counts.skipped), (1, 1), "{status:?}");
    assert_eq!(lab.agents.jumps()["n00"], 0);
}

#[tokio::test(start_paused = true)]
async fn invariant_4_a_bad_kernel_stops_the_run() {
    let lab = Lab::new(5);
    lab.agents.fault("n00", Fault::WrongKernel);
    lab.cluster.apply("kernel", spec("{}"));
    let failed = |lab: &Lab| lab.status("kernel").failures == 1 && lab.status("kernel").in_flight.is_empty();
    lab.control("a", LONG, failed).await;
    lab.control("a", LONG, |lab| lab.clock.start_elapsed() > Duration::from_secs(120)).await;
    assert_eq!(lab.agents.jumps().values().sum::<u32>(), 1);
    assert_eq!(lab.status("kernel").failing[0].reason, "WrongKernel");
    assert_eq!(lab.cluster.node_update("n00").unwrap().status.state, "Failed");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_never_comes_back_fails_and_says_so() {
    let lab = Lab::new(2);
    lab.agents.fault("n00", Fault::NeverBack);
    lab.cluster.apply("kernel", spec("{}"));
    lab.control("a", LONG, |lab| lab.status("kernel").failures == 1).await;
    lab.control("a", LONG, |lab| !lab.status("kernel").failing.is_empty()).await;
    assert_eq!(lab.status("kernel").failing[0].reason, "DidNotReturn");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_lies_about_its_boot_is_never_updated() {
    let lab = Lab::new(1);
    lab.agents.fault("n00", Fault::LiesAboutBoot);
    lab.cluster.apply("kernel", spec("{}"));
    lab.control("a", LONG, |lab| lab.status("kernel").failures == 1).await;
    assert_eq!(lab.cluster.node_update("n00").unwrap().status.state, "Failed");
    assert_eq!(lab.status("kernel").counts.updated, 0);
}

#[tokio::test(start_paused = true)]
async fn abort_undoes_what_has_not_jumped_and_ends_the_run() {
    let lab = Lab::new(3);
    lab.agents.fault("n00", Fault::SlowToAsk);
    lab.cluster.apply("kernel", spec("{}"));
    lab.control("a", LONG, |lab| {
        lab.status("kernel").in_flight.len() == 1 && !lab.cluster.marked().is_empty()
    })
    .await;
    let revision = lab.status("kernel").revision;
    lab.cluster.edit_update("kernel", |update| {
        update.annotations.insert("liveupdate.dev/abort".into(), revision);
    });
    let status = lab.roll("kernel").await;
    assert_eq!(lab.condition("kernel", LiveUpdateCondition::Succeeded), ("False".into(), "Aborted".into()));
    assert_eq!(lab.agents.jumps().values().sum::<u32>(), 0, "{status:?}");
    assert!(lab.cluster.marked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_malformed_verb_is_told_and_ignored() {
    let lab = Lab::new(1);
    lab.agents.fault("n00", Fault::Blocked);
    lab.cluster.apply("kernel", spec("{}"));
    lab.cluster.edit_update("kernel", |update| {
        update.annotations.insert("liveupdate.dev/abort".into(), "now!".into());
    });
    lab.control("a", LONG, |lab| lab.status("kernel").summary.contains("not bound to a revision")).await;
    assert!(lab.status("kernel").finished_at.is_none());
}

/// Asks for `release` of these, as a person does.
fn release(lab: &Lab, items: &[&str]) {
    let revision = lab.status("kernel").revision;
    let items: Vec<String> = items.iter().map(|node| format!("{node}@{revision}")).collect();
    lab.cluster.edit_update("kernel", |update| {
        update.annotations.insert("liveupdate.dev/release".into(), items.join(","));
    });
}

#[tokio::test(start_paused = true)]
async fn invariant_8_what_a_node_keeps_is_given_up_by_the_verb_alone_and_told() {
    let lab = Lab::new(2);
    lab.agents.fault("n00", Fault::HolderStaysAway);
    lab.cluster.apply("kernel", spec("{}"));
    let stopped = |lab: &Lab| !lab.status("kernel").failing.is_empty() && lab.agents.unconfirmed() == 0;
    lab.control("a", LONG, stopped).await;
    assert_eq!(lab.status("kernel").failing[0].reason, "Quarantined");

    // Of other nodes there is nothing to give up, and the status says why.
    release(&lab, &["n01", "nobody"]);
    lab.control("a", LONG, |lab| lab.status("kernel").summary.contains("\"nobody\" does not exist")).await;
    let summary = lab.status("kernel").summary;
    assert!(summary.contains("verb release: node \"n01\" is not Quarantined"), "{summary}");
    assert_eq!(lab.agents.keeping(), ["n00"]);

    // Another controller than the one that took the verb may carry it out.
    lab.agents.fault("n00", Fault::HoldsFast);
    release(&lab, &["n00"]);
    lab.control("a", LONG, |lab| lab.status("kernel").summary.contains("it holds fast")).await;
    let verbs = lab.status("kernel").verbs;
    assert!(verbs.iter().any(|verb| verb.starts_with("release: n00/")), "{verbs:?}");
    assert_eq!(lab.agents.keeping(), ["n00"]);
    lab.agents.heal("n00");
    let over = |lab: &Lab| {
        let told = lab.cluster.node_update("n00").unwrap().status.last_failure;
        told.contains("an operator gave up") && lab.agents.unconfirmed() == 0
    };
    lab.control("b", LONG, over).await;
    assert_eq!(lab.agents.keeping(), [""; 0]);
    let status = lab.cluster.node_update("n00").unwrap().status;
    assert_eq!((status.state.as_str(), status.reason.as_str()), ("Failed", "Quarantined"), "as before");
    assert_eq!(lab.status("kernel").failures, 1, "counted once");
    let notes = lab.cluster.notes();
    let told = notes.iter().filter(|note| note.reason == "FilesReleased").count();
    assert_eq!(told, 1, "{notes:#?}");

    // The note is gone: what the next attempt leaves there is not given up by the same word.
    lab.control("b", LONG, |lab| {
        !lab.status("kernel").verbs.iter().any(|verb| verb.starts_with("release: n00/"))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn invariant_8_a_node_that_keeps_files_is_not_begun_anew_under_another_revision() {
    let lab = Lab::new(1);
    lab.agents.fault("n00", Fault::HolderStaysAway);
    lab.cluster.apply("kernel", spec("{}"));
    let stopped = |lab: &Lab| !lab.status("kernel").failing.is_empty() && lab.agents.unconfirmed() == 0;
    lab.control("a", LONG, stopped).await;
    lab.cluster.edit_update("kernel", |update| {
        let spec = update.spec.as_mut().unwrap();
        spec.target.release = "7.3.6".into();
        update.generation += 1;
    });
    let blocked = |lab: &Lab| {
        let status = lab.cluster.node_update("n00").unwrap().status;
        status.state == "Blocked" && status.reason == "Quarantined"
    };
    lab.control("a", LONG, blocked).await;
    assert_eq!(lab.agents.jumps()["n00"], 1);

    lab.agents.heal("n00");
    release(&lab, &["n00"]);
    let status = lab.roll("kernel").await;
    assert_eq!((status.counts.updated, lab.agents.jumps()["n00"]), (1, 2), "{status:?}");
    assert_eq!(lab.agents.keeping(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_update_leaves_nothing_behind() {
    let lab = Lab::new(4);
    lab.cluster.apply("kernel", spec(r#"{"maxUnavailable":2}"#));
    let flying = |lab: &Lab| {
        !lab.update("kernel").finalizers.is_empty() && lab.agents.jumps().values().sum::<u32>() >= 1
    };
    lab.control("a", LONG, flying).await;
    lab.cluster.edit_update("kernel", |update| update.deleting = true);
    lab.control("a", LONG, |lab| !lab.cluster.has_update("kernel")).await;
    lab.control("a", LONG, |lab| lab.cluster.marked().is_empty() && lab.agents.unconfirmed() == 0).await;
    assert!(lab.agents.jumps().values().sum::<u32>() < 4);
}

#[tokio::test(start_paused = true)]
async fn a_node_made_again_under_its_name_inherits_nothing() {
    let lab = Lab::new(2);
    lab.agents.fault("n00", Fault::NeverBack);
    lab.cluster.apply("kernel", spec(r#"{"maxFailures":1}"#));
    lab.control("a", LONG, |lab| lab.agents.down() == 1).await;
    lab.cluster.remove_node("n00");
    lab.agents.add("n00", "another");
    lab.cluster.add_node("n00", "another");
    lab.control("a", LONG, |lab| {
        lab.cluster
            .node_update("n00")
            .is_some_and(|n| n.owner_uid == "another" && n.status.node_uid == "another")
    })
    .await;
    lab.control("a", LONG, |lab| lab.finished("kernel")).await;
    assert!(lab.status("kernel").failures >= 1, "{:?}", lab.status("kernel"));
}
