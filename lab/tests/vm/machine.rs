//! What others do on a machine before and during an update.

use liveupdate_lab::vm::{Kernels, Kit, KitBundle, PATIENCE, Reset, Variant};
use liveupdate_lab::wait::{self, Answer};
use liveupdate_lab_guest::Order;

use crate::bed::{Bed, ENOUGH, INIT, Wanted};

async fn bed(wanted: Wanted) -> Bed {
    Bed::start(wanted, |kit| vec![kit.bundle(Variant::Lu2).unwrap()]).await
}

/// Image and initrd of a bundle, in the guest.
fn files(bundle: &KitBundle) -> (String, String) {
    let folder = format!("/var/lib/liveupdate/bundles/{}", bundle.name);
    (format!("{folder}/image"), format!("{folder}/initrd"))
}

/// Its kernel also has the old call, with which anybody could load an image that loses what is preserved.
#[tokio::test]
async fn kexec_forbidden_by_its_sysctl_or_offered_by_the_old_call_blocks_the_node() {
    let wanted = Wanted {
        guest: |options| {
            options.kernel = Kernels::find().unwrap().kernel(Variant::OldKexec).unwrap().image();
        },
        ..Wanted::holder()
    };
    let bed = bed(wanted).await;
    bed.put("/proc/sys/kernel/kexec_load_disabled", "1").await;
    bed.apply("real", &bed.targets[0]).await;
    let record = bed.await_node("a block", |status| status.state == "Blocked").await;
    for found in ["KexecAllowed", "kexec_load_disabled: 1", "CONFIG_KEXEC=y"] {
        assert!(record.message.contains(found), "{found}: {record:#?}");
    }
    bed.assert_undisturbed().await;
    assert_eq!(bed.said_times("quiesced"), 0);
}

#[tokio::test]
async fn somebody_elses_session_device_and_kernel_block_the_node_until_they_are_gone() {
    let bed = bed(Wanted::holder()).await;
    let control = bed.guest().control();
    let mut others = vec![control.start(INIT, &["session", "not-ours"], PATIENCE).await.unwrap()];
    bed.guest().serial().wait_for("lab-init: holds a session", ENOUGH).await.unwrap();
    others.push(control.start(INIT, &["open", "/dev/liveupdate"], PATIENCE).await.unwrap());
    bed.guest().serial().wait_for("lab-init: holds /dev/liveupdate", ENOUGH).await.unwrap();
    let (image, initrd) = files(&bed.targets[0]);
    bed.node.output(INIT, &["load", &image, &initrd]).await.unwrap();

    bed.apply("real", &bed.targets[0]).await;
    let record = bed.await_node("a block", |status| status.state == "Blocked").await;
    let evidence = |id: &str| {
        let gate = record.gates.iter().find(|gate| gate.id == id && gate.result == "Fail");
        gate.and_then(|gate| gate.evidence.clone()).unwrap_or_else(|| panic!("{id}: {record:#?}"))
    };
    assert!(evidence("KexecAllowed").contains("the keeper did not load it"), "{record:#?}");
    for found in ["not-ours", "/dev/liveupdate open"] {
        assert!(evidence("ForeignSessions").contains(found), "{record:#?}");
    }
    assert!(record.message.contains("KexecAllowed"), "{record:#?}");
    bed.assert_undisturbed().await;
    assert_eq!(bed.said_times("quiesced"), 0);

    for other in others {
        bed.node.output(INIT, &["kill", &other.to_string()]).await.unwrap();
    }
    bed.node.output(INIT, &["unload"]).await.unwrap();
    bed.await_success("real").await;
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
}

/// A jump that nobody syncs before does lose the same writes: it is our sync that keeps them, and no luck.
#[tokio::test]
async fn invariant_11_what_was_written_and_not_synced_is_lost_by_a_bare_jump_and_there_after_ours() {
    let bundles = |kit: &Kit| vec![kit.bundle(Variant::Lu2).unwrap(), kit.bundle(Variant::Lu1).unwrap()];
    let bed = Bed::start(Wanted::nobody(), bundles).await;
    let [there, back] = [0, 1].map(|at| &bed.targets[at]);
    let (image, initrd) = files(there);
    let args = ["jump-unsynced", &image, &initrd, &bed.guest().options().command_line()];
    // File systems write by themselves what is older than half a minute.
    bed.write_without_syncing("bare").await;
    let after = bed.guest().control().run_into_next_boot(INIT, &args, PATIENCE).await.unwrap();
    assert_eq!(after.release, there.release);
    bed.assert_something_lost("bare").await;

    bed.write_without_syncing("ours").await;
    bed.apply("real", back).await;
    bed.await_success("real").await;
    assert_eq!(bed.node.running().unwrap().number, 3);
    bed.assert_nothing_lost("ours").await;
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
    bed.apply("real", &bed.targets[0]).await;
    bed.await_success("real").await;
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
    let record = bed.await_node("the end", |status| status.state == "Updated").await;
    // What its processor's counter cannot tell is left unsaid; no clock that jumps stands in for it.
    let plausible = |blackout| (1..60_000).contains(&blackout);
    assert!(record.blackout_ms.is_none_or(plausible), "{record:#?}");
    assert_eq!(record.blackout_ms.is_none(), record.blackout == "unmeasured", "{record:#?}");
}

#[tokio::test]
async fn invariant_6_a_keeper_killed_while_it_has_custody_undoes_the_attempt_and_the_next_one_succeeds() {
    let bed = bed(Wanted::holder()).await;
    bed.apply("real", &bed.targets[0]).await;
    bed.await_line("preserved").await;
    bed.node.order("liveupdate-keeper", Order::Kill).await.unwrap();
    bed.await_success("real").await;
    let record = bed.await_node("the end", |status| status.state == "Updated").await;
    assert!(record.aborts >= 1, "{record:#?}");
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
}

/// While it drives the attempt, when the node is settled, and when all is the keeper's; on the next kernel when the keeper
/// has custody, when the holder has its session, and when it goes on. While it stages: `registry::…`.
const STEPS: [(&str, When); 6] = [
    ("] preserve", When::Before),
    ("] settled", When::Before),
    ("] quiesced", When::BesideTheJump),
    ("] custody", When::After),
    (": granted files=", When::After),
    (": resumed counter=", When::After),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    /// Nobody knows who is faster: the jump or the order.
    BesideTheJump,
    /// As soon as there is one on the next kernel.
    After,
}

/// Kills the agent, and true: there was one.
async fn kill_the_agent(bed: &Bed, when: When, boot: usize) -> bool {
    const AGENT: &str = "liveupdate-agent";
    if when != When::After {
        return bed.node.order(AGENT, Order::Kill).await.is_ok();
    }
    bed.guest().control().boot(boot, ENOUGH).await.unwrap();
    let killed = async || {
        let killed = bed.node.order(AGENT, Order::Kill).await;
        Ok(killed.map_or_else(Answer::not_yet, Answer::Yes))
    };
    wait::until("an agent to kill", ENOUGH, killed).await.is_ok()
}

#[tokio::test]
async fn invariant_6_an_agent_killed_at_any_step_costs_an_attempt_at_most_and_no_holder_notices() {
    let bundles = |kit: &Kit| vec![kit.bundle(Variant::Lu2).unwrap(), kit.bundle(Variant::Lu1).unwrap()];
    let bed = Bed::start(Wanted::holder(), bundles).await;
    for (number, (step, when)) in STEPS.into_iter().enumerate() {
        let (name, target) = (format!("real-{number}"), &bed.targets[number % 2]);
        let mark = bed.guest().serial().mark();
        bed.apply(&name, target).await;
        bed.guest().serial().wait_for_after(mark, step, ENOUGH).await.unwrap();
        let killed = kill_the_agent(&bed, when, number + 2).await;
        assert!(killed || when == When::BesideTheJump, "there was no agent to kill after {step}");
        bed.await_success(&name).await;
        assert_eq!(bed.node.running().unwrap().number, number + 2, "after {step}");
        assert!(bed.report().unbroken(bed.hold.seed), "after {step}: {:?}", bed.report());
        bed.delete(&name).await;
    }
    assert_eq!(bed.said_times("made"), 1);
}

#[tokio::test]
async fn a_next_kernel_that_panics_makes_room_for_the_old_one_and_the_node_says_that_it_failed() {
    let wanted = Wanted { guest: |options| options.reset = Reset::BootsAgain, ..Wanted::holder() };
    let bundles = |kit: &Kit| {
        let kernel = kit.kernels().kernel(Variant::Lu2).unwrap();
        let image = std::fs::read(kernel.image()).unwrap();
        // Without a first process there is nothing to run.
        vec![kit.bundle_with("panics", &kernel.release, &image, b"no archive").unwrap()]
    };
    let bed = Bed::start(wanted, bundles).await;
    let before = bed.node.running().unwrap();
    bed.apply("real", &bed.targets[0]).await;
    let record = bed.await_node("a failure", |status| status.state == "Failed").await;
    assert_eq!(record.reason, "WrongKernel", "{record:#?}");
    assert!(record.message.contains(&before.release), "{record:#?}");
    bed.guest().serial().wait_for("Kernel panic - not syncing", ENOUGH).await.unwrap();
    let after = bed.node.running().unwrap();
    assert_eq!((after.release, record.kernel), (before.release.clone(), before.release));
    assert_ne!(after.boot_id, before.boot_id);
    // What it held is gone with the kernel that should have given it back: said, and made anew.
    bed.await_anew().await;
}
