//! The watchers would see: a driver with a defect that each of them is there for.

use liveupdate_lab::vm::debug;
use liveupdate_lab_guest::trial::Step;

use crate::bed::{Bed, Wanted};
use crate::console::{quiet, reports};

#[tokio::test]
async fn each_watcher_sees_the_defect_that_it_is_there_for() {
    let module = debug::defective_module().unwrap();
    let bed = Bed::start("defects", Wanted::new(&module)).await;
    let defect = |name: &str| Step::Defect(name.to_owned());

    // Built of the same source, and without a defect turned on: nothing to be seen.
    bed.does(defect("")).await;
    bed.does(Step::Leaks).await;
    quiet(&bed.console());

    for name in ["restless", "unmaskable"] {
        bed.does(Step::NoFreeze(name.to_owned(), bed.next())).await;
    }
    quiet(&bed.console());

    // In this order: once lockdep or KASAN have reported, lockdep says no more.
    bed.does(defect("lost")).await;
    let lost = bed.fails(Step::Leaks).await;
    assert!(lost.contains("the driver lost") && lost.contains("lu_preserve"), "{lost}");
    quiet(&bed.console());

    bed.does(defect("order")).await;
    let order = reports(&bed.console());
    assert!(
        order.iter().any(|report| report.has("possible circular locking") && report.has("lu_unpreserve")),
        "{order:#?}"
    );
    assert!(!order.iter().any(|report| report.has("KASAN")), "{order:#?}");

    bed.does(defect("freed")).await;
    let freed = reports(&bed.console());
    assert!(
        freed.iter().any(|report| report.has("KASAN: use-after-free") && report.has("lu_unpreserve")),
        "{freed:#?}"
    );
    println!("3 defects seen: lost memory, an order of locks, use after free; 2 refused at freeze");
}
