//! Services by systemd: stopped in the order that their units say, and started again by thaw.

use std::time::Duration;

use super::super::calls::{Calls, Said};
use super::super::store::io_error;
use super::spared::Spared;
use crate::HostError;

/// Those that start containers anew when one ends.
const KUBELETS: [&str; 8] = [
    "kubelet.service",
    "k3s.service",
    "k3s-agent.service",
    "rke2-server.service",
    "rke2-agent.service",
    "k0sworker.service",
    "snap.kubelet.daemon.service",
    "snap.microk8s.daemon-kubelite.service",
];

/// Names of the kubelets that run.
pub(super) fn kubelets(calls: &dyn Calls) -> Result<Vec<String>, HostError> {
    let running = running(calls, "service", "running")?;
    Ok(running.into_iter().filter(|unit| KUBELETS.contains(&unit.as_str())).collect())
}

/// All that is to be stopped, and first what would start it again: timers, paths, and the sockets of the
/// services that go.
pub(super) fn others(calls: &dyn Calls, spared: &Spared) -> Result<(Vec<String>, Vec<String>), HostError> {
    let goes = |unit: &String| !spared.unit(unit) && !KUBELETS.contains(&unit.as_str());
    let services: Vec<String> = running(calls, "service", "running")?.into_iter().filter(goes).collect();
    let mut starters = Vec::new();
    for kind in ["timer", "path"] {
        starters.extend(running(calls, kind, "waiting,running")?.into_iter().filter(goes));
    }
    let stem = |unit: &str| unit.rsplit_once('.').map(|(stem, _)| stem.to_owned()).unwrap_or_default();
    let sockets = running(calls, "socket", "listening,running")?.into_iter();
    starters.extend(sockets.filter(|socket| {
        goes(socket) && services.iter().any(|service| stem(service).starts_with(&stem(socket)))
    }));
    Ok((starters, services))
}

fn running(calls: &dyn Calls, kind: &str, states: &str) -> Result<Vec<String>, HostError> {
    let (kind, states) = (format!("--type={kind}"), format!("--state={states}"));
    let arguments = ["list-units", "--no-legend", "--plain", "--full", &kind, &states];
    let said = asked(calls, &arguments)?;
    Ok(said.output.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// Stops units, all in one order of systemd's. `grace`: after it systemd is asked to kill what is left.
pub(super) fn stop(
    calls: &dyn Calls,
    units: &[String],
    grace: Duration,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<(), HostError> {
    if units.is_empty() {
        return Ok(());
    }
    let mut arguments = vec!["stop", "--no-block", "--"];
    arguments.extend(units.iter().map(String::as_str));
    asked(calls, &arguments)?;
    let began = std::time::Instant::now();
    let mut forced = false;
    loop {
        let left = left(calls, units)?;
        if left.is_empty() {
            return Ok(());
        }
        if !go_on() {
            return Err(HostError::Cancelled);
        }
        if !forced && began.elapsed() >= grace {
            let mut arguments = vec!["kill", "--signal=SIGKILL", "--"];
            arguments.extend(left.iter().map(String::as_str));
            // A unit that ended meanwhile has nothing to kill.
            let _ = calls.systemctl(&arguments);
            forced = true;
        }
        if began.elapsed() >= grace * 2 + Duration::from_secs(10) {
            let what = format!("stop {}", left.join(", "));
            return Err(io_error(what, &"it was killed and has not ended; see systemctl status"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Those that have not ended.
fn left(calls: &dyn Calls, units: &[String]) -> Result<Vec<String>, HostError> {
    let mut arguments = vec!["show", "--property=Id,ActiveState", "--"];
    arguments.extend(units.iter().map(String::as_str));
    let said = asked(calls, &arguments)?;
    let mut left = Vec::new();
    // One paragraph for each.
    for unit in said.output.split("\n\n") {
        let field = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let ended = matches!(field("ActiveState"), None | Some("inactive" | "failed"));
        left.extend(field("Id").filter(|_| !ended).map(str::to_owned));
    }
    Ok(left)
}

/// Starts units again; does not wait until they are up.
pub(super) fn start(calls: &dyn Calls, units: &[String]) -> Result<(), HostError> {
    if units.is_empty() {
        return Ok(());
    }
    let mut arguments = vec!["start", "--no-block", "--"];
    arguments.extend(units.iter().map(String::as_str));
    asked(calls, &arguments).map(drop)
}

fn asked(calls: &dyn Calls, arguments: &[&str]) -> Result<Said, HostError> {
    let what = || format!("systemctl {}", arguments.first().unwrap_or(&""));
    let said = calls.systemctl(arguments).map_err(|error| io_error(what(), &error))?;
    if said.well { Ok(said) } else { Err(io_error(what(), &said.complaint)) }
}
