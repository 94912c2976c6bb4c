//! Every reason that a status, condition or Event can carry, in one place: the API crate re-exports it.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Why something is as it is, in one machine-readable word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+];

            /// As it is written in a status.
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name),)+ }
            }

            /// What it means, in a sentence (the documentation's table is made from this).
            pub const fn meaning(self) -> &'static str {
                match self { $(Reason::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

reasons! {
    /// No update wants the node.
    Idle,
    /// The gates are being read.
    Preflight,
    /// The node's turn has not come: its step is not open yet, all slots are taken, or the whole run stands (its update says why).
    WaitingForTurn,
    /// The step has its nodes and is watched for its bake time.
    Baking,
    /// The step waits for `kubectl liveupdate approve`.
    WaitingForApproval,
    /// `spec.paused` or the verb `hold` stops new nodes.
    Paused,
    /// The policy's hold stops every update.
    PolicyHold,
    /// More nodes have failed than may.
    FailureBudgetSpent,
    /// The run was aborted.
    Aborted,
    /// An older update that is not finished wants the node.
    Conflicted,
    /// A required gate does not pass.
    GateNotPassed,
    /// A held device matches no rule of the update.
    DeviceNotCovered,
    /// A device would get less continuity than somebody asks for.
    ContinuityShortfall,
    /// The agent cannot be reached.
    AgentUnreachable,
    /// No agent has ever answered for this node.
    AgentMissing,
    /// The agent's answer makes no sense or is not its own.
    AgentMisbehaves,
    /// The Node object is not Ready.
    NodeNotReady,
    /// The Node object lacks what is needed to use it.
    NodeMalformed,
    /// Another actor is at work on the node.
    ForeignMaintenance,
    /// The attempt is under way.
    InProgress,
    /// The node jumped and is expected back.
    Jumping,
    /// The node is back and is being verified.
    Verifying,
    /// The node runs the target and was verified.
    Updated,
    /// The node already ran the target.
    AlreadyOnTarget,
    /// The node was taken out of the run.
    Skipped,
    /// The attempt was undone before the jump.
    AttemptAborted,
    /// The attempt was undone three times.
    AbortedRepeatedly,
    /// The node came back without proof that it jumped to the target.
    WrongKernel,
    /// The node did not come back in time.
    DidNotReturn,
    /// The kernel refused the jump.
    KernelRefused,
    /// The node came back but could not be verified in time.
    VerifyFailed,
    /// The node was updated and verified, and has booted another kernel since.
    LeftTarget,
    /// A holder did not get its files back in time; what is left of them is kept.
    Quarantined,
    /// A holder did not go on after an abort.
    HolderNotResumed,
    /// The blackout was longer than the budget.
    BlackoutOverBudget,
    /// The Node object of the attempt is gone.
    NodeGone,
    /// The target came up as another kernel on another node.
    BadTarget,
    /// The update names a risk that the policy does not allow.
    AcknowledgementNotAllowed,
    /// The update cannot be carried out as it is written.
    SpecInvalid,
    /// No node is selected.
    NoNodes,
    /// A step asks for more nodes than are eligible.
    CanaryTooSmall,
    /// The run goes on.
    Progressing,
    /// Dry run: verdicts are computed, no node is started.
    DryRun,
    /// Every eligible node runs the target.
    Completed,
    /// Every eligible node runs the target; some were skipped and are named.
    CompletedWithSkipped,
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}
