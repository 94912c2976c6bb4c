//! A LiveUpdate on the real control plane makes real kernels jump.

use std::path::Path;

use liveupdate_crds::NodeLiveUpdateStatus;
use liveupdate_lab::vm::{GuestOptions, Variant, disk, phases};
use liveupdate_lab_guest::UP;
use serde_json::json;

use crate::bed::{Bed, ENOUGH, INIT, Wanted};
use crate::masks::is_golden;
use crate::matrix::{self, Row};

/// Of a holder's own disk.
const OWN_BYTES: usize = 1 << 20;

#[tokio::test]
async fn a_guest_that_holds_nothing_jumps_into_the_next_kernel() {
    let bed = Bed::start(Wanted::nobody(), |kit| vec![kit.bundle(Variant::Lu2).unwrap()]).await;
    let target = &bed.targets[0];
    let before = bed.node.running().unwrap();

    bed.apply("real", target).await;
    bed.await_success("real").await;

    let after = bed.node.running().unwrap();
    assert_eq!((before.number, after.number), (1, 2));
    assert!(before.release.ends_with("-lu1") && after.release == target.release, "{before:?} {after:?}");
    assert_ne!(before.boot_id, after.boot_id);
    let record = bed.await_node("the end", |status| status.state == "Updated").await;
    assert_eq!((&record.kernel, &record.boot_id), (&after.release, &after.boot_id));
    assert!(!record.blackout.contains("simulated"), "{}", record.blackout);
}

/// What a disk would have in it that had the secret: the words in which it is told, and those in which memory has it.
fn forms(seed: u64) -> Vec<Vec<u8>> {
    let words = [format!("{seed:x}"), format!("{seed:X}"), format!("{seed}")].map(String::into_bytes);
    words.into_iter().chain([seed.to_le_bytes().to_vec(), seed.to_be_bytes().to_vec()]).collect()
}

/// A holder that gets its secret from a disk of its own, which is nowhere else: this machine chose it, and no file of the
/// guest has it.
async fn start_holder_with_a_disk(bed: &Bed) {
    let mut secret = format!("{:x}\n", bed.hold.seed).into_bytes();
    secret.resize(OWN_BYTES, 0);
    std::fs::write(own_disk(bed), secret).unwrap();
    let mut service = bed.hold.service();
    let program = std::mem::replace(&mut service.program, INIT.into()).display().to_string();
    service.args.splice(0..0, ["with-input", "/dev/vdb", &program].map(str::to_owned));
    service.input.clear();
    bed.node.add_service(&bed.plane, &bed.product, vec![service]).await.unwrap();
    bed.await_line("verdict").await;
}

fn own_disk(bed: &Bed) -> &Path {
    &bed.guest().options().disks[1]
}

/// While no kernel runs: the one has said its last line, and the next one has started no program. The holder's disk is
/// wiped, and neither another disk nor what the next kernel is started with has the secret. What comes back then was in
/// memory.
async fn wipe_between_two_kernels(bed: &Bed) {
    bed.guest().serial().wait_for("kexec_core: Starting new kernel", ENOUGH).await.unwrap();
    bed.guest().qmp("stop", json!({})).await.unwrap();
    let up = format!("{UP}{}", bed.targets[0].release);
    assert!(!bed.guest().serial().transcript().contains(&up), "the next kernel was faster");
    let (forms, own) = (forms(bed.hold.seed), own_disk(bed).to_owned());
    assert_eq!(disk::find(&own, &forms).unwrap(), Some(forms[0].as_slice()), "it is there until it is wiped");
    std::fs::write(&own, vec![0; OWN_BYTES]).unwrap();
    let GuestOptions { kernel, initrd, disks, .. } = bed.guest().options();
    for file in disks.iter().chain([kernel, initrd]) {
        let found = disk::find(file, &forms).unwrap();
        assert_eq!(found.map(String::from_utf8_lossy), None, "{}", file.display());
    }
    bed.guest().qmp("cont", json!({})).await.unwrap();
}

#[tokio::test]
async fn a_holders_memory_and_counter_come_through_the_jump_unbroken() {
    let guest = |options: &mut GuestOptions| {
        let own = options.disks[0].with_extension("own");
        options.disks.push(disk::empty(&own, OWN_BYTES as u64).unwrap());
    };
    let wanted = Wanted { guest, ..Wanted::nobody() };
    let bed = Bed::start(wanted, |kit| vec![kit.bundle(Variant::Lu2).unwrap()]).await;
    start_holder_with_a_disk(&bed).await;

    let before = bed.release();
    bed.apply("real", &bed.targets[0]).await;
    wipe_between_two_kernels(&bed).await;
    bed.await_success("real").await;

    let after = bed.node.running().unwrap();
    assert_eq!((after.number, &after.release), (2, &bed.targets[0].release));
    let report = bed.report();
    assert!(report.unbroken(bed.hold.seed), "{report:?}\n{}", bed.guest().transcript());
    let kernels = [before.as_str(), after.release.as_str()];
    matrix::shows(&[Row { kernels, iommu: "none", held: "memory alone", best: "goes on" }]);
    let phases = phases::of_last_jump(&bed.guest().serial().lines());
    println!("{phases:#?}");
    assert!(phases.whole.is_some(), "{phases:?}");
    assert!(phases.each.iter().all(|(_, took)| took.is_some()), "{phases:?}");
    reads_well(&bed, &before).await;
}

/// As an operator sees it who asks for all of it. What differs from run to run has a name instead.
async fn reads_well(bed: &Bed, before: &str) {
    let told = |status: &NodeLiveUpdateStatus| status.state == "Updated" && !status.holders.is_empty();
    let record = bed.await_node("the end", told).await;
    let output = bed.plane.plane.kubectl(["get", "nlu", bed.node.name(), "-o", "yaml"]).await.unwrap();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    // Made anew for each test.
    let key = record.gates.iter().filter_map(|gate| gate.evidence.as_deref()?.split("(key ").nth(1)).next();
    let key = key.and_then(|rest| rest.split(')').next()).unwrap();
    let revision = format!("revision: {}", record.revision);
    let named = [
        (record.attempt.as_str(), "ATTEMPT"),
        (&revision, "revision: REVISION"),
        (key, "KEY"),
        (&bed.targets[0].digest, "DIGEST"),
        (&bed.targets[0].release, "NEXT-KERNEL"),
        (before, "KERNEL-BEFORE"),
        (bed.node.name(), "NODE"),
    ];
    let text = named.into_iter().fold(output.stdout, |text, (chosen, name)| text.replace(chosen, name));
    println!("{text}");
    is_golden("vm/golden/nlu-real.yaml", &text);
}
