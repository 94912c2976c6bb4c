//! `liveupdate-init` runs first in a real kernel, says so, and leaves its place to the real init.

use liveupdate_host::bundle::shim::{Driver, Keeper, Shim, command_line};
use liveupdate_lab::RunDir;
use liveupdate_lab::vm::initrd::concatenate;
use liveupdate_lab::vm::{Guest, GuestOptions, Initrd, Kernels, PATIENCE, Variant, static_binaries};
use liveupdate_lab_guest::UP;

use crate::bed::turn;

/// A guest whose initrd has the shim behind it.
async fn guest(folder: &RunDir, shim: impl FnOnce(Vec<u8>) -> Shim, append: &str) -> Guest {
    let kernels = Kernels::find().unwrap();
    let init = static_binaries::fresh("liveupdate-shim", "liveupdate-init").unwrap();
    let base = Initrd::new().unwrap().write(&folder.path().join("base")).unwrap();
    let behind = folder.path().join("shim");
    std::fs::write(&behind, shim(std::fs::read(init).unwrap()).archive()).unwrap();
    let whole = concatenate(&[&base, &behind], &folder.path().join("initrd")).unwrap();
    let mut options = GuestOptions::new("guest", &kernels.kernel(Variant::Lu1).unwrap(), &whole);
    options.append.push(command_line(append));
    Guest::start(options, folder.path()).await.unwrap()
}

/// A driver of the kernel that the guest boots.
fn driver(path: &str, parameters: &str) -> Driver {
    let modules = Kernels::find().unwrap().kernel(Variant::Lu1).unwrap().modules();
    let path = modules.join(path);
    Driver {
        name: path.file_name().unwrap().to_str().unwrap().to_owned(),
        module: std::fs::read(&path).unwrap(),
        parameters: parameters.to_owned(),
    }
}

#[tokio::test]
async fn the_shim_runs_first_loads_drivers_and_leaves_its_place_to_the_real_init() {
    let _turn = turn().await;
    let folder = RunDir::create().unwrap();
    let drivers = vec![
        Driver { name: "broken.ko".into(), module: b"no module".to_vec(), parameters: String::new() },
        driver("kernel/drivers/nvme/host/nvme-core.ko", "nonsense=1"),
    ];
    let guest = guest(&folder, |init| Shim { init, drivers, keeper: None }, "").await;
    // The lab's own first process came up behind it: nothing of ours is mounted in its way.
    guest.boot(1).await.unwrap();
    let serial = guest.serial();
    let first = serial.wait_for("liveupdate-init: first instruction at counter ", PATIENCE).await.unwrap();
    let broken = serial.wait_for("cannot load /liveupdate/drivers/00-broken.ko", PATIENCE).await.unwrap();
    let loaded = serial.wait_for("loaded /liveupdate/drivers/01-nvme-core.ko", PATIENCE).await.unwrap();
    let up = serial.wait_for(UP, PATIENCE).await.unwrap();
    assert!([first.at, broken.at, loaded.at, up.at].is_sorted(), "{}", serial.transcript());
    // The kernel's own word on the parameters that came with it.
    serial.wait_for("nvme_core: unknown parameter 'nonsense' ignored", PATIENCE).await.unwrap();
}

#[tokio::test]
async fn the_shim_starts_the_keeper_and_the_real_init_comes_up_beside_it() {
    let _turn = turn().await;
    let folder = RunDir::create().unwrap();
    let program = static_binaries::fresh("liveupdate-lab-guest", "liveupdate-lab-init").unwrap();
    let keeper =
        Keeper { program: std::fs::read(program).unwrap(), arguments: vec!["probe".into(), "{}".into()] };
    let shim = |init| Shim { init, drivers: Vec::new(), keeper: Some(keeper) };
    let guest = guest(&folder, shim, "").await;
    let serial = guest.serial();
    serial.wait_for("liveupdate-init: started the keeper, process ", PATIENCE).await.unwrap();
    // It runs with its arguments, and its words come into the log, in the pieces in which it writes them.
    serial.wait_for("no such probe: ", PATIENCE).await.unwrap();
    guest.boot(1).await.unwrap();
}

#[tokio::test]
async fn without_a_real_init_the_kernel_panics_and_says_why() {
    let _turn = turn().await;
    let folder = RunDir::create().unwrap();
    let shim = |init| Shim { init, ..Shim::default() };
    let guest = guest(&folder, shim, "rdinit=/nowhere").await;
    let serial = guest.serial();
    serial.wait_for("cannot run /nowhere: No such file", PATIENCE).await.unwrap();
    serial.wait_for("Kernel panic - not syncing: Attempted to kill init!", PATIENCE).await.unwrap();
}
