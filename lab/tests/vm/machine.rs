//! What others do on a machine before and during an update.

use liveupdate_lab::vm::{PATIENCE, Variant, disk};
use liveupdate_lab_guest::Order;

use crate::bed::{Bed, ENOUGH, Wanted, to};

const INIT: &str = "/bin/liveupdate-lab-init";

async fn bed(wanted: Wanted) -> Bed {
    Bed::start(wanted, |kit| vec![kit.bundle(Variant::Lu2).unwrap()]).await
}

#[tokio::test]
async fn kexec_forbidden_by_its_sysctl_blocks_the_node() {
    let bed = bed(Wanted::holder()).await;
    bed.node.output(INIT, &["put", "/proc/sys/kernel/kexec_load_disabled", "1"]).await.unwrap();
    bed.bed.apply_update(&to("real", &bed.targets[0])).await.unwrap();
    let record = bed.await_node("a block", |status| status.state == "Blocked").await;
    assert!(record.message.contains("KexecAllowed"), "{record:#?}");
    bed.assert_undisturbed().await;
    assert_eq!(bed.said_times("quiesced"), 0);
}

#[tokio::test]
async fn somebody_elses_session_blocks_the_node_until_it_is_gone() {
    let bed = bed(Wanted::holder()).await;
    let pid = bed.guest().control().start(INIT, &["session", "not-ours"], PATIENCE).await.unwrap();
    bed.guest().serial().wait_for("lab-init: holds a session", ENOUGH).await.unwrap();
    bed.bed.apply_update(&to("real", &bed.targets[0])).await.unwrap();
    let record = bed.await_node("a block", |status| status.state == "Blocked").await;
    assert!(record.message.contains("ForeignSessions"), "{record:#?}");
    bed.assert_undisturbed().await;
    assert_eq!(bed.said_times("quiesced"), 0);
    bed.node.output(INIT, &["kill", &pid.to_string()]).await.unwrap();
    bed.await_success("real").await;
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
}

#[tokio::test]
async fn invariant_11_what_was_written_and_not_synced_is_there_after_the_jump() {
    let bed = bed(Wanted::nobody()).await;
    bed.guest().control().start(INIT, &["write-on", "/var/lib/lab/numbers"], PATIENCE).await.unwrap();
    bed.node.output(INIT, &["put", "/var/lib/lab/unsynced", "not a byte is lost"]).await.unwrap();
    bed.bed.apply_update(&to("real", &bed.targets[0])).await.unwrap();
    bed.await_success("real").await;
    assert_eq!(bed.node.output(INIT, &["get", "/var/lib/lab/unsynced"]).await.unwrap(), "not a byte is lost");
    // The other one wrote until it was ended: what it wrote is there without a hole.
    let numbers = bed.node.output(INIT, &["get", "/var/lib/lab/numbers"]).await.unwrap();
    let lines: Vec<&str> = numbers.lines().collect();
    assert!(lines.len() > 100, "{}", lines.len());
    assert!(lines.iter().enumerate().all(|(index, line)| *line == index.to_string()), "a hole in {lines:?}");
    let data = bed.guest().options().disks[0].clone();
    let Bed { node, .. } = bed;
    node.power_off().await.unwrap();
    assert_eq!(disk::check(&data).unwrap(), Ok(()));
}

#[tokio::test]
async fn a_wall_clock_that_is_wrong_by_an_hour_changes_nothing() {
    let wanted = Wanted {
        guest: |options| {
            let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
            let since = hour_ago.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            let base = jiff::Timestamp::from_second(since as i64).unwrap().strftime("%Y-%m-%dT%H:%M:%S");
            options.qemu.extend(["-rtc".into(), format!("base={base}").into()]);
        },
        ..Wanted::holder()
    };
    let bed = bed(wanted).await;
    bed.bed.apply_update(&to("real", &bed.targets[0])).await.unwrap();
    bed.await_success("real").await;
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
}

#[tokio::test]
async fn invariant_6_a_keeper_killed_while_it_has_custody_undoes_the_attempt_and_the_next_one_succeeds() {
    let bed = bed(Wanted::holder()).await;
    bed.bed.apply_update(&to("real", &bed.targets[0])).await.unwrap();
    bed.await_line("preserved").await;
    bed.node.order("liveupdate-keeper", Order::Kill).await.unwrap();
    bed.await_success("real").await;
    let record = bed.await_node("the end", |status| status.state == "Updated").await;
    assert!(record.aborts >= 1, "{record:#?}");
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
}

#[tokio::test]
async fn invariant_6_an_agent_killed_while_guests_run_costs_an_attempt_at_most() {
    let bed = bed(Wanted::holder()).await;
    bed.bed.apply_update(&to("real", &bed.targets[0])).await.unwrap();
    bed.await_line("preserved").await;
    bed.node.order("liveupdate-agent", Order::Kill).await.unwrap();
    bed.await_success("real").await;
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
}
