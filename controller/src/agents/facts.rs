//! What an agent said, in the planner's words and in those of a node's status.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use liveupdate_crds::Continuity;
use liveupdate_crds::node::{DeviceStatus, GateStatus, HolderStatus};
use liveupdate_planner::{AttemptState, Devices, Outcome, Proof, Reason, Text, Time};
use liveupdate_proto::common::v1::{self as common, AttemptReport, Gate, GateResult, NodeState};
use liveupdate_proto::node::v1::{Device, DeviceVerdict, Fate, Holder, InspectReply, Voice};

use super::check::cut;

/// What is kept of an agent's last answers, to fill the node's status.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// Nothing on the node is real.
    pub simulated: bool,
    /// Digest of the bundle that runs.
    pub digest: String,
    /// Nodes of one kind have equal gates: shared among them.
    pub gates: Rc<Vec<GateStatus>>,
    /// Devices with ceiling, verdict and outcome.
    pub devices: Vec<DeviceStatus>,
    /// Holders that the keeper knows.
    pub holders: Vec<HolderStatus>,
    /// Of the last attempt; none when unmeasured.
    pub blackout: Option<Duration>,
    /// Of the last attempt: its states and when they began, by the node's clock.
    pub states: Vec<(NodeState, i64)>,
    /// State of the attempt, as the node said last.
    pub state: Option<NodeState>,
}

/// Most entries that a status holds of anything.
const STATUS_LIST: usize = 64;
/// Longest evidence in a status; `Inspect` has the rest.
const EVIDENCE: usize = 200;

/// Longest evidence beside a device: there may be 64 of them.
const DEVICE_EVIDENCE: usize = 120;

/// The gate that fails where there is no keeper.
const CUSTODY: &str = "CustodySafe";

/// Longest sentence of a node about its attempt's end.
pub const WHY: usize = 600;

/// A reason by its word.
pub fn reason(word: &str) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|reason| reason.as_str() == word)
}

/// Gates for a status: evidence only where it says more than that all is well, such as whose kernel it is.
pub fn gates(gates: &[Gate]) -> Vec<GateStatus> {
    let some = |text: &str, limit| (!text.is_empty()).then(|| cut(text, limit).to_owned());
    let of = |gate: &Gate| {
        let result = match gate.result() {
            GateResult::Pass => "Pass",
            GateResult::Fail => "Fail",
            GateResult::Unknown | GateResult::Unspecified => "Unknown",
        };
        let tell = result != "Pass";
        GateStatus {
            id: cut(&gate.id, 63).to_owned(),
            subject: some(&gate.subject, 128),
            result: result.to_owned(),
            evidence: match gate.id.as_str() {
                // Names and keys of two lists of signers.
                "TargetTrusted" => some(&gate.evidence, WHY),
                _ if tell => some(&gate.evidence, EVIDENCE),
                _ => None,
            },
            remedy: if tell { some(&gate.remedy, EVIDENCE) } else { None },
        }
    };
    listed(gates.iter().map(of))
}

/// What does not pass first: it must not be what is cut off.
fn listed(gates: impl Iterator<Item = GateStatus>) -> Vec<GateStatus> {
    let (passed, rest): (Vec<_>, Vec<_>) = gates.partition(|gate| gate.result == "Pass");
    rest.into_iter().chain(passed).take(STATUS_LIST).collect()
}

/// The gates of a verdict, with those that an Inspect since found failing.
pub fn with_failures(judged: &[GateStatus], found: Vec<GateStatus>) -> Vec<GateStatus> {
    let same = |a: &GateStatus, b: &GateStatus| a.id == b.id && a.subject == b.subject;
    let failing: Vec<_> = found.into_iter().filter(|gate| gate.result == "Fail").collect();
    let rest = judged.iter().filter(|gate| !failing.iter().any(|other| same(gate, other)));
    listed(failing.iter().chain(rest).cloned())
}

fn continuity(word: common::Continuity) -> Option<Continuity> {
    match word {
        common::Continuity::Unspecified => None,
        common::Continuity::Reinitialised => Some(Continuity::Reinitialised),
        common::Continuity::Paused => Some(Continuity::Paused),
        common::Continuity::Uninterrupted => Some(Continuity::Uninterrupted),
    }
}

fn device(device: &Device) -> DeviceStatus {
    DeviceStatus {
        address: cut(&device.address, 63).to_owned(),
        model: format!("{}:{}", cut(&device.vendor, 16), cut(&device.device, 16)),
        holder: (!device.holder.is_empty()).then(|| cut(&device.holder, 128).to_owned()),
        ceiling: continuity(device.ceiling()),
        verdict: None,
        decided_by: None,
        outcome: None,
        facts: None,
        evidence: None,
    }
}

/// Held devices, as `Inspect` tells them; what an earlier answer said of them is kept.
pub fn devices(found: &[Device], before: &[DeviceStatus]) -> Vec<DeviceStatus> {
    // One that nobody holds is told where a verdict is about it.
    let judged =
        |found: &Device| before.iter().any(|old| old.address == found.address && old.verdict.is_some());
    found
        .iter()
        .filter(|device| !device.holder.is_empty() || judged(device))
        .take(STATUS_LIST)
        .map(|found| {
            let new = device(found);
            match before.iter().find(|old| old.address == new.address) {
                Some(old) => DeviceStatus {
                    // A verdict's rests on the target's gates, too; of those, a mere look says nothing.
                    ceiling: if old.verdict.is_some() { old.ceiling } else { new.ceiling },
                    verdict: old.verdict.clone(),
                    decided_by: old.decided_by.clone(),
                    outcome: old.outcome.clone(),
                    facts: old.facts.clone(),
                    evidence: old.evidence.clone(),
                    ..new
                },
                None => new,
            }
        })
        .collect()
}

/// Holders, as `Inspect` tells them.
pub fn holders(found: &[Holder]) -> Vec<HolderStatus> {
    let of = |holder: &Holder| HolderStatus {
        name: cut(&holder.name, 128).to_owned(),
        aware: holder.aware,
        minimum: continuity(holder.minimum()),
        refuses: holder.refuses,
    };
    found.iter().take(STATUS_LIST).map(of).collect()
}

/// Devices with what would happen to them.
pub fn verdicts(found: &[DeviceVerdict], before: &[DeviceStatus]) -> Vec<DeviceStatus> {
    let of = |verdict: &DeviceVerdict| {
        let mut status = device(verdict.device.as_ref()?);
        let old = before.iter().find(|old| old.address == status.address);
        status.verdict = match verdict.fate() {
            Fate::Preserved => Some("Preserved".to_owned()),
            Fate::Stopped => Some("Stopped".to_owned()),
            Fate::Untouched => Some("Untouched".to_owned()),
            Fate::Blocks => Some("Blocks".to_owned()),
            Fate::Unspecified => None,
        };
        status.decided_by = match verdict.decided_by() {
            Voice::Platform => Some("Platform".to_owned()),
            Voice::Team => Some("Team".to_owned()),
            Voice::Workload => Some("Workload".to_owned()),
            Voice::Node => Some("Node".to_owned()),
            Voice::Unspecified => None,
        };
        status.outcome = old.and_then(|old| old.outcome.clone());
        status.facts = old.and_then(|old| old.facts.clone());
        status.evidence = old.and_then(|old| old.evidence.clone());
        Some(status)
    };
    found.iter().filter_map(of).take(STATUS_LIST).collect()
}

/// Models of held devices.
pub fn models<'a>(devices: impl IntoIterator<Item = &'a Device>) -> BTreeSet<String> {
    let held = devices.into_iter().filter(|device| !device.holder.is_empty());
    held.map(|device| format!("{}:{}", device.vendor, device.device)).collect()
}

/// The word of an outcome.
pub const fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Lost => "Lost",
        Outcome::Reinitialised => "Reinitialised",
        Outcome::Paused => "Paused",
        Outcome::Uninterrupted => "Uninterrupted",
        Outcome::Stopped => "Stopped",
        Outcome::Untouched => "Untouched",
    }
}

/// An outcome by its word.
pub fn outcome_of(word: &str) -> Option<Outcome> {
    use Outcome::{Lost, Paused, Reinitialised, Stopped, Uninterrupted, Untouched};
    [Lost, Reinitialised, Paused, Uninterrupted, Stopped, Untouched]
        .into_iter()
        .find(|outcome| outcome_word(*outcome) == word)
}

fn outcome(word: common::Outcome) -> Option<Outcome> {
    match word {
        common::Outcome::Unspecified => None,
        common::Outcome::Lost => Some(Outcome::Lost),
        common::Outcome::Reinitialised => Some(Outcome::Reinitialised),
        common::Outcome::Paused => Some(Outcome::Paused),
        common::Outcome::Uninterrupted => Some(Outcome::Uninterrupted),
        common::Outcome::Stopped => Some(Outcome::Stopped),
        common::Outcome::Untouched => Some(Outcome::Untouched),
    }
}

/// Puts what devices got into their statuses.
pub fn outcomes(report: &AttemptReport, devices: &mut Vec<DeviceStatus>) {
    for found in report.devices.iter().take(STATUS_LIST) {
        let at = devices.iter().position(|device| device.address == found.address).unwrap_or_else(|| {
            devices.push(DeviceStatus {
                address: cut(&found.address, 63).to_owned(),
                model: cut(&found.model, 63).to_owned(),
                holder: (!found.holder.is_empty()).then(|| cut(&found.holder, 128).to_owned()),
                ceiling: None,
                verdict: None,
                decided_by: None,
                outcome: None,
                facts: None,
                evidence: None,
            });
            devices.len() - 1
        });
        if let Some(device) = devices.get_mut(at) {
            device.outcome = outcome(found.outcome()).map(|word| outcome_word(word).to_owned());
            device.facts = found.facts.as_ref().map(facts);
            let evidence = cut(&found.evidence, DEVICE_EVIDENCE);
            device.evidence = (!evidence.is_empty()).then(|| evidence.to_owned());
        }
    }
    devices.truncate(STATUS_LIST);
}

fn facts(facts: &common::DeviceFacts) -> String {
    use common::{Config, DeviceState, Dma, Interrupts, Reset};
    let reset = match facts.reset() {
        Reset::None => "none",
        Reset::Detected => "detected",
        Reset::Unknown | Reset::Unspecified => "unknown",
    };
    let dma = match facts.dma() {
        Dma::Continuous => "continuous".to_owned(),
        Dma::Gap => format!("gap({}ms)", facts.dma_gap_ms),
        Dma::Stopped => "stopped".to_owned(),
        Dma::Unknown | Dma::Unspecified => "unknown".to_owned(),
    };
    let interrupts = match facts.interrupts() {
        Interrupts::Relatched => format!("relatched({}ms)", facts.interrupts_gap_ms),
        Interrupts::Lost => "lost".to_owned(),
        Interrupts::Unknown | Interrupts::Unspecified => "unknown".to_owned(),
    };
    let config = match facts.config() {
        Config::Same => "same",
        Config::Changed => "changed",
        Config::Unknown | Config::Unspecified => "unknown",
    };
    let state = match facts.state() {
        DeviceState::Probed => "probed",
        DeviceState::Attested => "attested",
        DeviceState::Unknown | DeviceState::Unspecified => "unknown",
    };
    format!("reset={reset} dma={dma} interrupts={interrupts} config={config} state={state}")
}

/// The node keeps files of the attempt for holders that did not come. An agent of before says so by the state alone.
pub fn keeps(report: &AttemptReport) -> bool {
    report.kept || report.state() == NodeState::Quarantined
}

/// Whether the agent tells of no attempt because it could not ask its keeper, which alone knows. An agent of before tells
/// no more than whether custody is safe: it may be unsafe for another reason, but unknown never helps.
pub fn keeper_is_silent(reply: &InspectReply) -> bool {
    let safe = || {
        let mut custody = reply.gates.iter().filter(|gate| gate.id == CUSTODY).peekable();
        custody.peek().is_some() && custody.all(|gate| gate.result() == GateResult::Pass)
    };
    reply.attempt.is_none() && !reply.keeper_heard.unwrap_or_else(safe)
}

/// What the agent found of its keeper.
pub fn custody(reply: &InspectReply) -> &str {
    let gate = reply.gates.iter().find(|gate| gate.id == CUSTODY && gate.result() != GateResult::Pass);
    gate.map_or("", |gate| gate.evidence.as_str())
}

/// How far an attempt is; an error says why the report makes no sense. `permitted`: we gave our permission.
pub fn attempt_state(report: &AttemptReport, permitted: bool, seen: Time) -> Result<AttemptState, String> {
    let proof = || {
        let proof = report.proof.as_ref().ok_or("it returned without a proof of its jump")?;
        Ok::<_, String>(Proof {
            boot_id: proof.boot_id.clone(),
            boot_id_before: proof.boot_id_before.clone(),
            release: proof.release.clone(),
            nonce_returned: proof.nonce_returned,
        })
    };
    let said = || Text::copy(cut(&report.message, WHY));
    Ok(match report.state() {
        NodeState::Unspecified => return Err("it says no state of the attempt".to_owned()),
        NodeState::Idle
        | NodeState::Preflight
        | NodeState::Queued
        | NodeState::Staging
        | NodeState::Preserving
        | NodeState::Settling
        | NodeState::Quiescing
        | NodeState::Committing
        | NodeState::Thawing => {
            if permitted {
                AttemptState::Permitted
            } else {
                AttemptState::Preparing
            }
        }
        NodeState::Jumping => AttemptState::Jumping { since: seen },
        NodeState::Returned | NodeState::Reclaiming => {
            AttemptState::Reclaiming { since: seen, proof: proof()? }
        }
        NodeState::Verifying | NodeState::Persisting | NodeState::Updated => {
            let mut devices = Devices::default();
            for device in &report.devices {
                devices.add(outcome(device.outcome()).ok_or("a device has no outcome")?, 1);
            }
            let blackout = report.blackout.as_ref();
            AttemptState::Returned {
                since: seen,
                proof: proof()?,
                blackout: blackout.filter(|b| b.measured).map(|b| Duration::from_millis(b.milliseconds)),
                simulated: blackout.is_some_and(|b| b.simulated),
                devices,
            }
        }
        NodeState::Blocked | NodeState::Aborted => {
            let reason = reason(&report.reason).unwrap_or(Reason::AttemptAborted);
            AttemptState::Aborted { reason, why: said() }
        }
        NodeState::Failed => AttemptState::Failed {
            reason: reason(&report.reason)
                .ok_or_else(|| format!("it failed for the unknown reason {:?}", cut(&report.reason, 64)))?,
            why: said(),
        },
        NodeState::Quarantined => AttemptState::Failed { reason: Reason::Quarantined, why: said() },
    })
}

/// The word of a state, as in a node's status.
pub const fn state_word(state: NodeState) -> &'static str {
    match state {
        NodeState::Unspecified => "Unknown",
        NodeState::Idle => "Idle",
        NodeState::Preflight => "Preflight",
        NodeState::Queued => "Queued",
        NodeState::Staging => "Staging",
        NodeState::Preserving => "Preserving",
        NodeState::Settling => "Settling",
        NodeState::Quiescing => "Quiescing",
        NodeState::Committing => "Committing",
        NodeState::Jumping => "Jumping",
        NodeState::Returned => "Returned",
        NodeState::Reclaiming => "Reclaiming",
        NodeState::Verifying => "Verifying",
        NodeState::Persisting => "Persisting",
        NodeState::Updated => "Updated",
        NodeState::Blocked => "Blocked",
        NodeState::Aborted => "Aborted",
        NodeState::Thawing => "Thawing",
        NodeState::Failed => "Failed",
        NodeState::Quarantined => "Quarantined",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_gates_that_pass_one_says_what_it_found_and_that_is_who_signed() {
        let gate = |id: &str, evidence: &str| Gate {
            id: id.into(),
            result: GateResult::Pass.into(),
            evidence: evidence.into(),
            ..Gate::default()
        };
        let by = format!("manifest sha256:{}: signed by release (key {})", "0".repeat(64), "1".repeat(32));
        let by = format!("{by}; policy: signed by release-team (key {})", "1".repeat(32));
        let found = gates(&[gate("KexecAllowed", "nothing is in the way"), gate("TargetTrusted", &by)]);
        assert_eq!(found.iter().map(|gate| gate.evidence.clone()).collect::<Vec<_>>(), [None, Some(by)]);
    }

    #[test]
    fn a_devices_evidence_stays_with_its_outcome_and_is_short() {
        let address = "0000:01:00.0".to_owned();
        let outcome = |evidence: &str| common::DeviceOutcome {
            address: address.clone(),
            holder: "vmm".into(),
            outcome: common::Outcome::Reinitialised.into(),
            facts: Some(common::DeviceFacts::default()),
            evidence: evidence.to_owned(),
            ..common::DeviceOutcome::default()
        };
        let report =
            |evidence: &str| AttemptReport { devices: vec![outcome(evidence)], ..AttemptReport::default() };
        let mut found = Vec::new();
        outcomes(&report("canary changed"), &mut found);
        assert_eq!(found[0].evidence.as_deref(), Some("canary changed"));
        let device = Device { address: address.clone(), holder: "vmm".into(), ..Device::default() };
        let verdict = DeviceVerdict { device: Some(device.clone()), ..DeviceVerdict::default() };
        for later in [devices(&[device], &found), verdicts(&[verdict], &found)] {
            assert_eq!(later[0].evidence.as_deref(), Some("canary changed"));
        }
        outcomes(&report(&"x".repeat(1000)), &mut found);
        assert_eq!(found[0].evidence.as_ref().map(String::len), Some(DEVICE_EVIDENCE));
        // What was said of an attempt is nothing of the next one's.
        outcomes(&report(""), &mut found);
        assert_eq!(found[0].evidence, None);
    }

    #[test]
    fn what_a_device_could_get_by_a_verdict_stays_when_its_node_is_only_looked_at() {
        let seen = Device { address: "0000:01:00.0".into(), holder: "vmm".into(), ..Device::default() };
        let able = Device { ceiling: common::Continuity::Uninterrupted.into(), ..seen.clone() };
        let looked = devices(std::slice::from_ref(&able), &[]);
        assert_eq!(looked[0].ceiling, Some(Continuity::Uninterrupted));
        let blocks =
            DeviceVerdict { device: Some(seen), fate: Fate::Blocks.into(), ..DeviceVerdict::default() };
        let judged = verdicts(&[blocks], &looked);
        assert_eq!(devices(&[able], &judged)[0].ceiling, None);
    }
}
