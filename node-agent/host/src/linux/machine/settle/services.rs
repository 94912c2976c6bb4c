//! Services by systemd: stopped in the order that their units say, and started again by thaw.

use std::time::Duration;

use super::super::calls::Calls;
use super::super::store::io_error;
use super::spared::Spared;
use super::systemctl::{LIVING, asked, running, show, with};
use super::tell;
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
/// How scopes of login sessions are called.
const SESSION: &str = "session-";

/// Names of the kubelets that run.
pub(super) fn kubelets(calls: &dyn Calls, spared: &Spared) -> Result<Vec<String>, HostError> {
    let running = running(calls, "service", "running")?;
    let kubelets: Vec<String> =
        running.into_iter().filter(|unit| KUBELETS.contains(&unit.as_str())).collect();
    // While one runs it starts again what is ended.
    let needed = kubelets.iter().find_map(|unit| Some((unit, spared.needed_by(unit)?)));
    match needed {
        None => Ok(kubelets),
        Some((unit, by)) => Err(HostError::WrongMoment {
            operation: "settle",
            why: format!(
                "{unit} has to be stopped, and systemd would stop {by} with it; take it out of what {by} \
                 requires, binds to or is part of"
            ),
        }),
    }
}

/// All that is to be stopped, one after the other: first what would start others again (timers, paths, and the sockets of
/// the services that go), then scopes (virtual machines and containers, which services may serve), then services.
pub(super) fn others(calls: &dyn Calls, spared: &Spared) -> Result<[Vec<String>; 3], HostError> {
    let goes = |unit: &String| !spared.unit(unit) && !KUBELETS.contains(&unit.as_str());
    let services: Vec<String> = running(calls, "service", "running")?.into_iter().filter(goes).collect();
    let scopes = running(calls, "scope", LIVING)?.into_iter();
    let scopes = scopes.filter(|scope| goes(scope) && !scope.starts_with(SESSION)).collect();
    let mut starters = Vec::new();
    for kind in ["timer", "path"] {
        starters.extend(running(calls, kind, "waiting,running")?.into_iter().filter(goes));
    }
    let stem = |unit: &str| unit.rsplit_once('.').map(|(stem, _)| stem.to_owned()).unwrap_or_default();
    let sockets = running(calls, "socket", "listening,running")?.into_iter();
    starters.extend(sockets.filter(|socket| {
        goes(socket) && services.iter().any(|service| stem(service).starts_with(&stem(socket)))
    }));
    let mut all = [starters, scopes, services];
    let refusing = refusing(calls, &all.concat())?;
    all.iter_mut().for_each(|units| units.retain(|unit| !refusing.contains(unit)));
    Ok(all)
}

/// Those that are not to be stopped or started by hand. Stopping one would fail, and starting it again after an abort.
fn refusing(calls: &dyn Calls, units: &[String]) -> Result<Vec<String>, HostError> {
    let mut refusing = Vec::new();
    for unit in show(calls, units, &["Id", "RefuseManualStop", "RefuseManualStart"])? {
        let refuses = |property: &str| unit.get(property).is_some_and(|set| set == "yes");
        if let Some(name) =
            unit.get("Id").filter(|_| refuses("RefuseManualStop") || refuses("RefuseManualStart"))
        {
            tell(&format!(
                "{name} is not stopped, since its unit has RefuseManualStop= or RefuseManualStart=: it ends with \
                 the kernel, after all that was written is synced"
            ));
            refusing.push(name.clone());
        }
    }
    Ok(refusing)
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
    if asked(calls, &with(&["stop", "--no-block"], units)).is_err() {
        // One that is gone by now keeps nobody else running.
        for unit in units.iter().map(std::slice::from_ref) {
            if let Err(error) = asked(calls, &with(&["stop", "--no-block"], unit))
                && !left(calls, unit)?.is_empty()
            {
                return Err(error);
            }
        }
    }
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
            // A unit that ended meanwhile has nothing to kill.
            let _ = calls.systemctl(&with(&["kill", "--signal=SIGKILL"], &left));
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
    let shown = show(calls, units, &["Id", "ActiveState"])?.into_iter();
    let left = shown.filter(|unit| {
        let state = unit.get("ActiveState").map(String::as_str);
        !matches!(state, None | Some("inactive" | "failed"))
    });
    Ok(left.filter_map(|unit| unit.get("Id").cloned()).collect())
}

/// Starts units again; does not wait until they are up. Each is tried, whatever becomes of the others; those that are to be
/// tried again, with what systemd said.
pub(super) fn start(calls: &dyn Calls, units: &[String]) -> Vec<(String, HostError)> {
    // Nobody can start a scope: who made it has to make it again.
    let units: Vec<String> = units.iter().filter(|unit| !unit.ends_with(".scope")).cloned().collect();
    if units.is_empty() || asked(calls, &with(&["start", "--no-block"], &units)).is_ok() {
        return Vec::new();
    }
    let failed = units.iter().filter_map(|unit| {
        let alone = std::slice::from_ref(unit);
        let error = asked(calls, &with(&["start", "--no-block"], alone)).err()?;
        if is_gone(calls, alone) {
            tell(&format!("{unit} was stopped and cannot be started again: {error}"));
            return None;
        }
        Some((unit.clone(), error))
    });
    failed.collect()
}

/// There is nothing to start: it was made for once, or was taken away or forbidden meanwhile.
fn is_gone(calls: &dyn Calls, unit: &[String]) -> bool {
    let shown = show(calls, unit, &["Id", "LoadState"]).unwrap_or_default();
    shown.iter().any(|unit| matches!(unit.get("LoadState").map(String::as_str), Some("not-found" | "masked")))
}
