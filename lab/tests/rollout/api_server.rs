//! Invariant 6 where the API server goes away in the middle of a rollout.

use std::time::Duration;

use liveupdate_crds::IntOrPercent;
use liveupdate_crds::conditions::LiveUpdateCondition;
use liveupdate_lab::testbed::objects::is;
use liveupdate_lab::testbed::{Observer, machines};
use liveupdate_lab::wait::{self, Answer};
use liveupdate_lab::{Options, Testbed, TestbedOptions};

const LONG: Duration = Duration::from_secs(90);
const NODES: u16 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn invariant_6_a_run_goes_on_after_the_api_server_was_away() {
    // That is also how long it waits for its clients' connections when it ends in order; a minute otherwise.
    let patience = vec!["--request-timeout=10s".to_owned()];
    let plane = Options { scheduler: false, api_server_args: patience, ..Options::default() };
    let nodes = machines::nodes_like(NODES, &machines::unhurried());
    let options = TestbedOptions { plane, ..TestbedOptions::default() };
    let mut bed = Testbed::start(options, nodes).await.unwrap();
    bed.apply_policy(machines::policy()).await.unwrap();
    let observer = Observer::start(&bed).unwrap();
    bed.start_controller().await.unwrap();
    bed.await_known(LONG).await.unwrap();

    for (run, (name, release)) in [("orderly", machines::NEW), ("killed", machines::OLD)].iter().enumerate() {
        let mut update = machines::update(name, release);
        update.spec.strategy.max_unavailable = IntOrPercent::Int(2);
        bed.apply_update(&update).await.unwrap();
        let midway = |status: &liveupdate_crds::LiveUpdateStatus| {
            status.counts.updated > 0 && !status.in_flight.is_empty()
        };
        bed.await_update(name, "some over, some in flight", LONG, midway).await.unwrap();

        if *name == "orderly" {
            bed.plane.restart_api_server().await.unwrap();
        } else {
            bed.plane.kill_api_server().unwrap();
            bed.plane.start_api_server().await.unwrap();
        }

        // A controller that could not renew its lease has ended by itself, and is started again.
        wait::until(&format!("the end of {name}"), 2 * LONG, async || {
            bed.revive_controllers()?;
            let status = bed.update(name).await.ok().and_then(|update| update.status).unwrap_or_default();
            let over = is(&status.conditions, LiveUpdateCondition::Succeeded);
            Ok(if over { Answer::Yes(()) } else { Answer::not_yet(status.summary) })
        })
        .await
        .unwrap();
        let status = bed.await_rest(name, LONG).await.unwrap().status.unwrap();
        assert_eq!((status.counts.updated, status.failures), (i32::from(NODES), 0), "{name}");
        for (node, jumps) in bed.jumps().unwrap() {
            assert_eq!(jumps.len(), run + 1, "{name}: {node} jumped for {jumps:?}");
        }
        assert_eq!(observer.violations(LONG).await.unwrap(), Vec::<String>::new(), "{name}");
    }
}
