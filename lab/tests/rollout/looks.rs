//! What a person reads of a run that is over, as plain kubectl prints it, held by the files in `golden/`.

use liveupdate_crds::IntOrPercent;
use liveupdate_crds::update::OnBlocked;
use liveupdate_host::simulated::{Answer, FactsSpec, GateSpec};

use crate::bed::{Bed, run, step};
use crate::masks::is_golden;

async fn raw(bed: &Bed, args: &str) -> String {
    let output = bed.bed.plane.kubectl(args.split_whitespace()).await.unwrap();
    assert_eq!(output.code, Some(0), "kubectl {args}: {}", output.stderr);
    output.stdout
}

/// Events are counted by kubectl's own clock, and come in the order in which the server took them.
fn without_events(text: &str) -> &str {
    text.split("\nEvents:").next().unwrap()
}

#[test]
fn a_finished_run_reads_well() {
    run(async |bed| {
        let pool = bed
            .pool("read", 4, |number, world| match number {
                2 => world.devices[0].facts = FactsSpec::paused(4),
                3 => world.devices[0].facts = FactsSpec::reinitialised(),
                4 => world.gates.push(GateSpec {
                    id: "KexecHandover".into(),
                    subject: None,
                    release: None,
                    result: Answer::Fail,
                    evidence: Some("/proc/cmdline: kho=on is not there".into()),
                    remedy: Some("boot the node once with kho=on".into()),
                }),
                _ => {}
            })
            .await;
        pool.roll(|update| {
            update.spec.strategy.on_blocked = OnBlocked::Skip;
            let (one, all) = (IntOrPercent::Int(1), IntOrPercent::Percent("100%".into()));
            update.spec.strategy.steps = vec![step("canary", one), step("rest", all)];
        })
        .await;
        bed.success("read").await;
        for (number, state) in [(1, "Updated"), (2, "Updated"), (3, "Updated"), (4, "Skipped")] {
            pool.node_update(&pool.name_of(number), state, |status| status.state == state).await;
        }
        let table = raw(bed, "get lu/read nlu/read-1 nlu/read-2 nlu/read-3 nlu/read-4").await;
        is_golden("rollout/golden/get.txt", &table);
        is_golden("rollout/golden/describe-lu.txt", without_events(&raw(bed, "describe lu read").await));
        for (name, node) in [("updated", "read-1"), ("paused", "read-2"), ("skipped", "read-4")] {
            let described = raw(bed, &format!("describe nlu {node}")).await;
            is_golden(&format!("rollout/golden/describe-nlu-{name}.txt"), without_events(&described));
        }
    });
}
