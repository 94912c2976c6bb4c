//! Two updates that want the same nodes.

use liveupdate_crds::LiveUpdateStatus;
use liveupdate_crds::conditions::LiveUpdateCondition;
use liveupdate_host::simulated::Pace;
use liveupdate_lab::testbed::machines::{NEW, bundle};
use liveupdate_lab::testbed::objects::is;

use crate::bed::{run, says};

#[test]
fn the_older_one_goes_first_and_the_other_says_whom_it_waits_for() {
    const NEWER: &str = "7.3.6-lu2";
    run(async |bed| {
        let pool = bed
            .pool("wanted", 2, |_, world| {
                world.bundles.push(bundle(NEWER));
                world.pace = Pace::Real;
                world.durations.stage = 1_500;
            })
            .await;
        let mut older = pool.update("wanted-a", NEW);
        older.spec.paused = true;
        bed.bed.apply_update(&older).await.unwrap();
        bed.update("wanted-a", "paused", |status| status.state == "Paused").await;
        bed.bed.apply_update(&pool.update("wanted-b", NEWER)).await.unwrap();
        let conflicted = |status: &LiveUpdateStatus| is(&status.conditions, LiveUpdateCondition::Conflicted);
        let status = bed.update("wanted-b", "Conflicted", conflicted).await;
        assert_eq!((status.counts.waiting, status.in_flight.len()), (2, 0));
        says(&status.summary, &["waits for 2 nodes that wanted-a has"]);
        let described = bed.kubectl("describe lu wanted-b").await;
        says(&described, &["wanted by older updates, too: wanted-a", "Type: Conflicted"]);
        // A node belongs to one update alone.
        for number in [1, 2] {
            let owner = pool.stands(number, "Queued", "WaitingForTurn").await.update_name;
            assert_eq!(owner, "wanted-a");
        }

        bed.kubectl(r#"patch lu wanted-a --type=merge -p {"spec":{"paused":false}}"#).await;
        bed.update("wanted-a", "in flight", |status| !status.in_flight.is_empty()).await;
        let newer = bed.bed.update("wanted-b").await.unwrap().status.unwrap();
        assert!(newer.in_flight.is_empty(), "{newer:?}");
        bed.success("wanted-a").await;
        let status = bed.success("wanted-b").await;
        assert_eq!(status.counts.updated, 2);
        let table = bed.kubectl("get lu wanted-a wanted-b").await;
        says(&table, &["wanted-a 7.3.5-lu2 1/1 all 2 2 0", "wanted-b 7.3.6-lu2 1/1 all 2 2 0"]);
        let table = bed.kubectl("get nlu wanted-1 wanted-2").await;
        says(&table, &["wanted-1 7.3.6-lu2 Updated Updated", "wanted-2 7.3.6-lu2 Updated Updated"]);
        let last = bed.kubectl("describe lu wanted-b").await;
        says(&last, &["2 of 2 nodes run the target"]);
    });
}
