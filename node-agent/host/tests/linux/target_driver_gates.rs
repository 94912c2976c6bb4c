//! Gates about the target's driver: whether it has it, takes it, and lets it come first.

use std::collections::{BTreeMap, BTreeSet};

use liveupdate_host::bundle::{Contents, DriverModule};
use liveupdate_host::image::{Config, KernelImage};
use liveupdate_host::linux::boot_parameters::BootParameters;
use liveupdate_host::linux::driver::{self, ABI, Driver};
use liveupdate_host::linux::gates::{NextKernel, module_loadable, native_driver_race, pci_state_preserved};
use liveupdate_host::linux::modules::ModuleFile;
use liveupdate_node_core::gate::Gate;

use crate::machine::{Machine, fail, pass, unknown};
use crate::target_gates::image;

const NVME: &str = "0000:01:00.0";
const RELEASE: &str = "7.3.5-lu2";
const MAGIC: &str = "7.3.5-lu2 SMP preempt mod_unload ";

struct Target {
    image: KernelImage,
    contents: Result<Contents, String>,
    line: &'static str,
}

fn module(change: impl FnOnce(&mut DriverModule)) -> DriverModule {
    let file = ModuleFile {
        name: Some("vfio_pci_liveupdate".into()),
        vermagic: Some(MAGIC.into()),
        ..ModuleFile::default()
    };
    let mut module = DriverModule {
        path: "liveupdate/drivers/00-vfio_pci_liveupdate.ko".into(),
        file: Ok(file),
        abi: BTreeSet::from([ABI.to_owned()]),
    };
    change(&mut module);
    module
}

fn driver_patches() -> BTreeSet<String> {
    let all =
        ["keep-bus-master", "open-without-reset", "handed-over-files", "arrival-evidence", "luo-exports"];
    all.map(String::from).into()
}

impl Target {
    /// With the driver in its shim, and NVMe as a module.
    fn good() -> Self {
        let mut image = image();
        image.vermagic = Some(MAGIC.into());
        image.config = Ok(Config::parse("CONFIG_MODULES=y\nCONFIG_BLK_DEV_NVME=m\n"));
        image.abi.patches = driver_patches();
        let contents = Contents { shim: Some((module(|_| {}), String::new())), ..Contents::default() };
        Self { image, contents: Ok(contents), line: "quiet" }
    }

    fn shim(mut self, module: DriverModule, parameters: &str) -> Self {
        self.contents.as_mut().unwrap().shim = Some((module, parameters.into()));
        self
    }

    fn without_shim(mut self) -> Self {
        self.contents.as_mut().unwrap().shim = None;
        self
    }

    fn config(mut self, text: &str) -> Self {
        self.image.config = Ok(Config::parse(text));
        self
    }

    fn line(mut self, line: &'static str) -> Self {
        self.line = line;
        self
    }

    fn change(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn ask(&self, gate: impl FnOnce(NextKernel<'_>) -> Gate) -> Gate {
        let parameters = BootParameters::parse(self.line);
        gate(NextKernel {
            release: RELEASE,
            image: Ok(&self.image),
            contents: self.contents.as_ref().map_err(String::as_str),
            parameters: &parameters,
        })
    }

    fn loadable(&self) -> Gate {
        self.ask(|next| module_loadable(true, next))
    }

    fn race(&self, machine: &Machine) -> Gate {
        self.ask(|next| native_driver_race(NVME, machine.pci().get(NVME), next))
    }
}

#[test]
fn module_loadable_is_the_driver_in_the_shim_or_built_in() {
    pass(&Target::good().loadable(), "vermagic 7.3.5-lu2 SMP preempt mod_unload");
    let none = Target::good().without_shim();
    pass(&none.ask(|next| module_loadable(false, next)), "nobody holds a VFIO device");
    fail(&none.loadable(), "neither built in nor in its bundle");
    let built_in = Target::good().without_shim().change(|t| t.image.abi.driver = [ABI.to_owned()].into());
    pass(&built_in.loadable(), "is built in");
    let other = Target::good()
        .without_shim()
        .change(|t| t.image.abi.driver = ["liveupdate.dev/vfio-pci-v2".to_owned()].into());
    fail(&other.loadable(), "vfio-pci-v2, wanted liveupdate.dev/vfio-pci-v1");
    let late = Target::good().without_shim().change(|t| {
        t.contents.as_mut().unwrap().modules = Some(module(|_| {}));
    });
    unknown(&late.loadable(), "before /dev/liveupdate is opened does not show");
    let unreadable = Target::good().change(|t| t.contents = Err("shim.cpio: cut off".into()));
    unknown(&unreadable.loadable(), "shim.cpio: cut off");
    let unscanned =
        Target::good().without_shim().change(|t| t.image.payload.as_mut().unwrap().unpacked = None);
    unknown(&unscanned.loadable(), "cannot be read");
}

#[test]
fn module_loadable_is_what_the_targets_kernel_takes() {
    let vermagic = |magic: &str| {
        let magic = magic.to_owned();
        Target::good().shim(module(|m| m.file.as_mut().unwrap().vermagic = Some(magic)), "")
    };
    fail(&vermagic("7.3.4-lu1 SMP preempt mod_unload ").loadable(), "vermagic 7.3.4-lu1");
    fail(&vermagic("7.3.5-lu2 SMP mod_unload ").loadable(), "target's image: 7.3.5-lu2 SMP preempt");
    let mute = |target: Target| target.change(|t| t.image.vermagic = None);
    fail(&mute(vermagic("7.3.4-lu1 SMP ")).loadable(), "wanted 7.3.5-lu2");
    unknown(&mute(Target::good()).loadable(), "does not tell its own");
    let abi = module(|m| m.abi = ["liveupdate.dev/vfio-pci-v9".to_owned()].into());
    fail(&Target::good().shim(abi, "").loadable(), "vfio-pci-v9, wanted");
    fail(&Target::good().shim(module(|m| m.abi.clear()), "").loadable(), "no ABI");
    fail(
        &Target::good().shim(module(|m| m.file = Err("not a module".into())), "").loadable(),
        "not a module",
    );
    for feature in ["luo-exports", "keep-bus-master", "handed-over-files"] {
        let unpatched = Target::good().change(|t| assert!(t.image.abi.patches.remove(feature)));
        fail(&unpatched.loadable(), &format!("not patched for {feature}, which liveupdate/drivers"));
        let built_in = unpatched.change(|t| t.image.abi.driver = [ABI.to_owned()].into());
        pass(&built_in.loadable(), "is built in");
    }
    let forced = "CONFIG_MODULE_SIG_FORCE=y\n";
    fail(&Target::good().config(forced).loadable(), "not signed");
    let signed = module(|m| m.file.as_mut().unwrap().signed = true);
    unknown(&Target::good().shim(signed.clone(), "").config(forced).loadable(), "trusts that key");
    pass(&Target::good().shim(signed, "").loadable(), "signed");
    unknown(&Target::good().config("CONFIG_MODVERSIONS=y\n").loadable(), "symbol versions");
    let mute = Target::good().change(|t| t.image.config = Err("the image embeds none".into()));
    unknown(&mute.loadable(), "takes unsigned modules");
}

#[test]
fn module_loadable_with_the_opt_in_that_goes_along() {
    pass(&Target::good().shim(module(|_| {}), "enable=1").loadable(), ABI);
    fail(&Target::good().shim(module(|_| {}), "enable=0").loadable(), "nothing would be taken over");
    fail(&Target::good().line("vfio_pci_liveupdate.enable=0").loadable(), "is off");
    pass(&Target::good().line("vfio-pci-liveupdate.enable=1").loadable(), ABI);
}

#[test]
fn native_driver_race_is_lost_to_what_is_built_in() {
    let guest = Machine::guest();
    pass(&Target::good().race(&guest), "loaded before any module that takes it");
    pass(&Target::good().race(&guest), "CONFIG_BLK_DEV_NVME=m");
    let native = "CONFIG_BLK_DEV_NVME=y\n";
    fail(&Target::good().config(native).race(&guest), "CONFIG_BLK_DEV_NVME=y: it takes the device before");
    let kept_out = "quiet initcall_blacklist=x_init,nvme_init";
    pass(&Target::good().config(native).line(kept_out).race(&guest), "initcall_blacklist=nvme_init");
    let listed = |alias: &str| {
        let aliases = BTreeMap::from([("nvme".to_owned(), vec![alias.to_owned()])]);
        Target::good().change(|t| t.contents.as_mut().unwrap().built_in = Some(aliases))
    };
    fail(&listed("pci:v*d*sv*sd*bc01sc08i02*").race(&guest), "built in for it: nvme");
    pass(&listed("pci:v*d*sv*sd*bc02sc*i*").race(&guest), "no built-in driver takes it");
    // The list outranks what is guessed from the configuration.
    pass(&listed("pci:v*d*sv*sd*bc02sc*i*").config(native).race(&guest), "no built-in driver takes it");
    let gpu = Machine::guest()
        .with("sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0/class", "0x030200\n")
        .with("sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0/vendor", "0x10de\n");
    unknown(&Target::good().race(&gpu), "10de:0010 are built into the target does not show");
    unknown(&Target::good().ask(|next| native_driver_race(NVME, None, next)), "cannot be read");
    fail(&Target::good().without_shim().race(&guest), "no vfio_pci_liveupdate that could claim it");
    let late = Target::good().without_shim().change(|t| {
        t.contents.as_mut().unwrap().modules = Some(module(|_| {}));
    });
    unknown(&late.race(&guest), "which is first does not show");
}

#[test]
fn native_driver_race_is_lost_to_what_the_shim_loads_first() {
    let guest = Machine::guest();
    let after = |takes: Result<Vec<String>, String>| {
        let core = ("liveupdate/drivers/00-nvme-core.ko".to_owned(), Ok(Vec::new()));
        let native = ("liveupdate/drivers/01-nvme.ko".to_owned(), takes);
        Target::good().change(|t| t.contents.as_mut().unwrap().before = vec![core, native])
    };
    let of = |alias: &str| after(Ok(vec![alias.to_owned()]));
    fail(
        &of("pci:v*d*sv*sd*bc01sc08i02*").race(&guest),
        "01-nvme.ko takes it, and is loaded before vfio_pci",
    );
    pass(&of("pci:v*d*sv*sd*bc02sc*i*").race(&guest), "loaded before any module that takes it");
    unknown(
        &after(Err("no module".into())).race(&guest),
        "01-nvme.ko, loaded before vfio_pci_liveupdate: no module",
    );
    let mute = Machine::guest().with("sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0/modalias", "");
    unknown(&of("pci:v*d*sv*sd*bc01sc08i02*").race(&mute), "cannot tell whether");
}

#[test]
fn pci_state_is_preserved_by_both_kernels() {
    let of = |target: &Target, keeps: &str| {
        let machine = Machine::guest()
            .with("sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0/liveupdate/keeps_bus_master", keeps);
        let (driver, told) = (Driver::read(&machine.root()), driver::told(&machine.root(), NVME));
        target.ask(|next| pci_state_preserved(NVME, &driver, &told, Some(next), true))
    };
    pass(&of(&Target::good(), "1\n"), "target's image: arrival-evidence open-without-reset");
    let without =
        |feature: &'static str| Target::good().change(move |t| assert!(t.image.abi.patches.remove(feature)));
    fail(&of(&without("open-without-reset"), "1\n"), "target's image: not patched for open-without-reset");
    fail(&of(&without("arrival-evidence"), "1\n"), "not patched for arrival-evidence");
    pass(&of(&without("arrival-evidence"), "0\n"), "its holder stops its DMA");
    fail(&of(&without("open-without-reset"), "0\n"), "not patched for open-without-reset");
    let unscanned = Target::good().change(|t| t.image.payload.as_mut().unwrap().unpacked = None);
    unknown(&of(&unscanned, "1\n"), "its patches cannot be read");
}
