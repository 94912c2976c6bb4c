//! What has happened to a simulated machine.

use std::collections::{BTreeMap, BTreeSet};

use liveupdate_node_core::Target;
use serde::{Deserialize, Serialize};

use super::spec::{Durations, Fault, Pace, WorldSpec};

/// A machine: what it is, and what has happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) spec: WorldSpec,
    pub(super) state: State,
}

/// `state.json`. Written by the simulation alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct State {
    /// Number of the boot: a process belongs to one.
    pub(super) boot: u64,
    pub(super) boot_id: String,
    pub(super) boot_id_before: Option<String>,
    pub(super) release: String,
    pub(super) bundle_digest: Option<String>,
    /// The machine's clock when it booted.
    pub(super) booted_at: u64,
    /// How far the machine's clock was put forward, in nanoseconds.
    pub(super) skipped: u64,
    pub(super) power: Power,
    pub(super) staged: Option<Loaded>,
    pub(super) custody: Option<Outgoing>,
    /// What was in custody last and was given up: some of its holders may still have to go on.
    #[serde(default)]
    pub(super) undone: Option<Outgoing>,
    pub(super) settled: bool,
    pub(super) stopped: BTreeSet<String>,
    pub(super) incoming: Option<Incoming>,
    /// Attempts whose jump was made, the first one first.
    #[serde(default)]
    pub(super) jumps: Vec<String>,
    /// What a power cut brings up; none: the first kernel.
    #[serde(default)]
    pub(super) cold: Option<Loaded>,
}

/// An image that is loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Loaded {
    pub(super) release: String,
    pub(super) bundle: String,
    pub(super) digest: String,
}

impl Loaded {
    pub(super) fn of(target: &Target) -> Self {
        Self { release: target.release.clone(), bundle: target.bundle.clone(), digest: target.digest.clone() }
    }

    pub(super) fn target(&self) -> Target {
        Target { release: self.release.clone(), bundle: self.bundle.clone(), digest: self.digest.clone() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Power {
    On,
    /// Every process is gone. None: nothing comes up.
    Off(Option<Next>),
}

/// What comes up next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Next {
    pub(super) release: String,
    pub(super) digest: Option<String>,
    /// Jumped into: none after a power cut.
    pub(super) from: Option<String>,
    pub(super) takes_ms: u64,
    pub(super) incoming: Option<Incoming>,
}

/// Custody before the jump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outgoing {
    pub(super) attempt: String,
    pub(super) devices: Vec<String>,
    /// With the counter when it was stopped, while it is.
    pub(super) holders: BTreeMap<String, Option<u64>>,
}

/// Custody after the jump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Incoming {
    pub(super) attempt: String,
    pub(super) nonce: String,
    /// The machine's clock when the next kernel's keeper could start.
    pub(super) back_at: u64,
    pub(super) holders: BTreeMap<String, Claim>,
    pub(super) devices: Vec<String>,
    pub(super) ended: bool,
}

/// One holder's way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) quiesced: Option<u64>,
    pub(super) resumed: Option<u64>,
    /// It was seen not to come in time: it cannot have resumed before that.
    pub(super) seen_overdue: bool,
}

const NANOS_PER_MILLI: u64 = 1_000_000;

impl State {
    /// Of whom it is known whether they go on: who is in custody, else who was.
    pub(super) fn to_go_on(&self) -> impl Iterator<Item = &Outgoing> {
        self.custody.as_ref().or(self.undone.as_ref()).into_iter()
    }
}

impl Machine {
    pub(super) fn new(spec: WorldSpec) -> Self {
        let state = State {
            boot: 1,
            boot_id: spec.boot_id.clone().unwrap_or_else(first_boot_id),
            boot_id_before: None,
            release: spec.release.clone(),
            bundle_digest: spec.bundle_digest.clone(),
            booted_at: monotonic_nanos(),
            skipped: 0,
            power: Power::On,
            staged: None,
            custody: None,
            undone: None,
            settled: false,
            stopped: BTreeSet::new(),
            incoming: None,
            jumps: Vec::new(),
            cold: None,
        };
        Self { spec, state }
    }

    /// Nanoseconds of a clock that no jump stops.
    pub(super) fn clock(&self) -> u64 {
        monotonic_nanos().saturating_add(self.state.skipped)
    }

    pub(super) fn counter(&self) -> Option<u64> {
        self.spec.counter.then(|| self.clock())
    }

    pub(super) fn skip(&mut self, ms: u64) {
        self.state.skipped = self.state.skipped.saturating_add(ms.saturating_mul(NANOS_PER_MILLI));
    }

    pub(super) fn has(&self, fault: impl Fn(&Fault) -> bool) -> bool {
        self.spec.faults.iter().any(fault)
    }

    /// Ends every process; what comes up next follows from what is loaded.
    pub(super) fn jump(&mut self, loaded: &Loaded, attempt: &str, nonce: &str) {
        let bundle = self.spec.bundles.iter().find(|b| b.name == loaded.bundle);
        let release = bundle.map_or(&loaded.release, |b| b.boots_as.as_ref().unwrap_or(&b.release)).clone();
        let wrong = self.spec.faults.iter().find_map(|fault| match fault {
            Fault::WrongKernel { release } => Some(release.clone()),
            _ => None,
        });
        let lost = wrong.is_some() || self.has(|f| *f == Fault::CustodyLost);
        let next = Next {
            digest: wrong.is_none().then(|| loaded.digest.clone()),
            release: wrong.unwrap_or(release),
            from: Some(self.state.boot_id.clone()),
            takes_ms: self.spec.durations.jump,
            incoming: self.state.custody.as_ref().filter(|_| !lost).map(|_| self.hand_over(attempt, nonce)),
        };
        self.state.jumps.push(attempt.into());
        let comes_back = !self.has(|f| *f == Fault::NeverReturns);
        self.state.power = Power::Off(comes_back.then_some(next));
    }

    fn hand_over(&self, attempt: &str, nonce: &str) -> Incoming {
        let custody = self.state.custody.as_ref();
        let claim =
            |quiesced: &Option<u64>| Claim { quiesced: *quiesced, resumed: None, seen_overdue: false };
        Incoming {
            attempt: attempt.into(),
            nonce: nonce.into(),
            back_at: 0,
            holders: custody
                .map(|c| c.holders.iter().map(|(name, quiesced)| (name.clone(), claim(quiesced))).collect())
                .unwrap_or_default(),
            devices: custody.map(|c| c.devices.clone()).unwrap_or_default(),
            ended: false,
        }
    }

    /// Everything that was in memory is gone; what was made the default comes up, else the first kernel.
    pub(super) fn power_cut(&mut self) {
        let cold = self.state.cold.as_ref();
        let of_cold = cold.map(|cold| cold.digest.clone());
        self.state.power = Power::Off(Some(Next {
            release: cold.map_or(&self.spec.release, |cold| &cold.release).clone(),
            digest: cold.map_or(&self.spec.bundle_digest, |_| &of_cold).clone(),
            from: None,
            takes_ms: self.spec.durations.jump,
            incoming: None,
        }));
    }

    pub(super) fn boot(&mut self, next: Next) {
        if self.spec.pace == Pace::Instant {
            self.skip(next.takes_ms);
        }
        let now = self.clock();
        let state = &mut self.state;
        state.boot += 1;
        state.boot_id = next_boot_id(&state.boot_id, state.boot);
        state.boot_id_before = next.from;
        state.release = next.release;
        state.bundle_digest = next.digest;
        state.booted_at = now;
        state.power = Power::On;
        state.staged = None;
        state.custody = None;
        state.undone = None;
        state.settled = false;
        state.stopped.clear();
        state.incoming = next.incoming.map(|incoming| Incoming { back_at: now, ..incoming });
    }

    /// What came through the jump, if its index can be read.
    pub(super) fn readable(&self) -> Option<&Incoming> {
        self.state.incoming.as_ref().filter(|_| !self.has(|fault| *fault == Fault::IndexUnread))
    }

    /// Gives back what can be given back by now.
    pub(super) fn reclaim(&mut self) {
        let takes = self.spec.durations.reclaim;
        let Some(back_at) = self.readable().map(|incoming| incoming.back_at) else { return };
        let due = back_at.saturating_add(takes.saturating_mul(NANOS_PER_MILLI));
        if self.spec.pace == Pace::Instant {
            self.state.skipped = self.state.skipped.saturating_add(due.saturating_sub(self.clock()));
        }
        let now = self.clock();
        let Some(incoming) = self.state.incoming.as_mut() else { return };
        if incoming.ended || now < due {
            return;
        }
        for (name, claim) in incoming.holders.iter_mut().filter(|(_, claim)| claim.resumed.is_none()) {
            let overdue = |f: &Fault| matches!(f, Fault::ReclaimOverdue { holder } if holder == name);
            if self.spec.faults.iter().any(overdue) {
                claim.seen_overdue = true;
            } else {
                claim.resumed = Some(if claim.seen_overdue { now } else { due });
            }
        }
    }

    /// Holders whose files are to be preserved with these devices: theirs, and those that hold memory alone.
    pub(super) fn holders_of(&self, devices: &[String]) -> Vec<String> {
        let holds = |name: &str, only: Option<&[String]>| {
            self.spec.devices.iter().any(|device| {
                device.holder.as_deref() == Some(name) && only.is_none_or(|o| o.contains(&device.address))
            })
        };
        let preserved = |name: &str| holds(name, Some(devices)) || !holds(name, None);
        let holders = self.spec.holders.iter().filter(|holder| holder.aware && preserved(&holder.name));
        holders.map(|holder| holder.name.clone()).collect()
    }
}

impl Durations {
    pub(super) fn staging(&self, faults: &[Fault]) -> u64 {
        let slow = faults.iter().map(|f| if let Fault::StageSlow { ms } = f { *ms } else { 0 });
        self.stage.saturating_add(slow.sum())
    }
}

/// The real machine's clock, which all of its processes share.
fn monotonic_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nanos.unwrap_or(0))
}

/// 32 random hex digits.
pub(super) fn random_hex() -> std::io::Result<String> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(uuid.chars().filter(char::is_ascii_hexdigit).collect())
}

fn first_boot_id() -> String {
    // Without /proc two worlds could start alike, which a world's file can mend.
    random_hex().map_or_else(|_| next_boot_id("", monotonic_nanos()), |hex| hyphenated(&hex))
}

/// Follows from the last one, so that a script's run can be repeated.
fn next_boot_id(last: &str, boot: u64) -> String {
    // FNV-1a, 128 bits.
    let bytes = last.bytes().chain(boot.to_be_bytes());
    let hash = bytes.fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    hyphenated(&format!("{hash:032x}"))
}

fn hyphenated(hex: &str) -> String {
    let at = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [at(0, 8), at(8, 12), at(12, 16), at(16, 20), at(20, 32)].join("-")
}
