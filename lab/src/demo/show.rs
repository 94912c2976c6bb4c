//! The demo from start to summary.

use std::path::Path;
use std::time::{Duration, Instant};

use super::machines::{SOURCE_RELEASE, TARGET_RELEASE, machines};
use super::{Shell, promised};
use crate::testbed::{Testbed, TestbedOptions};
use crate::wait::{self, Answer};
use crate::{Account, Result, binaries};

const NODES: u16 = 20;
/// Generous: a loaded machine must not fail the demo.
const ENOUGH: Duration = Duration::from_secs(240);
/// What only tells is written a moment after the end.
const TOLD: Duration = Duration::from_secs(30);

/// Shows a fleet being updated. With `keep` it stays up until Ctrl-C.
///
/// # Errors
/// When something does not start, the rollout does not succeed, or its summary lacks what was promised.
pub async fn run(keep: bool) -> Result<()> {
    let begun = Instant::now();
    let say = |text: &str| eprintln!("[{:5.1} s] {text}", begun.elapsed().as_secs_f32());
    say("building the controller and the kubectl plugin, if they are not");
    let plugin = binaries::fresh("kubectl-liveupdate", "kubectl-liveupdate")?;
    binaries::fresh("liveupdate-controller", "liveupdate-controller")?;
    say("starting etcd, kube-apiserver, kube-controller-manager, kube-scheduler");
    say(&format!("  and {NODES} simulated nodes with three devices each, all on {SOURCE_RELEASE}"));
    let mut bed = Testbed::start(TestbedOptions::default(), machines(NODES)).await?;
    bed.start_controller().await?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shell = Shell::new(&bed, plugin.clone(), ENOUGH)?;

    say("applying the platform's policy and the update: canary of one, then 25 %, then all");
    shell.kubectl(&["apply", "-f", &here.join("../crds/examples/policy.yaml").to_string_lossy()]).await?;
    shell.kubectl(&["apply", "-f", &here.join("demo/liveupdate.yaml").to_string_lossy()]).await?;
    eprintln!();
    let watching = shell.watch("demo")?;
    let timeout = format!("--timeout={}s", ENOUGH.as_secs());
    let waited = shell.kubectl_quietly(&["wait", "--for=condition=Succeeded", "lu/demo", &timeout]).await;
    drop(watching);
    eprintln!();
    let told = match waited {
        Ok(()) => told(&bed, &plugin).await,
        Err(error) => Err(error),
    };
    shell.plugin(&["status", "demo"]).await?;
    told?;
    say(&format!(
        "{SOURCE_RELEASE} was replaced by {TARGET_RELEASE}; nothing of it was real but the control plane"
    ));

    println!();
    println!("To look around{}:", if keep { "" } else { ", run `make demo KEEP=1` and in another terminal" });
    let path = shell.path();
    println!(
        "  export KUBECONFIG={}",
        if keep { shell.kubeconfig().display().to_string() } else { "<as it says>".into() }
    );
    println!("  export PATH={}:$PATH", if keep { path } else { "<as it says>".into() });
    println!("  kubectl get lu,nlu                     # the run, and every node");
    println!("  kubectl liveupdate status demo         # the tree above");
    println!("  kubectl liveupdate explain hv-07       # why that node was skipped, and what would mend it");
    println!("  kubectl describe nlu hv-05             # the facts behind a device's outcome");
    println!("  kubectl get events -A                  # what happened when");
    if keep {
        println!();
        println!("It stays up until Ctrl-C.");
        crate::commands::until_asked().await?;
    }
    Ok(())
}

/// Waits until the summary has all that the demo promises.
async fn told(bed: &Testbed, plugin: &Path) -> Result<()> {
    wait::until("all that the demo promises in its summary", TOLD, async || {
        let summary = bed.plane.run_as(plugin, &Account::admin(), &["status", "demo"]).await?;
        let missing = promised::missing(&summary.stdout, NODES);
        Ok(if missing.is_empty() { Answer::Yes(()) } else { Answer::not_yet(missing.join("; ")) })
    })
    .await
}
