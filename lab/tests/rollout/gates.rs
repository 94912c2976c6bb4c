//! Gates that do not pass, and owners that refuse.

use liveupdate_crds::update::OnBlocked;
use liveupdate_host::simulated::{Answer, GateSpec, WorldSpec};
use liveupdate_lab::testbed::machines::{OLD, failing_gate};

use crate::bed::{is_clean, run, says};

fn no_handover(world: &mut WorldSpec) {
    world.gates.push(GateSpec {
        id: "KexecHandover".into(),
        subject: None,
        release: None,
        result: Answer::Fail,
        evidence: Some("/proc/cmdline: kho=on is not there".into()),
        remedy: Some("boot the node once with kho=on".into()),
    });
}

fn second_has_no_handover(number: u16, world: &mut WorldSpec) {
    if number == 2 {
        no_handover(world);
    }
}

#[test]
fn a_node_whose_gate_is_mended_goes_on_by_itself() {
    run(async |bed| {
        let pool = bed.pool("mended", 3, second_has_no_handover).await;
        pool.roll(|_| {}).await;
        let status = bed
            .update("mended", "two updated, one blocked", |s| s.summary.contains("waits for 1 blocked"))
            .await;
        assert_eq!((status.state.as_str(), status.failures), ("Progressing", 0));
        pool.stands(2, "Blocked", "GateNotPassed").await;
        says(&bed.kubectl("get nlu mended-2").await, &["mended-2 7.3.4-lu1 Blocked GateNotPassed 1 Blocked"]);
        let described = bed.kubectl("describe nlu mended-2").await;
        says(
            &described,
            &[
                "Id: KexecHandover",
                "Evidence: /proc/cmdline: kho=on is not there",
                "Remedy: boot the node once with kho=on",
            ],
        );
        says(&bed.kubectl("describe lu mended").await, &["mended-2", "GateNotPassed", "waits for 1 blocked"]);
        says(&bed.kubectl("describe node mended-2").await, &["GateNotPassed"]);

        pool.node(2).world().change(|world| world.gates.clear()).unwrap();
        assert_eq!(bed.success("mended").await.counts.updated, 3);
    });
}

#[test]
fn on_blocked_skip_goes_on_without_and_names_it() {
    run(async |bed| {
        let pool = bed.pool("skipped", 3, second_has_no_handover).await;
        pool.roll(|update| update.spec.strategy.on_blocked = OnBlocked::Skip).await;
        let status = bed.success("skipped").await;
        assert_eq!((status.counts.updated, status.counts.skipped, status.counts.eligible), (2, 1, 2));
        says(&bed.kubectl("get lu skipped").await, &["2 3 0", "CompletedWithSkipped"]);
        says(&bed.kubectl("describe lu skipped").await, &["left out: skipped-2"]);
        pool.stands(2, "Skipped", "GateNotPassed").await;
        assert_eq!(pool.node(2).world().running().unwrap().unwrap().release, OLD);
        says(&bed.kubectl("get nlu skipped-2").await, &["7.3.4-lu1 Skipped GateNotPassed"]);
    });
}

#[test]
fn on_blocked_fail_counts_it_against_the_budget() {
    run(async |bed| {
        let pool = bed.pool("counted", 3, second_has_no_handover).await;
        pool.roll(|update| update.spec.strategy.on_blocked = OnBlocked::Fail).await;
        let status = bed.update("counted", "stopped", |s| s.state == "FailureBudgetSpent").await;
        assert_eq!((status.counts.blocked, status.failures), (1, 0));
        let described = bed.kubectl("describe lu counted").await;
        says(&described, &["stopped: 1 failures and 0 may fail", "GateNotPassed", "counted-2"]);
        bed.plugin(&["accept-failure", "counted"]).await;
        assert_eq!(bed.success("counted").await.counts.updated, 2);
        says(&bed.kubectl("get lu counted").await, &["2 3", "CompletedWithSkipped"]);
        says(&bed.kubectl("describe lu counted").await, &["left out: counted-2"]);
    });
}

/// The strictest voice wins, and is named (docs/concepts.md: three voices decide).
#[test]
fn a_workloads_refusal_blocks_its_node_alone() {
    run(async |bed| {
        let pool = bed
            .pool("refused", 2, |number, world| {
                if number == 1 {
                    world.holders[0].refuses = true;
                }
            })
            .await;
        pool.roll(|_| {}).await;
        bed.update("refused", "one of each", |s| s.counts.updated == 1 && s.counts.blocked == 1).await;
        let record = pool.node_update("refused-1", "Blocked", |status| status.state == "Blocked").await;
        says(&record.message, &["vm-a"]);
        let described = bed.kubectl("describe nlu refused-1").await;
        says(&described, &["Decided By: Workload", "Verdict: Blocks"]);
        bed.node("refused-1", "clean", is_clean).await;
        bed.plugin(&["skip", "refused", "refused-1"]).await;
        bed.success("refused").await;
        says(&bed.kubectl("get nlu refused-1").await, &["Skipped Skipped"]);
    });
}

/// A gate that is unknown is not passed, and one that fails for another target is nobody's business.
#[test]
fn unknown_is_not_a_pass_and_gates_speak_of_their_own_target() {
    run(async |bed| {
        let pool = bed
            .pool("unknown", 2, |number, world| {
                let mut gate = failing_gate("KexecHandover");
                if number == 1 {
                    gate.result = Answer::Unknown;
                } else {
                    gate.release = Some("7.9.9".into());
                }
                world.gates.push(gate);
            })
            .await;
        pool.roll(|_| {}).await;
        bed.update("unknown", "one of each", |s| s.counts.updated == 1 && s.counts.blocked == 1).await;
        pool.stands(1, "Blocked", "GateNotPassed").await;
        pool.stands(2, "Updated", "Updated").await;
        says(&bed.kubectl("describe nlu unknown-1").await, &["Result: Unknown", "Evidence: the lab said so"]);
    });
}
