//! The driver's whole way, over two jumps, with each memory request on it refused once: nothing is lost, nothing is touched
//! that is not its own, no lock is taken in two orders.

use std::path::Path;

use liveupdate_lab::vm::debug;
use liveupdate_lab_guest::trial::{CALLS, Step};

use crate::bed::{Bed, Wanted};
use crate::console::seen;

/// One for each request of RETRIEVE_FD, which fails for good, and four for what else may be wrong with a device.
const MANY: usize = 24;

async fn on_trial(bed: &Bed) -> u64 {
    bed.jumps(Step::Before(bed.next())).await;
    bed.does(Step::After).await;
    bed.does(Step::Leaks).await;
    bed.jumps(Step::Again(bed.next())).await;
    bed.does(Step::Off).await;
    bed.does(Step::Leaks).await;
    seen(&bed.console())
}

fn wanted(module: &Path) -> Wanted<'_> {
    let programs = vec![(CALLS.to_owned(), debug::calls().unwrap())];
    Wanted { devices: MANY, programs, ..Wanted::new(module) }
}

#[tokio::test]
async fn without_an_iommu_each_refused_request_ends_well() {
    let module = debug::module().unwrap();
    let bed = Bed::start("plain", wanted(&module)).await;
    let count = on_trial(&bed).await;
    println!("{count} things seen without an IOMMU");
    assert!(count > 500, "{count}");
}

#[tokio::test]
async fn behind_an_iommu_each_refused_request_ends_well() {
    let module = debug::module().unwrap();
    let bed = Bed::start("iommu", Wanted { iommu: true, ..wanted(&module) }).await;
    let count = on_trial(&bed).await;
    println!("{count} things seen behind an IOMMU");
    assert!(count > 500, "{count}");
}
