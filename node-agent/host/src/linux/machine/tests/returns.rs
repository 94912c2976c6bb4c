//! Who starts a holder's successor: pods by the kubelet's own word.

use std::collections::BTreeMap;

use liveupdate_node_core::GateResult;
use liveupdate_node_core::gate::{Gate, GateId};

use super::super::{LinuxHost, Role};
use super::fake::Machine;
use crate::Host;
use crate::linux::kubelet::fake::FakeKubelet;
use crate::linux::kubelet::{
    Container, ContainerStatus, Metadata, Pod, Resources, SOCKET, Skipped, Spec, Status,
};

const UID: &str = "0b3c7a52-1f7e-4c57-9b0e-6a2f6d6f9c11";
const CONTAINER: &str = "4d5e6f";

/// A machine with a pod that holds, and with a kubelet that systemd starts; this process is the kubelet.
fn machine() -> Machine {
    let machine = Machine::new();
    let slice = format!("kubepods-pod{}.slice", UID.replace('-', "_"));
    let cgroup = format!("/kubepods.slice/{slice}/cri-containerd-{CONTAINER}.scope");
    machine.process(900, 1, "vmm", &cgroup, true);
    machine.publish("vm-b", 900, &cgroup);
    machine.write(&format!("proc/{}/cgroup", std::process::id()), "0::/system.slice/kubelet.service\n");
    machine.write("etc/systemd/system/multi-user.target.wants/kubelet.service", "");
    machine
}

fn kubelet(machine: &Machine, pods: Vec<Pod>) -> FakeKubelet {
    FakeKubelet::at(&machine.options().root.path(SOCKET), pods)
}

fn pod(restart_policy: &str, edit: impl FnOnce(&mut Pod)) -> Pod {
    let metadata =
        Metadata { name: "vm-b".into(), namespace: "guests".into(), uid: UID.into(), ..Metadata::default() };
    let spec = Spec {
        restart_policy: restart_policy.into(),
        containers: vec![Container { name: "holder".into(), ..Container::default() }],
        ..Spec::default()
    };
    let mut pod = Pod { metadata: Some(metadata), spec: Some(spec), status: Some(Status::default()) };
    edit(&mut pod);
    pod
}

fn returns(host: &LinuxHost) -> Gate {
    let gates = host.gates(None).unwrap();
    gates.into_iter().find(|gate| gate.id == GateId::HolderReturns && gate.subject == "vm-b").unwrap()
}

fn asks_for(resource: &str) -> impl FnOnce(&mut Pod) {
    let limits = BTreeMap::from([(resource.to_owned(), Skipped {})]);
    |pod| {
        let container = &mut pod.spec.as_mut().unwrap().containers[0];
        container.resources = Some(Resources { limits, ..Resources::default() });
    }
}

fn container(pod: &mut Pod) -> &mut Container {
    &mut pod.spec.as_mut().unwrap().containers[0]
}

#[test]
fn a_pod_comes_back_when_its_kubelet_says_so_and_is_unknown_or_fails_by_what_it_says() {
    use GateResult::{Fail, Pass, Unknown};
    let machine = machine();
    let agent = machine.host(Role::Agent);
    let cases: Vec<(Pod, GateResult, &str)> = vec![
        (pod("Always", |_| {}), Pass, "pod guests/vm-b: restartPolicy Always; "),
        (
            pod("Always", |pod| container(pod).restart_policy = "Always".into()),
            Pass,
            "systemd starts kubelet",
        ),
        (pod("Always", asks_for("memory")), Pass, "restartPolicy Always"),
        (pod("Always", asks_for("hugepages-2Mi")), Pass, "restartPolicy Always"),
        (pod("Always", asks_for("vendor.example/gpu")), Unknown, "asks for vendor.example/gpu"),
        (
            pod("Always", |pod| pod.spec.as_mut().unwrap().resource_claims.push(Skipped {})),
            Unknown,
            "resourceClaims",
        ),
        (pod("Always", |pod| container(pod).restart_policy = "Never".into()), Unknown, "of its own, Never"),
        (pod("OnFailure", |_| {}), Unknown, "\"OnFailure\""),
        (pod("", |_| {}), Unknown, "restartPolicy \"\""),
        (pod("Never", |_| {}), Fail, "restartPolicy Never"),
        (
            pod("Never", |pod| {
                let labels = &mut pod.metadata.as_mut().unwrap().labels;
                labels.insert("kubevirt.io".into(), "virt-launcher".into());
            }),
            Fail,
            "KubeVirt makes another launcher",
        ),
        (
            pod("Always", |pod| pod.metadata.as_mut().unwrap().deletion_timestamp = Some(Skipped {})),
            Fail,
            "being deleted",
        ),
        (
            pod("Always", |pod| {
                let container_id = format!("containerd://{CONTAINER}");
                let all = &mut pod.status.as_mut().unwrap().ephemeral_container_statuses;
                all.push(ContainerStatus { container_id });
            }),
            Fail,
            "ephemeral",
        ),
    ];
    for (pod, result, evidence) in cases {
        let _kubelet = kubelet(&machine, vec![pod.clone()]);
        let gate = returns(&agent);
        assert_eq!(gate.result, result, "{gate:#?}\n{pod:#?}");
        assert!(gate.evidence.contains(evidence), "{evidence}: {gate:#?}");
        assert_eq!(gate.remedy.is_empty(), result == Pass, "{gate:#?}");
    }
    // The kubelet is there, and nothing starts it in the next kernel.
    let wants = machine.options().root.path("/etc/systemd/system/multi-user.target.wants/kubelet.service");
    std::fs::remove_file(wants).unwrap();
    let _kubelet = kubelet(&machine, vec![pod("Always", |_| {})]);
    let gate = returns(&agent);
    assert!(gate.result == Fail && gate.remedy.contains("enable kubelet.service"), "{gate:#?}");
    machine.write(&format!("proc/{}/cgroup", std::process::id()), "0::/\n");
    assert_eq!(returns(&agent).result, Unknown);
}

/// `systemctl enable --runtime`, a unit that `systemd-run` made, and one whose package was removed.
#[test]
fn a_unit_that_the_next_kernels_systemd_does_not_find_does_not_come_back() {
    use GateResult::{Fail, Pass};
    let (etc, run) = ("etc/systemd/system/default.target.wants", "run/systemd/system/default.target.wants");
    for (folder, target, unit, result, evidence) in [
        (etc, "/usr/lib/systemd/system/vm-c.service", Some("usr/lib/systemd/system/"), Pass, "starts vm-c"),
        (etc, "../vm-c.service", Some("etc/systemd/system/"), Pass, "starts vm-c"),
        (etc, "/usr/lib/systemd/system/vm-c.service", None, Fail, "vm-c.service leads to no file"),
        (etc, "/run/systemd/system/vm-c.service", Some("run/systemd/system/"), Fail, "gone after the jump"),
        (
            run,
            "/usr/lib/systemd/system/vm-c.service",
            Some("usr/lib/systemd/system/"),
            Fail,
            "alone wants it",
        ),
    ] {
        let machine = Machine::new();
        machine.process(901, 1, "vmm", "/system.slice/vm-c.service", false);
        machine.publish("vm-b", 901, "/system.slice/vm-c.service");
        if let Some(place) = unit {
            machine.write(&format!("{place}vm-c.service"), "[Service]\n");
        }
        let wants = machine.options().root.path(folder);
        std::fs::create_dir_all(&wants).unwrap();
        std::os::unix::fs::symlink(target, wants.join("vm-c.service")).unwrap();
        let gate = returns(&machine.host(Role::Agent));
        assert_eq!(gate.result, result, "{folder} {target}: {gate:#?}");
        assert!(gate.evidence.contains(evidence), "{gate:#?}");
        assert_eq!(gate.remedy.is_empty(), result == Pass, "{gate:#?}");
    }
}

#[test]
fn a_kubelet_that_is_stopped_has_said_what_it_said_to_those_who_heard_it() {
    let machine = machine();
    let (agent, keeper) = (machine.host(Role::Agent), machine.host(Role::Agent));
    let unknown = |gate: Gate| {
        assert_eq!(gate.result, GateResult::Unknown, "{gate:#?}");
        assert!(gate.remedy.contains("Pods API"), "{gate:#?}");
    };
    unknown(returns(&agent));
    let serving = kubelet(&machine, vec![pod("Always", |_| {})]);
    assert_eq!(returns(&agent).result, GateResult::Pass);
    drop(serving);
    let gate = returns(&agent);
    assert!(gate.result == GateResult::Pass && gate.evidence.contains("before it was stopped"), "{gate:#?}");
    // Nobody believes another's word: the keeper did not ask while it could.
    unknown(returns(&keeper));
    // It runs again, and has no such pod any more: from then on that is what it said last.
    let serving = kubelet(&machine, Vec::new());
    unknown(returns(&agent));
    drop(serving);
    unknown(returns(&agent));
}

#[test]
fn an_answer_that_breaks_off_or_is_of_another_pod_or_too_long_is_no_answer() {
    let machine = machine();
    let agent = machine.host(Role::Agent);
    let serving = kubelet(&machine, vec![pod("Always", |_| {})]);
    let garble = |with: Box<dyn Fn(Vec<u8>) -> Vec<u8> + Send>| {
        *serving.garble.lock().unwrap() = Some(with);
        returns(&agent)
    };
    for missing in 1..120 {
        let gate = garble(Box::new(move |whole| whole[..whole.len().saturating_sub(missing)].to_vec()));
        assert_eq!(gate.result, GateResult::Unknown, "{missing} bytes are missing: {gate:#?}");
    }
    for (gate, evidence) in [
        (garble(Box::new(|_| [&[0, 0, 0, 3, 0, 0, 0, 0, 1][..], &[0; 4]].concat())), "was reset"),
        (garble(Box::new(|_| vec![0xff; 9])), "longer than was allowed"),
        (garble(Box::new(|_| b"\0\0\x01\0\x08\0\0\0\x01\0".to_vec())), "padded"),
        (garble(Box::new(|_| b"\0\0\x05\0\x01\0\0\0\x01\x01\0\0\0\0".to_vec())), "no message of gRPC"),
        (garble(Box::new(|_| b"\0\0\x06\0\x01\0\0\0\x01\0\0\0\0\x02\0".to_vec())), "breaks off"),
        (garble(Box::new(|_| b"\0\0\x06\0\x01\0\0\0\x01\0\0\0\0\x01\xff".to_vec())), "makes no sense"),
        (garble(Box::new(|_| b"\0\0\x05\0\x01\0\0\0\x01\0\0\0\0\0".to_vec())), "tells of another"),
    ] {
        assert_eq!(gate.result, GateResult::Unknown, "{gate:#?}");
        assert!(gate.evidence.contains(evidence), "{evidence}: {gate:#?}");
    }
    assert_eq!(garble(Box::new(|whole| whole)).result, GateResult::Pass);
}
