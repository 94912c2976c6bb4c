//! From evidence to facts: total, and the only place where that is decided.

use alloc::string::String;
use alloc::vec::Vec;

use super::{BUS_MASTER, BusMaster, Checks, Compared, Evidence};
use crate::outcome::{Config, Dma, Facts, Interrupts, Reset, State};
use core::time::Duration;

/// Base class and subclass of NVMe controllers.
const NVME: &str = "0108";
/// CC: the controller is enabled.
const ENABLED: u32 = 1;
/// CSTS: it is ready.
const READY: u32 = 1;
/// CSTS: it has failed for good.
const FATAL: u32 = 1 << 1;

/// All that is known of a device at the end of a jump.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What the driver tells.
    pub evidence: &'a Evidence,
    /// What the holder attests after the jump.
    pub checks: &'a Checks,
    /// Base class and subclass, four hex digits.
    pub class: &'a str,
    /// Frequency of the counter; none: not known.
    pub counter_khz: Option<u64>,
    /// The holder attested at Quiesce that the device does no DMA.
    pub attested_quiescent: bool,
    /// It is back with its holder.
    pub returned: bool,
}

/// What the registers of a class tell of a reset that configuration space does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probed {
    /// Nobody knows how to ask a device of this class.
    NotAsked,
    /// What it would have told is not known.
    Unknown,
    /// As they were, and the device is at work.
    AtWork,
    /// As they were; the device was not at work.
    AtRest,
    /// They have changed.
    Changed,
}

impl Seen<'_> {
    /// What became of the device over the jump.
    pub fn facts(&self) -> Facts {
        Facts {
            reset: self.reset(),
            dma: self.dma(),
            interrupts: self.interrupts(),
            config: self.config(),
            state: self.state(),
            // Before the jump it says that it stands still, after it that it could go on from there.
            quiescent: self.attested_quiescent && Checks::passed(self.checks.dma),
            returned: self.returned,
        }
    }

    /// As far as it is known before its holder has said anything.
    pub fn facts_so_far(&self) -> Facts {
        Facts { reset: self.reset_by_driver(), ..self.facts() }
    }

    /// What became of a device that never left its kernel, because the attempt was undone.
    pub fn facts_of_undone(&self) -> Facts {
        let evidence = self.evidence;
        let reset = match (evidence.canary, evidence.resets) {
            (Some(Compared::Changed), _) | (_, Some(1..)) => Reset::Detected,
            (_, Some(0)) => Reset::None,
            (_, None) => Reset::Unknown,
        };
        let never_frozen = evidence.state.is_some() && evidence.frozen_counter.is_none();
        let dma = match evidence.bus_master {
            Some(BusMaster::Cleared) => self.pause(),
            Some(BusMaster::Kept) => self.attested(Dma::Continuous),
            None if never_frozen => self.attested(Dma::Continuous),
            None => Dma::Unknown,
        };
        let config = match (evidence.config, evidence.state) {
            (Some(Compared::Changed), _) => Config::Changed,
            // Nothing enumerates a device on a kernel that goes on.
            (_, Some(_)) => Config::Same,
            (Some(Compared::Same), None) => Config::Same,
            (None, None) => Config::Unknown,
        };
        Facts { reset, dma, config, ..self.facts() }
    }

    pub(super) fn probed(&self) -> Probed {
        if !self.class.starts_with(NVME) {
            return Probed::NotAsked;
        }
        let (Some(before), Some(after)) = (self.evidence.frozen_probe, self.evidence.retrieved_probe) else {
            return Probed::Unknown;
        };
        let same = (before.cc, before.aqa, before.asq) == (after.cc, after.aqa, after.asq);
        let stood = before.csts & (READY | FATAL) == after.csts & (READY | FATAL);
        if !same || !stood {
            return Probed::Changed;
        }
        let at_work = after.cc & ENABLED != 0 && after.csts & (READY | FATAL) == READY;
        if at_work { Probed::AtWork } else { Probed::AtRest }
    }

    /// What its holder did to it after it was given back shows in no file of the driver's: the holder has to say that
    /// it left it as it was.
    fn reset(&self) -> Reset {
        match self.reset_by_driver() {
            Reset::None if !Checks::passed(self.checks.state) => Reset::Unknown,
            reset => reset,
        }
    }

    fn reset_by_driver(&self) -> Reset {
        let evidence = self.evidence;
        let probed = self.probed();
        let changed = evidence.canary == Some(Compared::Changed) || probed == Probed::Changed;
        if changed || evidence.resets.is_some_and(|resets| resets > 0) {
            return Reset::Detected;
        }
        let mastered = |command: Option<u16>| command.map(|command| command & BUS_MASTER != 0);
        // A reset clears bus mastering; where nobody else did, it must have been on at the first touch.
        let untouched = match evidence.bus_master {
            Some(BusMaster::Cleared) => true,
            Some(BusMaster::Kept) => match mastered(evidence.frozen_command) {
                Some(true) => mastered(evidence.arrived_command) == Some(true),
                Some(false) => true,
                None => false,
            },
            None => false,
        };
        let all = evidence.canary == Some(Compared::Same)
            && evidence.resets == Some(0)
            && probed != Probed::Unknown
            && untouched;
        if all { Reset::None } else { Reset::Unknown }
    }

    fn dma(&self) -> Dma {
        let evidence = self.evidence;
        if evidence.bus_master == Some(BusMaster::Kept) && self.mastered_throughout() {
            return self.attested(Dma::Continuous);
        }
        let off = |command: Option<u16>| command.is_some_and(|command| command & BUS_MASTER == 0);
        let commands = [evidence.frozen_command, evidence.arrived_command, evidence.retrieved_command];
        let bridges = [&evidence.arrived_bridges, &evidence.retrieved_bridges];
        let bridge_off = bridges.into_iter().flatten().flatten().any(|(_, command)| off(Some(*command)));
        let stood =
            evidence.bus_master == Some(BusMaster::Cleared) || commands.into_iter().any(off) || bridge_off;
        if stood { self.pause() } else { Dma::Unknown }
    }

    /// The driver cannot see whether what was under way arrived; the holder can.
    fn attested(&self, dma: Dma) -> Dma {
        if Checks::passed(self.checks.dma) { dma } else { Dma::Unknown }
    }

    /// It stood still, until it was attached again where that is known.
    fn pause(&self) -> Dma {
        let (from, to) = (self.evidence.frozen_counter, self.evidence.attached_counter);
        let gap = from.zip(to).and_then(|(from, to)| to.checked_sub(from));
        let khz = self.counter_khz.filter(|khz| *khz > 0);
        // A kilohertz is a tick a millisecond.
        gap.zip(khz).map_or(Dma::Stopped, |(ticks, khz)| Dma::Gap(Duration::from_millis(ticks.div_ceil(khz))))
    }

    /// Device and all bridges above it, at all three looks.
    fn mastered_throughout(&self) -> bool {
        let evidence = self.evidence;
        let on = |command: u16| command & BUS_MASTER != 0;
        let device = [evidence.frozen_command, evidence.arrived_command, evidence.retrieved_command];
        let looks = [&evidence.frozen_bridges, &evidence.arrived_bridges, &evidence.retrieved_bridges];
        let all_on = |bridges: &Vec<(String, u16)>| bridges.iter().all(|(_, command)| on(*command));
        device.into_iter().all(|command| command.is_some_and(on))
            && looks.into_iter().all(|bridges| bridges.as_ref().is_some_and(all_on))
            && self.same_bridges()
    }

    /// The same bridges at all looks that are known.
    pub(super) fn same_bridges(&self) -> bool {
        let evidence = self.evidence;
        let looks = [&evidence.frozen_bridges, &evidence.arrived_bridges, &evidence.retrieved_bridges];
        let mut known = looks.into_iter().flatten().map(|bridges| bridges.iter().map(|(name, _)| name));
        known.next().is_none_or(|first| known.all(|other| other.eq(first.clone())))
    }

    fn interrupts(&self) -> Interrupts {
        match self.checks.interrupts {
            Some(check) if !check.passed => Interrupts::Lost,
            Some(check) => check.gap.map_or(Interrupts::Unknown, Interrupts::Relatched),
            None => Interrupts::Unknown,
        }
    }

    /// A link that trained anew, or otherwise, is no configuration that is what it was.
    fn config(&self) -> Config {
        let evidence = self.evidence;
        let link = evidence.frozen_link.zip(evidence.retrieved_link);
        let link_same = link.map(|(before, after)| {
            core::mem::discriminant(&before) == core::mem::discriminant(&after)
                && before.trained() == after.trained()
        });
        match (evidence.config, link_same) {
            (Some(Compared::Changed), _) | (_, Some(false)) => Config::Changed,
            (Some(Compared::Same), Some(true)) => Config::Same,
            (None, _) | (_, None) => Config::Unknown,
        }
    }

    fn state(&self) -> State {
        match self.probed() {
            _ if !Checks::passed(self.checks.state) => State::Unknown,
            Probed::AtWork => State::Probed,
            _ => State::Attested,
        }
    }
}
