//! What a holder tells of its disks once all that is new has gone round after a return.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::bed::{Bed, ENOUGH};

/// Of each disk. One that does not work any more has none: the wait for it fails.
pub(crate) async fn summaries(bed: &Bed, mark: usize) -> Vec<BTreeMap<String, u64>> {
    let mut all = Vec::new();
    for device in &bed.passed.devices {
        let text = format!("device {} summary ", device.address);
        let line = bed.guest().serial().wait_for_after(mark, &text, ENOUGH).await.unwrap();
        println!("{}", line.text);
        let words = line.text.split_whitespace().filter_map(|word| word.split_once('='));
        all.push(words.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect());
    }
    all
}

fn none(all: &[BTreeMap<String, u64>], names: &[&str]) {
    for (name, summary) in names.iter().flat_map(|name| all.iter().map(move |summary| (name, summary))) {
        assert_eq!(summary.get(*name), Some(&0), "{name}: {summary:?}");
    }
}

/// No command was lost, none was asked twice, and all data is right.
pub(crate) async fn whole(bed: &Bed, mark: usize) {
    none(&summaries(bed, mark).await, &["holes", "lost", "wrong", "failed", "strange"]);
}

/// What was on its way may be lost and asked again; but each disk works: commands that were asked since are done, with what
/// is on the disk, by the holder's word and by the witness's.
pub(crate) async fn work_again(bed: &Bed, mark: usize, resumed: SystemTime) {
    let all = summaries(bed, mark).await;
    none(&all, &["holes", "wrong", "failed", "strange"]);
    for (device, summary) in bed.passed.devices.iter().zip(&all) {
        assert!(summary["after"] > 0, "{summary:?}");
        let sight = bed.passed.sight(device, resumed, SystemTime::now()).unwrap();
        assert!(!sight.completions.is_empty() && sight.errors.is_empty(), "{sight:#?}");
    }
    let console = bed.guest().serial().lines();
    let failed = console.iter().skip(mark).find(|line| line.text.contains("could not be set up anew"));
    assert!(failed.is_none(), "{failed:?}");
}
