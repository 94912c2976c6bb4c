//! Gates: one question about support each, what they permit, and which are required.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::{Continuity, GateResult};

/// What a gate is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The running node.
    Node,
    /// The kernel to update to.
    Target,
    /// One device; the gate's subject is its address.
    Device,
    /// One holder; the gate's subject is its name.
    Holder,
}

/// For what a gate is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Needed {
    /// Every jump, even of a node that holds nothing.
    Jump,
    /// This continuity and every better one.
    From(Continuity),
    /// Nothing: it tells, and does not stop.
    Nothing,
}

macro_rules! gates {
    ($($(#[doc = $doc:literal])+ $name:ident: $scope:ident, $needed:expr;)+) => {
        /// Every gate.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum GateId {
            $($(#[doc = $doc])+ $name,)+
        }

        impl GateId {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [GateId] = &[$(GateId::$name,)+];

            /// As it is written in the API.
            pub const fn as_str(self) -> &'static str {
                match self { $(GateId::$name => stringify!($name),)+ }
            }

            /// The gate of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|id| id.as_str() == name)
            }

            /// What it is about.
            pub const fn scope(self) -> Scope {
                match self { $(GateId::$name => Scope::$scope,)+ }
            }

            /// For what it is required.
            pub const fn needed(self) -> Needed {
                match self { $(GateId::$name => $needed,)+ }
            }

            /// What it asks, in a sentence.
            pub const fn question(self) -> &'static str {
                match self { $(GateId::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

/// Required as soon as anything is preserved.
const PRESERVE: Needed = Needed::From(Continuity::Reinitialised);
const PAUSED: Needed = Needed::From(Continuity::Paused);
const UNINTERRUPTED: Needed = Needed::From(Continuity::Uninterrupted);

gates! {
    /// The update acknowledges the risk and the driver was loaded with its own opt-in.
    ExperimentalOptIn: Node, PRESERVE;
    /// A keeper is there whose custody survives its own crash.
    CustodySafe: Node, PRESERVE;
    /// The running kernel has a live update orchestrator.
    LiveUpdateKernel: Node, PRESERVE;
    /// Kexec handover is on and its scratch memory holds this bundle.
    KexecHandover: Node, PRESERVE;
    /// Sysctl, lockdown and signature policy let this kernel be replaced.
    KexecAllowed: Node, Needed::Jump;
    /// The VFIO driver that can hand devices over is loaded.
    DriverReady: Node, PRESERVE;
    /// The driver carries the device's VFIO state over.
    VfioStatePreserved: Device, PAUSED;
    /// The PCI core leaves the device as it is.
    PciStatePreserved: Device, PAUSED;
    /// The device's IOMMU tables stay in force.
    IommuStatePreserved: Device, UNINTERRUPTED;
    /// The device's iommufd objects come over.
    IommufdPreserved: Device, UNINTERRUPTED;
    /// The device writes nowhere but into preserved memory while kernels change.
    DmaTargetsPreserved: Device, PRESERVE;
    /// The holder's memory is of the kind that can be preserved, within the budget.
    MemoryPreservable: Holder, PRESERVE;
    /// The successor's cgroup has room for the memory.
    MemoryCharge: Holder, PRESERVE;
    /// The target kernel's configuration and ABI fit the running kernel's.
    TargetKernel: Target, PRESERVE;
    /// The bundle is signed by somebody we trust.
    TargetTrusted: Target, Needed::Jump;
    /// The target's modules can be loaded by it.
    ModuleLoadable: Target, PRESERVE;
    /// No other driver of the target takes the device first.
    NativeDriverRace: Device, PRESERVE;
    /// The target enumerates PCI as the running kernel did.
    PciEnumerationStable: Target, PRESERVE;
    /// The device is bound, whole, awake and no virtual function.
    DeviceEligible: Device, PRESERVE;
    /// The holder speaks the handover protocol.
    HolderAware: Holder, PRESERVE;
    /// The holder opened its devices in a way that can be handed over.
    HolderOpenMode: Holder, PRESERVE;
    /// Somebody starts the holder's successor.
    HolderReturns: Holder, PRESERVE;
    /// Nobody else's sessions would be lost.
    ForeignSessions: Node, Needed::Jump;
    /// A crash of the next kernel can still be dumped.
    CrashDump: Node, Needed::Jump;
    /// The CPU's counter spans a kexec; without it the blackout is unmeasured.
    ClockSource: Node, Needed::Nothing;
    /// A next kernel that dies makes room for the old one.
    FallbackBoot: Node, Needed::Nothing;
    /// The node comes up without anybody at its console.
    UnattendedBoot: Node, Needed::Jump;
    /// There is room for the bundle and the load.
    DiskAndMemory: Node, Needed::Jump;
}

impl GateId {
    /// Whether it must pass for this continuity; none: a node that holds nothing.
    pub fn required(self, continuity: Option<Continuity>) -> bool {
        match self.needed() {
            Needed::Jump => true,
            Needed::From(least) => continuity.is_some_and(|asked| asked >= least),
            Needed::Nothing => false,
        }
    }

    /// The acknowledgement that takes the risk of its not passing, if there is one.
    pub const fn waiver(self) -> Option<&'static str> {
        match self {
            Self::CrashDump => Some("NoKdump"),
            Self::DmaTargetsPreserved => Some("UnconfinedDma"),
            _ => None,
        }
    }

    /// The acknowledgement that takes the risk of this result, if there is one. Where a holder does not even say where
    /// its device writes, there is nothing to take its word for.
    pub fn waived_by(self, result: GateResult) -> Option<&'static str> {
        let waivable = match (self, result) {
            (Self::DmaTargetsPreserved, GateResult::Fail) => false,
            (_, result) => result != GateResult::Pass,
        };
        self.waiver().filter(|_| waivable)
    }
}

impl fmt::Display for GateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// All gates that must pass for this continuity; none: a node that holds nothing (adoption).
pub fn required(continuity: Option<Continuity>) -> impl Iterator<Item = GateId> {
    GateId::ALL.iter().copied().filter(move |id| id.required(continuity))
}

/// One gate with what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Which.
    pub id: GateId,
    /// Device address or holder name; empty for the node's and the target's own gates.
    pub subject: String,
    /// What was found.
    pub result: GateResult,
    /// What was read, where, and what it said.
    pub evidence: String,
    /// What would mend it; empty where nothing needs mending.
    pub remedy: String,
}

/// Result of one gate among those that were read. Not read is unknown; of several readings of one gate
/// the worst counts.
pub fn result(gates: &[Gate], id: GateId, subject: &str) -> GateResult {
    let found = gates.iter().filter(|gate| gate.id == id && gate.subject == subject).map(|gate| gate.result);
    let mut worst = None;
    for result in found {
        worst = match (worst, result) {
            (Some(GateResult::Fail), _) | (_, GateResult::Fail) => Some(GateResult::Fail),
            (Some(GateResult::Unknown), _) | (_, GateResult::Unknown) => Some(GateResult::Unknown),
            _ => Some(GateResult::Pass),
        };
    }
    worst.unwrap_or(GateResult::Unknown)
}

/// A required gate that does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// Which.
    pub id: GateId,
    /// Device address or holder name, or empty.
    pub subject: String,
    /// `Fail` or `Unknown`.
    pub result: GateResult,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id.as_str())?;
        if !self.subject.is_empty() {
            write!(f, "({})", self.subject)?;
        }
        write!(f, " {}", if self.result == GateResult::Fail { "fails" } else { "is unknown" })
    }
}

/// A sentence about the first shortfall, with evidence and remedy where they were given.
pub fn explain(shortfalls: &[Shortfall], gates: &[Gate]) -> Option<String> {
    let first = shortfalls.first()?;
    let mut text = format!("gate {first}");
    if let Some(gate) =
        gates.iter().find(|g| g.id == first.id && g.subject == first.subject && g.result != GateResult::Pass)
    {
        for part in [&gate.evidence, &gate.remedy] {
            if !part.is_empty() {
                text.push_str(": ");
                text.push_str(part);
            }
        }
    }
    if shortfalls.len() > 1 {
        text.push_str(&format!("; {} more do not pass", shortfalls.len() - 1));
    }
    Some(text)
}

/// Required gates that concern the node and the target and do not pass.
pub fn node_shortfalls<S: AsRef<str>>(
    gates: &[Gate],
    continuity: Option<Continuity>,
    acknowledged: &[S],
) -> Vec<Shortfall> {
    let own = |id: &GateId| matches!(id.scope(), Scope::Node | Scope::Target);
    failing(gates, required(continuity).filter(own), "", acknowledged)
}

/// Required gates of one device and of its holder that do not pass.
pub fn device_shortfalls<S: AsRef<str>>(
    gates: &[Gate],
    address: &str,
    holder: &str,
    continuity: Continuity,
    acknowledged: &[S],
) -> Vec<Shortfall> {
    let of = |scope| required(Some(continuity)).filter(move |id| id.scope() == scope);
    let mut found = failing(gates, of(Scope::Device), address, acknowledged);
    found.extend(failing(gates, of(Scope::Holder), holder, acknowledged));
    found
}

fn failing<S: AsRef<str>>(
    gates: &[Gate],
    ids: impl Iterator<Item = GateId>,
    subject: &str,
    acknowledged: &[S],
) -> Vec<Shortfall> {
    let waived = |shortfall: &Shortfall| {
        let token = shortfall.id.waived_by(shortfall.result);
        token.is_some_and(|token| acknowledged.iter().any(|other| other.as_ref() == token))
    };
    ids.map(|id| Shortfall { id, subject: subject.into(), result: result(gates, id, subject) })
        .filter(|shortfall| shortfall.result != GateResult::Pass && !waived(shortfall))
        .collect()
}

/// The best continuity that the gates permit a device of this holder; none: it cannot be preserved.
pub fn ceiling<S: AsRef<str>>(
    gates: &[Gate],
    address: &str,
    holder: &str,
    acknowledged: &[S],
) -> Option<Continuity> {
    Continuity::ALL.into_iter().rev().find(|continuity| {
        node_shortfalls(gates, Some(*continuity), acknowledged).is_empty()
            && device_shortfalls(gates, address, holder, *continuity, acknowledged).is_empty()
    })
}

/// Required gates of a holder that do not pass.
pub fn holder_shortfalls(gates: &[Gate], holder: &str) -> Vec<Shortfall> {
    let own = required(Some(Continuity::Reinitialised)).filter(|id| id.scope() == Scope::Holder);
    failing::<&str>(gates, own, holder, &[])
}
