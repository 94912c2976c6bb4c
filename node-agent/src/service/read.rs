//! Calls that change nothing of the machine.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use liveupdate_host::Target;
use liveupdate_node_core::gate::GateId;
use liveupdate_node_core::verdict;
use liveupdate_proto::common::v1::{Gate, GateResult};
use liveupdate_proto::node::v1::{InspectReply, PreflightReply, PreflightRequest};
use liveupdate_proto::{MINOR_VERSION, convert};
use tonic::Status;

use crate::fetch::{self, Absent};
use crate::fetches::Wanted;
use crate::node::Node;
use crate::{decide, run};

/// Gates that a bundle does not pass by what is in it.
const TARGET: [GateId; 3] = [GateId::TargetKernel, GateId::TargetTrusted, GateId::ModuleLoadable];

/// Everything that the agent knows. A keeper that cannot be reached is told as a gate that fails, since
/// that is when somebody wants to look; and beside it, so that nobody takes what only the keeper knows for nothing.
pub(crate) async fn inspect(node: &Arc<Node>) -> Result<InspectReply, Status> {
    let own = node.own_subject().await?;
    let epoch = own.epoch.clone();
    let kept = node.kept(own, run::status()).await;
    let mut reply = node
        .on_host(|node| {
            let host = &node.host;
            Ok(InspectReply {
                boot_id: host.boot_id()?,
                release: host.release()?,
                bundle_digest: host.bundle_digest()?.unwrap_or_default(),
                simulated: host.simulated(),
                gates: host.gates(None)?.iter().map(Into::into).collect(),
                devices: host
                    .devices()?
                    .iter()
                    .map(|device| (&verdict::Device::from(device), device.ceiling).into())
                    .collect(),
                holders: host
                    .holders()?
                    .iter()
                    .map(|holder| (&verdict::Holder::from(holder)).into())
                    .collect(),
                ..InspectReply::default()
            })
        })
        .await?;
    reply.node.clone_from(&node.name);
    reply.node_uid.clone_from(&node.uid);
    env!("CARGO_PKG_VERSION").clone_into(&mut reply.agent_version);
    reply.minor_version = MINOR_VERSION;
    reply.epoch = epoch;
    reply.keeper_heard = Some(kept.is_ok());
    match kept {
        Ok(Some(report)) if !report.confirmed || report.kept => reply.attempt = Some(report),
        Ok(_) => {}
        Err(status) => no_custody(&mut reply.gates, &status),
    }
    node.misbehaviour.inspect(&mut reply);
    Ok(reply)
}

fn no_custody(gates: &mut Vec<Gate>, status: &Status) {
    gates.retain(|gate| gate.id != "CustodySafe");
    gates.push(Gate {
        id: "CustodySafe".to_owned(),
        subject: String::new(),
        result: GateResult::Fail.into(),
        evidence: status.message().to_owned(),
        remedy: "start the keeper's unit on the node".to_owned(),
    });
}

/// How long a preflight waits for a registry: the rest of its deadline is for reading gates.
fn patience(request: &PreflightRequest) -> Duration {
    let deadlines = request.demands.as_ref().and_then(|demands| demands.deadlines.as_ref());
    convert::deadlines(deadlines).preflight / 2
}

/// A bundle that is not here is told by the gate that it is waited for, or why it is not fetched.
fn no_bundle(reply: &mut PreflightReply, wanted: &Wanted, absent: Absent) {
    let from = format!("{}@{}", wanted.repository, wanted.target.digest);
    let (result, evidence, remedy) = match absent {
        Absent::Going { done, total } => (
            GateResult::Unknown,
            format!("{from} is being fetched: {done} of {total} bytes"),
            "wait: it is looked at again when it is here",
        ),
        Absent::NotTrusted(why) => (
            GateResult::Fail,
            format!("{from}: {why}"),
            "sign it by a key that the nodes trust and push it again, or add that key to the nodes' signers",
        ),
        Absent::Failed(why) => (
            GateResult::Unknown,
            format!("{from}: {why}"),
            "see to it that the node reaches the registry and may read there, or correct target.image",
        ),
    };
    let word = if result == GateResult::Fail { "fails" } else { "is unknown" };
    reply.clear = false;
    "GateNotPassed".clone_into(&mut reply.reason);
    reply.message = format!("TargetTrusted {word}: {evidence}");
    reply.gates.retain(|gate| gate.id != "TargetTrusted");
    reply.gates.push(Gate {
        id: "TargetTrusted".to_owned(),
        subject: String::new(),
        result: result.into(),
        evidence,
        remedy: remedy.to_owned(),
    });
}

/// Writes down what speaks against the target itself, once until something else does.
fn write_down(node: &Node, target: &Target, gates: &[Gate]) {
    let speaks =
        |gate: &&Gate| TARGET.iter().any(|id| gate.id == id.as_str()) && gate.result() != GateResult::Pass;
    let gates: Vec<String> =
        gates.iter().filter(speaks).map(|gate| format!("{}: {}", gate.id, gate.evidence)).collect();
    let Target { bundle, digest, .. } = target;
    let why = gates.join("; ");
    let now = if why.is_empty() { String::new() } else { format!("{digest} {why}") };
    let mut told = node.unfit.lock().unwrap_or_else(PoisonError::into_inner);
    if !why.is_empty() && *told != now {
        tracing::warn!(node = node.name, bundle, digest, why, "the bundle does not pass");
    }
    *told = now;
}

/// What would happen if the node were updated now.
pub(crate) async fn preflight(node: &Arc<Node>, request: PreflightRequest) -> Result<PreflightReply, Status> {
    let wanted = super::wanted(request.target.as_ref())?;
    let target = convert::target(request.target.as_ref())?;
    let asked = target.clone();
    let patience = patience(&request);
    let demands = convert::demands(request.demands.as_ref())?;
    let own = node.own_subject().await?;
    let kept = node.kept(own, run::status()).await;
    let absent = fetch::here(node, wanted.as_ref(), patience).await;
    let mut reply = node
        .on_host(move |node| {
            let decision = decide::read(&*node.host, Some(&target), &demands)?;
            let (reason, message) = match &decision.verdict.blocked {
                Some((reason, message)) => (reason.as_str().to_owned(), message.clone()),
                None => (String::new(), String::new()),
            };
            Ok(PreflightReply {
                clear: decision.verdict.blocked.is_none(),
                reason,
                message,
                gates: decision.gates.iter().map(Into::into).collect(),
                devices: decision.verdict.devices.iter().map(Into::into).collect(),
                boot_id: node.host.boot_id()?,
                release: node.host.release()?,
                bundle_digest: node.host.bundle_digest()?.unwrap_or_default(),
                simulated: node.host.simulated(),
                node: node.name.clone(),
                node_uid: node.uid.clone(),
            })
        })
        .await?;
    match wanted.zip(absent) {
        // That was written down where it was fetched.
        Some((wanted, absent)) => no_bundle(&mut reply, &wanted, absent),
        None => write_down(node, &asked, &reply.gates),
    }
    if let Err(status) = kept {
        no_custody(&mut reply.gates, &status);
        reply.clear = false;
        "GateNotPassed".clone_into(&mut reply.reason);
        reply.message = format!("CustodySafe fails: {}", status.message());
    }
    node.misbehaviour.preflight(&mut reply);
    Ok(reply)
}
