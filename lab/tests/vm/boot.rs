//! Guests like installed machines: firmware and systemd-boot start them from their disk, and a distribution's systemd
//! is process 1.

use liveupdate_lab::vm::{Kit, Manager, PATIENCE, Variant};
use liveupdate_lab::wait::{self, Answer};

use crate::bed::{Bed, ENOUGH, INIT, Wanted};
use crate::images;
use crate::matrix::{self, Row};

const LOADER: &str = "/efi/loader/loader.conf";
const ENDED: &str = "/var/lib/lab/ended";

fn under_systemd(mut wanted: Wanted) -> Wanted {
    wanted.product.manager = Manager::Systemd;
    // As it is shipped, with the grace that services have by default.
    wanted.product.machine = vec!["--host=linux".to_owned()];
    wanted.machine = |kit, name| kit.installed(name, Variant::Lu1).unwrap();
    wanted
}

async fn bed() -> Bed {
    Bed::start(under_systemd(Wanted::holder()), |kit: &Kit| vec![kit.installed_bundle(Variant::Lu2).unwrap()])
        .await
}

/// Writes a script that does something when it is ended, says so, and syncs nothing.
async fn script(bed: &Bed, name: &str, at_its_end: &str) -> String {
    let script = format!("/var/lib/lab/{name}.sh");
    let text =
        format!("trap '{at_its_end}; echo {name} >>{ENDED}; exit 0' TERM\nwhile :; do sleep 1; done\n");
    bed.guest().control().write(&script, 0o755, &text, PATIENCE).await.unwrap();
    script
}

/// Starts it as a service.
async fn start_service(bed: &Bed, name: &str, unit: &str, at_its_end: &str) {
    let script = script(bed, name, at_its_end).await;
    let unit = format!("[Unit]\n{unit}\n[Service]\nExecStart=/bin/sh {script}\n");
    let control = bed.guest().control();
    control.write(&format!("/run/systemd/system/{name}.service"), 0o644, &unit, PATIENCE).await.unwrap();
    bed.node.output("systemctl", &["daemon-reload"]).await.unwrap();
    bed.node.output("systemctl", &["start", name]).await.unwrap();
}

async fn get(bed: &Bed, path: &str) -> String {
    bed.node.output(INIT, &["get", path]).await.unwrap()
}

#[tokio::test]
async fn invariant_11_services_end_in_order_under_systemd_and_the_verified_kernel_becomes_the_default() {
    let bed = bed().await;
    let target = bed.targets[0].clone();
    let process = get(&bed, "/proc/1/comm").await;
    assert_eq!(process.trim(), "systemd");
    // By name it would come first; by its end it waits for the other's.
    let pages =
        "head -c 8000000 /dev/urandom >/var/lib/lab/pages; sha256sum /var/lib/lab/pages >/var/lib/lab/digest";
    start_service(&bed, "database", "", pages).await;
    start_service(&bed, "front", "Requires=database.service\nAfter=database.service", "sleep 2").await;
    // With the one systemd would stop the holder, the other it would not stop at all; nobody can start them again on the
    // next kernel, where there is nothing of them.
    let needs = "/run/systemd/system/vm-a.service.d/needs.conf";
    let control = bed.guest().control();
    control.write(needs, 0o644, "[Unit]\nRequires=switch.service\n", PATIENCE).await.unwrap();
    start_service(&bed, "switch", "", "true").await;
    start_service(&bed, "audit", "RefuseManualStop=yes", "true").await;
    // As a virtual machine that nobody hands over.
    let machine = script(&bed, "machine", "sleep 1").await;
    let scope = ["--scope", "--unit=machine-qemu-1", "/bin/sh", &machine];
    control.start("systemd-run", &scope, PATIENCE).await.unwrap();
    let scope = ["is-active", "machine-qemu-1.scope"];
    wait::until("the machine's scope", ENOUGH, async || {
        Ok(match bed.node.output("systemctl", &scope).await {
            Ok(_) => Answer::Yes(()),
            Err(error) => Answer::not_yet(error),
        })
    })
    .await
    .unwrap();

    bed.apply("real", &target).await;
    bed.await_success("real").await;

    let after = bed.node.running().unwrap();
    assert_eq!((after.number, &after.release), (2, &target.release));
    let report = bed.report();
    assert!(report.unbroken(bed.hold.seed), "{report:?}\n{}", bed.guest().transcript());
    assert_eq!(get(&bed, ENDED).await, "machine\nfront\ndatabase\n");
    bed.node.output("sha256sum", &["--check", "/var/lib/lab/digest"]).await.unwrap();

    bed.guest().serial().wait_for("] persisted", ENOUGH).await.unwrap();
    let loader = get(&bed, LOADER).await;
    assert!(loader.contains("# liveupdate: default before: first.conf"), "{loader}");
    assert!(loader.ends_with(&format!(
        "default liveupdate-{}-{}.conf\n",
        target.release,
        short(&target.digest)
    )));

    // No word to the guest: what it had not written to its disk is gone, and firmware starts the default.
    bed.guest().reset().await.unwrap();
    let cold = bed.guest().control().boot(3, ENOUGH).await.unwrap();
    assert_eq!(cold.release, target.release);
    bed.node.output("sha256sum", &["--check", "/var/lib/lab/digest"]).await.unwrap();
}

#[tokio::test]
async fn a_drained_node_goes_from_a_distributions_kernel_to_one_that_can_do_more_and_on_from_there() {
    let mut wanted = under_systemd(Wanted::nobody());
    wanted.machine = |kit, name| kit.stock(name).unwrap();
    let bundles =
        |kit: &Kit| [Variant::Lu1, Variant::Lu2].map(|kernel| kit.installed_bundle(kernel).unwrap()).to_vec();
    let bed = Bed::start(wanted, bundles).await;
    let stock = bed.node.running().unwrap().release;
    let record = bed.await_node("what the stock kernel lacks", |status| !status.gates.is_empty()).await;
    let lacks = |id: &str| record.gates.iter().any(|gate| gate.id == id && gate.result == "Fail");
    assert!(lacks("LiveUpdateKernel") && lacks("KexecHandover"), "{stock}: {:#?}", record.gates);
    // Of its image alone as much is known.
    let image = images::inspected(Kit::stock_image().unwrap()).await;
    images::takes_over_nothing(&image);
    assert_eq!(image["release"], stock, "{image:#}");

    bed.apply("adopted", &bed.targets[0]).await;
    bed.await_success("adopted").await;
    let after = bed.node.running().unwrap();
    assert_eq!((after.number, &after.release), (2, &bed.targets[0].release));
    assert_ne!(after.release, stock);
    // The distribution mends its kernel from time to time.
    let series = stock.split('.').take(2).collect::<Vec<_>>().join(".");
    let kernels = [&format!("Debian's {series}"), after.release.as_str()];
    matrix::shows(&[Row { kernels, iommu: "none", held: "nothing: drained", best: "plain kexec" }]);
    bed.delete("adopted").await;

    // From here on a holder is carried along.
    bed.node.add_service(&bed.plane, &bed.product, vec![bed.hold.service()]).await.unwrap();
    bed.await_line("verdict").await;
    bed.apply("carried", &bed.targets[1]).await;
    bed.await_success("carried").await;
    assert_eq!(bed.node.running().unwrap().release, bed.targets[1].release);
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}\n{}", bed.report(), bed.guest().transcript());
}

/// As it stands in the names of boot entries.
fn short(digest: &str) -> &str {
    let hex = digest.strip_prefix("sha256:").unwrap();
    &hex[..12]
}

/// By the tool that administrators have, on a kernel that still offers kexec_load(2).
#[tokio::test]
async fn an_image_that_somebody_loaded_by_the_old_call_blocks_the_node_and_is_told_from_ours() {
    let mut wanted = under_systemd(Wanted::holder());
    wanted.machine = |kit, name| kit.installed(name, Variant::OldKexec).unwrap();
    let bed = Bed::start(wanted, |kit| vec![kit.installed_bundle(Variant::Lu2).unwrap()]).await;
    let image = format!("/var/lib/liveupdate/bundles/{}/image", bed.targets[0].name);
    bed.node.output("kexec", &["--kexec-syscall", "--load", &image, "--reuse-cmdline"]).await.unwrap();
    assert_eq!(get(&bed, "/sys/kernel/kexec_loaded").await.trim(), "1");

    bed.apply("real", &bed.targets[0]).await;
    let record = bed.await_node("a block", |status| status.state == "Blocked").await;
    for found in ["KexecAllowed", "the keeper did not load it", "CONFIG_KEXEC=y"] {
        assert!(record.message.contains(found), "{found}: {record:#?}");
    }
    bed.assert_undisturbed().await;
    assert_eq!(bed.said_times("quiesced"), 0, "{:?}", bed.said());
    // What is somebody else's is theirs to take away.
    assert_eq!(get(&bed, "/sys/kernel/kexec_loaded").await.trim(), "1");
}
