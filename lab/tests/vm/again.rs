//! Again and again: ten updates of one guest with devices behind a switch, there and back. The longest test, and by its
//! name the first to begin.

use std::collections::BTreeMap;

use liveupdate_lab::vm::passthrough::Behind;

use crate::bed::{Bed, INIT, Wanted};
use crate::cadence::never_still;
use crate::devices::{bundles, uninterrupted, update};
use crate::matrix::{self, Row};
use crate::passthrough::two;

/// Boots of one kernel differ by less than that without any leak, in KiB: ten MiB were seen. Six times the holder's
/// memory, which a leak of it would be, is 96 MiB.
const NOISE: i64 = 20 << 10;

async fn memory(bed: &Bed) -> BTreeMap<String, i64> {
    let text = bed.node.output(INIT, &["memory"]).await.unwrap();
    let words = text.split_whitespace().filter_map(|word| word.split_once('='));
    words.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

#[tokio::test]
async fn ten_updates_in_a_row_leak_nothing_and_the_holder_and_its_devices_go_on_through_all_of_them() {
    let wanted = Wanted { passthrough: two(Behind::Switch), ..Wanted::holder() };
    let bed = Bed::start(wanted, |kit| bundles(kit, &[])).await;
    let mut seen: Vec<BTreeMap<String, i64>> = Vec::new();
    let mut counter = 0;
    for number in 0..10 {
        let (name, target) = (format!("real-{number}"), &bed.targets[number % 2]);
        let update = update(&bed, &name, target).await;
        uninterrupted(&update);
        never_still(&update);
        assert_eq!(bed.node.running().unwrap().number, number + 2);
        let report = bed.report();
        assert!(report.unbroken(bed.hold.seed), "update {number}: {report:?}");
        assert!(report.quiesced > Some(counter), "update {number}: {report:?}");
        counter = report.quiesced.unwrap();
        bed.delete(&name).await;
        seen.push(memory(&bed).await);
        println!("{number}: {:?}", seen[number]);
    }
    let [there, back] = [0, 1].map(|at| bed.targets[at].release.as_str());
    let row = |kernels| Row {
        kernels,
        iommu: "none",
        held: "2 NVMe behind a switch, five times in turn with the other way",
        best: "`Uninterrupted`",
    };
    matrix::shows(&[row([back, there]), row([there, back])]);
    // The first jump loses to the handover what stays lost; boots of one kernel are compared.
    for (first, last) in [(2, 8), (3, 9)] {
        let (first, last) = (&seen[first], &seen[last]);
        for (name, before) in first {
            let after = last[name];
            let noise = if name.starts_with("Mem") { NOISE } else { 0 };
            assert!((after - before).abs() <= noise, "{name}: {before} → {after}, in all {seen:#?}");
        }
    }
}
