//! What to do about a reason. The controller says what is; this says what a person can do.

use liveupdate_planner::Reason;

/// The reason that a status names; none for one that this version does not know.
#[must_use]
pub fn reason(word: &str) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|reason| reason.as_str() == word)
}

/// What to do; empty where there is nothing to do but wait. `UPDATE` and `NODE` stand for names.
#[must_use]
pub const fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::Idle
        | Reason::Preflight
        | Reason::WaitingForTurn
        | Reason::Baking
        | Reason::InProgress
        | Reason::Jumping
        | Reason::Verifying
        | Reason::Updated
        | Reason::AlreadyOnTarget
        | Reason::Skipped
        | Reason::Progressing
        | Reason::Completed
        | Reason::CompletedWithSkipped => "",
        Reason::WaitingForApproval => "look at what the step did, then `kubectl liveupdate approve UPDATE`",
        Reason::Paused => {
            "`kubectl liveupdate resume UPDATE`, or set spec.paused to false where the spec is kept"
        }
        Reason::PolicyHold => "set spec.hold of liveupdatepolicy/default to false",
        Reason::FailureBudgetSpent => {
            "mend or skip the failed nodes, then `kubectl liveupdate resume UPDATE`, or give up with `abort`"
        }
        Reason::Aborted => "make a new LiveUpdate, or change the target, to try again",
        Reason::Conflicted => "finish or delete the older update, or narrow one of the selectors",
        Reason::GateNotPassed => "see `kubectl liveupdate explain NODE` for evidence and remedy of each gate",
        Reason::DeviceNotCovered => "add a rule to spec.devices that matches the device",
        Reason::ContinuityShortfall => {
            "lower minimumContinuity, set onShortfall: Stop, or mend the gates that lower the ceiling"
        }
        Reason::AgentUnreachable => "look at the agent's pod on the node and at what lies between",
        Reason::AgentMissing => "install the agent on the node, or leave the node out of the selector",
        Reason::AgentMisbehaves => "look at the agent's certificate, version and log on the node",
        Reason::NodeNotReady => "mend the node; it takes part again when it is Ready",
        Reason::NodeMalformed => "mend the Node object (addresses, nodeInfo)",
        Reason::ForeignMaintenance => "wait for the other actor, or take its lock or remediation away",
        Reason::AttemptAborted => "it is tried again by itself, three times in all",
        Reason::AbortedRepeatedly => {
            "mend what undid the attempts, then `kubectl liveupdate retry UPDATE NODE`"
        }
        Reason::WrongKernel => {
            "find out why the bundle boots another kernel, or one that takes nothing over, and set spec.target to a better one"
        }
        Reason::DidNotReturn => {
            "look at the node's console; when it is back and sound, `kubectl liveupdate retry UPDATE NODE`"
        }
        Reason::KernelRefused => {
            "read the kernel log of the node, mend what it names, then `kubectl liveupdate retry UPDATE NODE`"
        }
        Reason::VerifyFailed => {
            "find out why the kubelet does not report the target, then `kubectl liveupdate retry UPDATE NODE`"
        }
        Reason::LeftTarget => {
            "find out why it crashed; then `kubectl liveupdate retry UPDATE NODE`, or `skip UPDATE NODE`"
        }
        Reason::Quarantined => {
            "start the holder, which may still come for its files; if it never will, `kubectl liveupdate release UPDATE NODE` gives them up for good"
        }
        Reason::HolderNotResumed => "look at the holder: its guest stands still",
        Reason::BlackoutOverBudget => {
            "find what took long with `kubectl liveupdate explain NODE`, or raise blackoutBudget"
        }
        Reason::NodeGone => {
            "nothing is left to mend; `kubectl liveupdate accept-failure UPDATE` lets the run go on"
        }
        Reason::BadTarget => "set spec.target to another bundle",
        Reason::AcknowledgementNotAllowed => {
            "have the risk allowed in liveupdatepolicy/default, or take it out of spec.acknowledge"
        }
        Reason::SpecInvalid => "mend the spec as the message says",
        Reason::NoNodes => "mend spec.nodeSelector: see `kubectl get nodes --show-labels`",
        Reason::CanaryTooSmall => "lower the step's nodes, or make more nodes eligible",
        Reason::DryRun => "set spec.strategy.dryRun to false to start",
    }
}

/// What to do about the reason that a status names, with the names that are known.
#[must_use]
pub fn advice_for(word: &str, update: Option<&str>, node: Option<&str>) -> String {
    let text = reason(word).map_or("", advice);
    text.replace("UPDATE", update.unwrap_or("UPDATE")).replace("NODE", node.unwrap_or("NODE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_advice_can_be_copied() {
        assert_eq!(
            advice_for("AbortedRepeatedly", Some("gpu"), Some("node-3")),
            "mend what undid the attempts, then `kubectl liveupdate retry gpu node-3`"
        );
        assert_eq!(advice_for("NotKnownToThisVersion", None, None), "");
    }
}
