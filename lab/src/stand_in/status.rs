//! What a kubelet tells of a pod.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::placed::Placed;
use crate::{Error, Result};

/// Where a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its containers run.
    Running { ready: bool },
    /// They have ended for good.
    Finished { code: i32 },
}

pub(super) async fn write(placed: &Placed, phase: &Phase, restarts: i32) -> Result<()> {
    let (name, namespace) = (placed.pod.name_any(), placed.pod.namespace().unwrap_or_default());
    let pods: Api<Pod> = Api::namespaced(placed.ground.client.clone(), &namespace);
    let patch = json!({ "metadata": { "uid": placed.pod.uid() }, "status": status(placed, phase, restarts) });
    let done = pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
    done.map(drop).map_err(Error::api(format!("write the status of pod {namespace}/{name}")))
}

fn status(placed: &Placed, phase: &Phase, restarts: i32) -> Value {
    let now = Timestamp::now().to_string();
    let (word, ready, state) = match phase {
        Phase::Running { ready } => ("Running", *ready, json!({ "running": { "startedAt": now } })),
        Phase::Finished { code } => {
            let (word, reason) = if *code == 0 { ("Succeeded", "Completed") } else { ("Failed", "Error") };
            let ended = json!({ "exitCode": code, "reason": reason, "startedAt": now, "finishedAt": now });
            (word, false, json!({ "terminated": ended }))
        }
    };
    let containers: Vec<Value> = placed.spec.containers.iter().map(|container| json!({
        "name": container.name, "image": container.image.clone().unwrap_or_default(), "imageID": "",
        "ready": ready, "started": matches!(phase, Phase::Running { .. }), "restartCount": restarts, "state": state,
    })).collect();
    let truth = |holds: bool| if holds { "True" } else { "False" };
    let condition =
        |kind: &str, holds: bool| json!({ "type": kind, "status": truth(holds), "lastTransitionTime": now });
    json!({
        "phase": word,
        "hostIP": placed.machine.address(),
        "podIP": placed.address,
        "podIPs": [{ "ip": placed.address }],
        "startTime": placed.pod.creation_timestamp(),
        "conditions": [
            condition("PodScheduled", true), condition("Initialized", true),
            condition("ContainersReady", ready), condition("Ready", ready),
        ],
        "containerStatuses": containers,
    })
}
