//! The demo from start to summary.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use liveupdate_proto::causes::chain;

use super::summary::{self, Device, Seen};
use crate::demo::Shell;
use crate::testbed::machines::POOL;
use crate::testbed::{Testbed, TestbedOptions};
use crate::vm::driver::Driven;
use crate::vm::hold::{Hold, HoldReport, events};
use crate::vm::passed::{Passed, Passthrough};
use crate::vm::passthrough::{Behind, Slot};
use crate::vm::{Boot, Kit, KitBundle, NodePlace, PATIENCE, Product, Programs, Variant, VmNode, phases};
use crate::wait::{self, Answer};
use crate::{Error, Result, RunDir, binaries};

const GUESTS: u8 = 3;
const UPDATE: &str = "demo-vm";
/// Ten times what three jumps take: a loaded machine must not fail the demo.
const ENOUGH: Duration = Duration::from_mins(10);
/// A disk so slow that its commands are under way from the old kernel until the next one has the device again.
const SLOT: Slot = Slot { behind: Behind::RootPort, commands_per_second: 5, held: true };
/// A holder that was found whole says so a moment after it went on.
const AFTERWARDS: Duration = Duration::from_secs(60);

/// One guest of the demo.
struct Machine {
    node: VmNode,
    hold: Hold,
    passed: Passed,
    before: Boot,
}

/// Shows three real kernels being replaced under a holder each.
///
/// # Errors
/// When something does not start, the rollout does not succeed, or what was promised was not seen.
pub async fn run() -> Result<()> {
    let begun = Instant::now();
    let say = |text: &str| eprintln!("[{:6.1} s] {text}", begun.elapsed().as_secs_f32());
    say("building kernels and programs, if they are not (minutes, once)");
    let plugin = binaries::fresh("kubectl-liveupdate", "kubectl-liveupdate")?;
    binaries::fresh("liveupdate-controller", "liveupdate-controller")?;
    let folder = RunDir::create()?;
    let passthrough = Passthrough { devices: vec![SLOT], ..Passthrough::default() };
    let kit = Kit::with_modules(folder.path(), Programs::InInitrd, &passthrough.modules()?)?;
    let target = kit.driven_bundle(&Driven::new(Variant::Lu2)?)?;

    say("starting etcd, kube-apiserver, kube-controller-manager, kube-scheduler and the controller");
    let mut bed = Testbed::start(TestbedOptions::default(), Vec::new()).await?;
    bed.start_controller().await?;
    say(&format!(
        "booting {GUESTS} QEMU guests under software emulation; in each a holder with 16 MiB and an NVMe controller"
    ));
    let mut machines = Vec::new();
    for index in 0..GUESTS {
        machines.push(boot(&bed, &kit, &passthrough, folder.path(), index).await?);
    }
    let release = machines.first().map(|machine| machine.before.release.clone()).unwrap_or_default();
    say(&format!("all guests run {release}; their holders count"));

    let shell = Shell::new(&bed, plugin, ENOUGH)?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = folder.path().join("liveupdate.yaml");
    fs::write(&manifest, update(&target)).map_err(Error::file("write", &manifest))?;
    say("applying the platform's policy and the update: canary of one, then all, one at a time");
    shell.kubectl(&["apply", "-f", &here.join("demo/policy-vm.yaml").to_string_lossy()]).await?;
    shell.kubectl(&["apply", "-f", &manifest.to_string_lossy()]).await?;
    eprintln!();
    let watching = shell.watch(UPDATE)?;
    let timeout = format!("--timeout={}s", ENOUGH.as_secs());
    let name = format!("lu/{UPDATE}");
    let waited = shell.kubectl_quietly(&["wait", "--for=condition=Succeeded", &name, &timeout]).await;
    drop(watching);
    eprintln!();
    shell.plugin(&["status", UPDATE]).await?;
    if let Err(error) = waited {
        for machine in &machines {
            eprintln!(
                "--- the end of {}'s console\n{}",
                machine.node.name(),
                machine.node.guest().serial().tail()
            );
        }
        return Err(error);
    }

    let mut all = Vec::new();
    for machine in &machines {
        all.push(look(&bed, machine).await?);
    }
    println!("\n{}", summary::table(&all));
    let missing = summary::missing(&all, &target.release);
    if missing.is_empty() {
        say(&format!("{release} was replaced by {} under {GUESTS} running holders", target.release));
        return Ok(());
    }
    let detail = format!(": {}", missing.join("; "));
    Err(Error::Deadline { what: "all that the demo promises".into(), waited: begun.elapsed(), detail })
}

async fn boot(
    bed: &Testbed,
    kit: &Kit,
    passthrough: &Passthrough,
    folder: &Path,
    index: u8,
) -> Result<Machine> {
    let name = format!("vm-{}", char::from(b'a' + index));
    // Its pattern is looked at after it went on, as a real guest's memory would not be looked at at all.
    let mut hold = Hold::new(&format!("guest-{name}")).arg("--check-after");
    let mut options = kit.guest(&name, Variant::Lu1)?;
    let passed = passthrough.pass(folder, &mut options)?;
    passed.tell(&mut hold);
    let product = Product { beside: vec![hold.service()], ..Product::default() };
    let place = NodePlace::new(index, &name).label(POOL.0, POOL.1);
    let node = VmNode::start(bed, place, options, &product, folder).await?;
    let text = format!("{}: verdict", hold.name);
    node.guest().serial().wait_for(&text, PATIENCE).await?;
    let before = node.running()?;
    Ok(Machine { node, hold, passed, before })
}

/// Reads what became of one guest; its holder may need a moment to look at its memory.
async fn look(bed: &Testbed, machine: &Machine) -> Result<Seen> {
    let Machine { node, hold, passed, before } = machine;
    let report = || HoldReport::of(&events(&node.guest().serial().lines(), &hold.name));
    let what = format!("all that holder {} says after a jump", hold.name);
    let seen = wait::until(&what, AFTERWARDS, async || {
        let report = report();
        Ok(if report.wrong.is_some() && report.later.is_some() {
            Answer::Yes(())
        } else {
            Answer::not_yet(format!("{report:?}"))
        })
    });
    if let Err(error) = seen.await {
        eprintln!("{}", chain(&error));
    }
    let status = bed.node_update(node.name()).await?.status.unwrap_or_default();
    let lines = node.guest().serial().lines();
    let stood = |what: &str| {
        let said = format!("{}: {what}", hold.name);
        lines.iter().rev().find(|line| line.text.contains(&said)).map(|line| line.wall)
    };
    let mut devices = Vec::new();
    for device in &passed.devices {
        let found = status.devices.iter().find(|found| found.address == device.address).cloned();
        let sight = match (stood("quiesced"), stood("resumed")) {
            (Some(from), Some(to)) => Some(passed.sight(device, from, to)?),
            _ => None,
        };
        devices.push(Device { address: device.address.clone(), found, sight });
    }
    Ok(Seen {
        name: node.name().to_owned(),
        before: before.clone(),
        after: node.running()?,
        seed: hold.seed,
        held: report(),
        phases: phases::of_last_jump(&node.guest().serial().lines()),
        told: status.blackout,
        devices,
    })
}

fn update(target: &KitBundle) -> String {
    let KitBundle { name, digest, release } = target;
    format!(
        "apiVersion: liveupdate.dev/v1alpha1\nkind: LiveUpdate\nmetadata:\n  name: {UPDATE}\nspec:\n  \
         nodeSelector:\n    matchLabels:\n      {}: {}\n  target:\n    release: {release}\n    bundle:\n      \
         name: {name}\n      digest: {digest}\n  acknowledge: [NoKdump, VfioPciLiveUpdate, UnconfinedDma]\n  devices:\n  \
         - {{name: disks, match: {{class: \"0108\"}}, onUpdate: Preserve, minimumContinuity: Uninterrupted, onShortfall: Block}}\n  \
         strategy:\n    maxUnavailable: 1\n    steps:\n    \
         - {{name: canary, nodes: 1, bake: 2s}}\n    - {{name: rest, nodes: 100%}}\n",
        POOL.0, POOL.1
    )
}
