//! Two updates that want the same nodes.

use liveupdate_host::simulated::Pace;
use liveupdate_lab::testbed::machines::{NEW, bundle};

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
        let mut older = pool.update("wanted-older", NEW);
        older.spec.paused = true;
        bed.bed.apply_update(&older).await.unwrap();
        bed.update("wanted-older", "paused", |status| status.state == "Paused").await;
        bed.bed.apply_update(&pool.update("wanted-newer", NEWER)).await.unwrap();
        let status = bed.update("wanted-newer", "Conflicted", |s| s.waiting.len() == 1).await;
        assert_eq!((status.waiting[0].reason.as_str(), status.waiting[0].count), ("Conflicted", 2));
        assert!(status.in_flight.is_empty());
        let described = bed.kubectl("describe lu wanted-newer").await;
        says(&described, &["wanted by older updates, too: wanted-older", "Type: Conflicted"]);
        // A node belongs to one update alone.
        for record in pool.records().await {
            assert_eq!(record.status.unwrap().update_name, "wanted-older");
        }

        bed.kubectl(r#"patch lu wanted-older --type=merge -p {"spec":{"paused":false}}"#).await;
        bed.update("wanted-older", "in flight", |status| !status.in_flight.is_empty()).await;
        let newer = bed.bed.update("wanted-newer").await.unwrap().status.unwrap();
        assert!(newer.in_flight.is_empty(), "{newer:?}");
        bed.success("wanted-older").await;
        let status = bed.success("wanted-newer").await;
        assert_eq!(status.counts.updated, 2);
        let table = bed.kubectl("get lu wanted-older wanted-newer").await;
        says(&table, &["wanted-older 7.3.5-lu2 1/1 all 2 2 0", "wanted-newer 7.3.6-lu2 1/1 all 2 2 0"]);
        let table = bed.kubectl("get nlu wanted-1 wanted-2").await;
        says(&table, &["wanted-1 7.3.6-lu2 Updated Updated", "wanted-2 7.3.6-lu2 Updated Updated"]);
        let last = bed.kubectl("describe lu wanted-newer").await;
        says(&last, &["2 of 2 nodes run the target"]);
    });
}
