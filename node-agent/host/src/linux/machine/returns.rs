//! Who starts a holder's successor after the jump.

use liveupdate_node_core::GateResult;
use liveupdate_node_core::gate::{Gate, GateId};

use crate::linux::cgroup::Owner;
use crate::linux::custody::published::Published;
use crate::linux::kubelet::{Kubelet, Pod, Told};
use crate::linux::root::Root;

const AS_A_UNIT: &str = "run the holder as a systemd unit, enabled";
const KUBEVIRT: (&str, &str) = ("kubevirt.io", "virt-launcher");

/// A result, what was found, and what would mend it.
type Finding = (GateResult, String, String);

/// A unit that something wants, and a pod that the kubelet starts again, come back. Whoever belongs to neither
/// is started by somebody who does not show.
pub(super) fn returns(root: &Root, kubelet: &Kubelet, known: &Published) -> Gate {
    let (result, evidence, remedy) = match Owner::of(&known.cgroup) {
        Owner::Unit(unit) => by_systemd(root, &unit),
        Owner::Pod(uid) => match kubelet.pod(&uid) {
            Ok(told) => by_kubelet(root, &told, known),
            Err(why) => {
                let remedy = format!(
                    "a kubelet with its Pods API (1.37; before, the feature PodsAPI), or {AS_A_UNIT}"
                );
                (GateResult::Unknown, format!("pod {uid}: its restartPolicy is not known: {why}"), remedy)
            }
        },
        Owner::Other(path) => {
            let evidence = format!("process {} is in {path}: no unit and no pod", known.pid);
            (GateResult::Unknown, evidence, AS_A_UNIT.into())
        }
    };
    Gate { id: GateId::HolderReturns, subject: known.name.clone(), result, evidence, remedy }
}

fn by_systemd(root: &Root, unit: &str) -> Finding {
    match wanted(root, unit) {
        Ok(by) => (GateResult::Pass, format!("{by}: systemd starts {unit}"), String::new()),
        Err(why) => (GateResult::Fail, format!("{unit}: {why}"), format!("systemctl enable {unit}")),
    }
}

fn by_kubelet(root: &Root, told: &Told, known: &Published) -> Finding {
    let pod = told.pod.named();
    let said = if told.before { "the kubelet said before it was stopped" } else { "the kubelet says" };
    if let Some((result, why, remedy)) = held_back(&told.pod, known) {
        return (result, format!("{said} of pod {pod}: {why}"), remedy);
    }
    let (result, started, remedy) = match &told.kubelet {
        Owner::Unit(unit) => by_systemd(root, unit),
        // Neither tells who starts it.
        other => {
            (GateResult::Unknown, format!("{other:?} is no unit"), "run the kubelet as a systemd unit".into())
        }
    };
    (result, format!("{said} of pod {pod}: restartPolicy Always; {started}"), remedy)
}

/// Why the kubelet may not start it again under its UID.
fn held_back(pod: &Pod, known: &Published) -> Option<Finding> {
    let metadata = pod.metadata.clone().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    if metadata.deletion_timestamp.is_some() {
        return Some((GateResult::Fail, "it is being deleted".into(), "let it end first".into()));
    }
    if pod.is_ephemeral(&known.cgroup) {
        let why = "the holder is in an ephemeral container, which is never started again";
        return Some((GateResult::Fail, why.into(), "run the holder in a container of the pod".into()));
    }
    let always = "a pod with restartPolicy: Always".to_owned();
    match spec.restart_policy.as_str() {
        "Always" => {}
        "Never" if metadata.labels.get(KUBEVIRT.0).is_some_and(|of| of == KUBEVIRT.1) => {
            let why = "restartPolicy Never: KubeVirt makes another launcher under another UID";
            let remedy = "KubeVirt has no launcher yet that starts again in place and reclaims its guest";
            return Some((GateResult::Fail, why.into(), remedy.into()));
        }
        "Never" => return Some((GateResult::Fail, "restartPolicy Never".into(), always)),
        other => {
            let why = format!("restartPolicy {other:?}: whether a jump counts as a failure is not certain");
            return Some((GateResult::Unknown, why, always));
        }
    }
    let own = spec.containers.iter().find(|one| !matches!(one.restart_policy.as_str(), "" | "Always"));
    if let Some(own) = own {
        let why = format!("container {} has a restartPolicy of its own, {}", own.name, own.restart_policy);
        return Some((GateResult::Unknown, why, always));
    }
    let devices = pod.devices();
    if !devices.is_empty() {
        let why = format!(
            "it asks for {}: the kubelet refuses it after a boot for as long as nobody hands that out",
            devices.join(", ")
        );
        let remedy = format!("give the holder its devices without a plugin, or {AS_A_UNIT}");
        return Some((GateResult::Unknown, why, remedy));
    }
    None
}

/// What the jump erases, and units of this boot alone with it.
const OF_THIS_BOOT: &str = "/run/systemd/system";

/// The link by which the next kernel's systemd wants a unit; or why it does not.
fn wanted(root: &Root, unit: &str) -> Result<String, String> {
    let mut why = "nothing under /etc/systemd/system wants it".to_owned();
    for link in links(root, OF_THIS_BOOT, unit) {
        why = format!("{link} alone wants it, and that is gone after the jump");
    }
    for folder in ["/etc/systemd/system", "/usr/lib/systemd/system"] {
        for link in links(root, folder, unit) {
            match resolved(root, &link) {
                Some(file) if file.starts_with("/run/") => {
                    why = format!("{link} leads to {file}, which is gone after the jump");
                }
                Some(_) => return Ok(link),
                None => why = format!("{link} leads to no file"),
            }
        }
    }
    Err(why)
}

/// Links in a folder by which a unit is wanted.
fn links(root: &Root, folder: &str, unit: &str) -> Vec<String> {
    let names = root.names(folder).unwrap_or_default();
    let wants = names.iter().filter(|name| name.ends_with(".wants") || name.ends_with(".requires"));
    let links = wants.map(|wants| format!("{folder}/{wants}/{unit}"));
    links.filter(|link| root.exists(link)).collect()
}

/// Most links that are followed.
const MOST: usize = 8;

/// The file that a link leads to, as the machine sees it: its root is not ours.
fn resolved(root: &Root, link: &str) -> Option<String> {
    let mut path = link.to_owned();
    for _ in 0..MOST {
        let Ok(target) = root.link(&path) else { return root.exists(&path).then_some(path) };
        path = beside(&path, &target)?;
    }
    None
}

/// A path that is written beside another one.
fn beside(path: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { path.split('/').collect() };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/").trim_start_matches('/')))
}
