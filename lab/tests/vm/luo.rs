//! A real kernel jumps into another one, and what the first held is whole in the second.

use liveupdate_lab::vm::initrd::concatenate;
use liveupdate_lab::vm::options::command_line;
use liveupdate_lab::vm::{Guest, GuestOptions, Initrd, Kernels, PATIENCE, Reset, Variant};
use liveupdate_lab::{Error, RunDir};
use liveupdate_lab_guest::UP;
use liveupdate_lab_guest::probe::{Held, Probe, Reclaimed};

use crate::bed::{INIT, turn};

const MIB: u64 = 1 << 20;

/// A guest that runs `lu1` and has another kernel with an initrd under `/boot`.
async fn guest_with(folder: &RunDir, target: Variant) -> Guest {
    let kernels = Kernels::find().unwrap();
    let base = Initrd::new().unwrap().write(&folder.path().join("base.cpio")).unwrap();
    let mut boot = Initrd::empty();
    boot.file("boot/bzImage", &kernels.kernel(target).unwrap().image()).unwrap();
    boot.file("boot/initrd", &base).unwrap();
    let boot = boot.write(&folder.path().join("boot.cpio")).unwrap();
    let whole = concatenate(&[&base, &boot], &folder.path().join("whole.cpio")).unwrap();
    let options = GuestOptions::new("guest", &kernels.kernel(Variant::Lu1).unwrap(), &whole);
    let guest = Guest::start(options, folder.path()).await.unwrap();
    guest.boot(1).await.unwrap();
    guest
}

/// Chosen here, so that nothing in the guest can know it in advance.
fn held(size: u64) -> Held {
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), size);
    Held { session: "lab".into(), token: 7, size, seed }
}

fn json(probe: &Probe) -> String {
    serde_json::to_string(probe).unwrap()
}

fn jump(held: &Held) -> String {
    json(&Probe::Jump {
        held: held.clone(),
        kernel: "/boot/bzImage".into(),
        initrd: "/boot/initrd".into(),
        command_line: command_line(),
    })
}

async fn reclaim(guest: &Guest, held: &Held) -> Result<Reclaimed, Error> {
    let probe = json(&Probe::Reclaim { held: held.clone() });
    let report = guest.control().output(INIT, &["probe", &probe], PATIENCE).await?;
    Ok(serde_json::from_str(&report).unwrap())
}

#[tokio::test]
async fn memory_is_whole_in_the_next_kernel() {
    let _turn = turn().await;
    let folder = RunDir::create().unwrap();
    let guest = guest_with(&folder, Variant::Lu2).await;
    let held = held(64 * MIB + 4096);
    let before = guest.boot(1).await.unwrap();
    let mark = guest.serial().mark();

    let after = guest.control().run_into_next_boot(INIT, &["probe", &jump(&held)], PATIENCE).await.unwrap();

    let last =
        guest.serial().wait_for_after(mark, "kexec_core: Starting new kernel", PATIENCE).await.unwrap();
    let up = guest.serial().wait_for_after(mark, UP, PATIENCE).await.unwrap();
    println!("{} -> {}, {:?} from jump to init", before.release, after.release, up.at - last.at);
    assert!(before.release.ends_with("-lu1"), "{before:?}");
    assert!(after.release.ends_with("-lu2"), "{after:?}");
    assert_ne!(before.boot_id, after.boot_id);
    guest
        .serial()
        .wait_for_after(mark, &format!("KHO: exec from: {}", before.release), PATIENCE)
        .await
        .unwrap();

    assert_eq!(reclaim(&guest, &held).await.unwrap(), Reclaimed { size: held.size, wrong: 0 });
    let again = reclaim(&guest, &held).await.unwrap_err().to_string();
    assert!(again.contains("RETRIEVE_SESSION"), "{again}");
    assert!(guest.power_off().await.unwrap().success());
}

#[tokio::test]
async fn a_reset_boots_the_first_kernel_again_and_nothing_stays_behind() {
    let _turn = turn().await;
    let folder = RunDir::create().unwrap();
    let initrd = Initrd::new().unwrap().write(&folder.path().join("initrd")).unwrap();
    let kernel = Kernels::find().unwrap().kernel(Variant::Lu1).unwrap();
    let options = GuestOptions { reset: Reset::BootsAgain, ..GuestOptions::new("guest", &kernel, &initrd) };
    let guest = Guest::start(options, folder.path()).await.unwrap();
    let first = guest.boot(1).await.unwrap();
    let missing =
        guest.control().output("/bin/no-such-program", &[], PATIENCE).await.unwrap_err().to_string();
    assert!(missing.contains("could not be run"), "{missing}");
    guest.reset().await.unwrap();
    let second = guest.boot(2).await.unwrap();
    assert_eq!((&first.release, &second.release), (&kernel.release, &kernel.release));
    assert_ne!(first.boot_id, second.boot_id);
    let process = std::path::PathBuf::from(format!("/proc/{}", guest.pid()));
    assert!(process.exists());
    drop(guest);
    assert!(!process.exists());
}

#[tokio::test]
async fn a_kernel_without_live_update_receives_nothing_and_says_why() {
    let _turn = turn().await;
    let folder = RunDir::create().unwrap();
    let guest = guest_with(&folder, Variant::NoLuo).await;
    let held = held(MIB);
    let after = guest.control().run_into_next_boot(INIT, &["probe", &jump(&held)], PATIENCE).await.unwrap();
    assert!(after.release.ends_with("-noluo"), "{after:?}");
    let error = reclaim(&guest, &held).await.unwrap_err().to_string();
    assert!(error.contains("this kernel offers no live update"), "{error}");
}

#[tokio::test]
async fn a_kernel_of_another_format_panics_and_the_console_tells() {
    let _turn = turn().await;
    let folder = RunDir::create().unwrap();
    let mut guest = guest_with(&folder, Variant::OtherAbi).await;
    let mark = guest.serial().mark();
    let error = guest.control().run_into_next_boot(INIT, &["probe", &jump(&held(MIB))], PATIENCE).await;
    let error = error.unwrap_err();
    assert!(matches!(&error, Error::Guest { .. }), "{error}");
    guest.serial().wait_for_after(mark, "LUO state is incompatible with 'luo-v6'", PATIENCE).await.unwrap();
    guest.wait(PATIENCE).await.unwrap();
}
