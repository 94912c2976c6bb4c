//! A rollout over many simulated nodes that take no time, measured.
//!
//! What is left is the controller's own time and the API's. Requests are counted by the API server's audit
//! log, CPU and memory by the kernel. While it runs, each node's reason in the API is compared with the
//! planner's report once a second.

mod fleet;
mod proc_stat;
mod requests;
mod truth;

use std::time::{Duration, Instant};

use kube::api::{Api, Patch, PatchParams, PostParams};
use liveupdate_agent::Limits;
use liveupdate_crds::{LiveUpdate, LiveUpdatePolicy, NodeLiveUpdate};

use crate::testbed::{Testbed, TestbedOptions};
use crate::wait::{self, Answer};
use crate::{Audit, Error, Options, Result};

/// A rollout that takes longer than this is a hang.
const ENOUGH: Duration = Duration::from_secs(1200);

/// Measures a rollout over `nodes` nodes, and prints the figures.
///
/// # Errors
/// When something does not start, or the rollout does not end.
pub async fn run(nodes: u16) -> Result<()> {
    let say = |text: String| eprintln!("{text}");
    say(format!("starting the control plane and {nodes} simulated nodes ..."));
    let user = Testbed::controller_account().user;
    let options = TestbedOptions {
        plane: Options { audit: Audit::Users(vec![user]), ..Options::default() },
        heartbeat: fleet::HEARTBEAT,
        controller_log: "warn".into(),
        // As in production, but for the knocks: nodes that take no time knock at once.
        limits: Limits { knock_spread: Duration::from_millis(20), ..Limits::default() },
        ..TestbedOptions::default()
    };
    let mut bed = Testbed::start(options, fleet::nodes(nodes)).await?;
    bed.start_controller().await?;
    let admin = bed.admin()?;
    let updates: Api<LiveUpdate> = Api::all(admin.clone());
    let records: Api<NodeLiveUpdate> = Api::all(admin.clone());
    let policies: Api<LiveUpdatePolicy> = Api::all(admin.clone());
    policies
        .patch("default", &PatchParams::apply("bench").force(), &Patch::Apply(&fleet::policy()?))
        .await
        .map_err(Error::api("apply the policy"))?;

    say("waiting until every node is known ...".to_owned());
    let wanted = usize::from(nodes);
    wait::until("a NodeLiveUpdate of every node that says what its agent found", ENOUGH, async || {
        let known = records.list(&kube::api::ListParams::default()).await;
        let known = known.map_err(Error::api("list NodeLiveUpdates"))?.items;
        // With its devices: from here on nothing is written but for the rollout's sake.
        let told = |record: &NodeLiveUpdate| record.status.as_ref().is_some_and(|s| !s.devices.is_empty());
        let known = known.iter().filter(|record| told(record)).count();
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(if known >= wanted { Answer::Yes(()) } else { Answer::not_yet(format!("{known} of {wanted}")) })
    })
    .await?;

    // Before there is anything to say: what the API still says at first was the planner's word until then.
    let admin_address = bed.admin_address(0).unwrap_or_default();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let watching = tokio::spawn(truth::watch(admin_address, records.clone(), stopped));
    tokio::time::sleep(Duration::from_secs(2)).await;

    let pid = bed.controller(0).map_or(0, |controller| controller.pid());
    let cpu_before = proc_stat::cpu(pid)?;
    let begun_at = jiff::Timestamp::now();
    let begun = Instant::now();
    updates
        .create(&PostParams::default(), &fleet::update()?)
        .await
        .map_err(Error::api("create the update"))?;
    let mut last = String::new();
    wait::until("the end of the rollout", ENOUGH, async || {
        // On a machine that has other things to do it may lose its lease and end; nobody here starts it again.
        if let Some(controller) = bed.controller(0) {
            controller.check_running()?;
        }
        let update = updates.get("bench").await.map_err(Error::api("get the update"))?;
        let status = update.status.unwrap_or_default();
        let line = format!(
            "{} of {} updated, {} in flight",
            status.counts.updated, status.counts.total, status.counts.in_flight
        );
        if line != last {
            eprintln!("  {:5.1} s  {line}", begun.elapsed().as_secs_f32());
            last.clone_from(&line);
        }
        tokio::time::sleep(Duration::from_millis(450)).await;
        let done = status
            .conditions
            .iter()
            .any(|condition| condition.type_ == "Succeeded" && condition.status == "True");
        Ok(if done { Answer::Yes(()) } else { Answer::not_yet(line) })
    })
    .await?;
    let wall = begun.elapsed();
    // The receiver is gone only when the watching failed; its error says more.
    stop.send(()).ok();
    let truth = watching.await.map_err(|error| Error::Deadline {
        what: "the end of the sampling".into(),
        waited: wall,
        detail: format!(": {error}"),
    })??;
    // The log gets the end of a request a moment after its response.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let cpu = proc_stat::cpu(pid)? - cpu_before;
    let peak = proc_stat::peak_resident_kib(pid)?;
    let requests = requests::count(&bed.plane.audit()?, begun_at);
    let largest = requests::largest(&admin).await?;

    println!("nodes                          {nodes}");
    println!("wall time                      {:.1} s", wall.as_secs_f64());
    println!("time to the first node started {:.2} s", requests.first_start.as_secs_f64());
    println!(
        "controller CPU                 {:.1} s ({:.1} ms per node)",
        cpu.as_secs_f64(),
        cpu.as_secs_f64() * 1e3 / f64::from(nodes)
    );
    println!("controller peak resident       {:.1} MiB", peak as f64 / 1024.0);
    println!("reads by the controller        {}", requests.reads);
    println!(
        "writes by the controller       {} ({:.2} per node), Events and Leases apart",
        requests.writes,
        requests.writes as f64 / f64::from(nodes)
    );
    for (what, count) in &requests.by_kind {
        println!("  {what:<28} {count}");
    }
    println!(
        "Events                         {} ({:.2} per node)",
        requests.events,
        requests.events as f64 / f64::from(nodes)
    );
    println!("largest object                 {} B ({})", largest.bytes, largest.name);
    println!("median NodeLiveUpdate          {} B", largest.median_record);
    println!("reasons compared               {truth}");
    Ok(())
}
