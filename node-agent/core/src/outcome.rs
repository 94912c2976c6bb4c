//! Facts per device, then one word (docs/concepts.md: what a device got).
//!
//! Unknown never helps: whatever fact gets worse or unknown, the word never gets better.

use core::fmt;
use core::time::Duration;

use crate::Continuity;

/// Whether the device was reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reset {
    /// It was not.
    None,
    /// It was.
    Detected,
    /// Nobody knows.
    #[default]
    Unknown,
}

/// What the device's DMA did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dma {
    /// It never stopped.
    Continuous,
    /// It stood still that long.
    Gap(Duration),
    /// It was stopped.
    Stopped,
    /// Nobody knows.
    #[default]
    Unknown,
}

/// What became of the device's interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interrupts {
    /// Every vector that was armed is armed again and was signalled once; the gap in delivery.
    Relatched(Duration),
    /// Some are gone.
    Lost,
    /// Nobody knows.
    #[default]
    Unknown,
}

/// Whether configuration space is what it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Config {
    /// It is.
    Same,
    /// It is not.
    Changed,
    /// Nobody knows.
    #[default]
    Unknown,
}

/// How it is known that the device's inner state is what it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Something was read that a reset would have changed.
    Probed,
    /// The holder says so.
    Attested,
    /// Nobody knows.
    #[default]
    Unknown,
}

/// All facts about one device. The default knows nothing and is worth [`Outcome::Lost`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Whether it was reset.
    pub reset: Reset,
    /// What its DMA did.
    pub dma: Dma,
    /// What became of its interrupts.
    pub interrupts: Interrupts,
    /// Whether configuration space is what it was.
    pub config: Config,
    /// How its inner state is known.
    pub state: State,
    /// It was quiescent over the gap: by its VFIO migration state, or its holder attested so.
    pub quiescent: bool,
    /// Back with its holder by the end of the attempt.
    pub returned: bool,
}

/// What a device really got. Ordered: the first four from worst to best; the last two are for devices
/// that were never preserved and compare with nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Not back with its holder by the end of the attempt.
    Lost,
    /// Same device, same holder; treat it as if it had been reset.
    Reinitialised,
    /// Quiescent over a gap.
    Paused,
    /// Never stopped.
    Uninterrupted,
    /// Never preserved: its holder was stopped.
    Stopped,
    /// Never preserved: nobody held it, or the attempt ended before anything was done to it.
    Untouched,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Lost, Self::Reinitialised, Self::Paused, Self::Uninterrupted, Self::Stopped, Self::Untouched];

    /// As it is written in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "Lost",
            Self::Reinitialised => "Reinitialised",
            Self::Paused => "Paused",
            Self::Uninterrupted => "Uninterrupted",
            Self::Stopped => "Stopped",
            Self::Untouched => "Untouched",
        }
    }

    /// The continuity that a preserved device got; none for [`Outcome::Lost`] and for devices that were
    /// never preserved.
    pub const fn continuity(self) -> Option<Continuity> {
        match self {
            Self::Reinitialised => Some(Continuity::Reinitialised),
            Self::Paused => Some(Continuity::Paused),
            Self::Uninterrupted => Some(Continuity::Uninterrupted),
            Self::Lost | Self::Stopped | Self::Untouched => None,
        }
    }

    /// A preserved device got at least what was asked for.
    pub fn meets(self, minimum: Continuity) -> bool {
        self.continuity().is_some_and(|got| got >= minimum)
    }
}

impl Facts {
    /// The word that follows: the first line of the table that fits. Never `Stopped` or `Untouched`.
    pub fn outcome(&self) -> Outcome {
        if !self.returned {
            return Outcome::Lost;
        }
        if self.reset != Reset::None || self.config != Config::Same {
            return Outcome::Reinitialised;
        }
        let relatched = matches!(self.interrupts, Interrupts::Relatched(_));
        if self.dma == Dma::Continuous && relatched && self.state != State::Unknown {
            return Outcome::Uninterrupted;
        }
        if matches!(self.dma, Dma::Gap(_) | Dma::Stopped) && self.quiescent {
            return Outcome::Paused;
        }
        Outcome::Reinitialised
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reset {
            Reset::None => "reset=none",
            Reset::Detected => "reset=detected",
            Reset::Unknown => "reset=unknown",
        })?;
        match self.dma {
            Dma::Continuous => f.write_str(" dma=continuous")?,
            Dma::Gap(gap) => write!(f, " dma=gap({}ms)", gap.as_millis())?,
            Dma::Stopped => f.write_str(" dma=stopped")?,
            Dma::Unknown => f.write_str(" dma=unknown")?,
        }
        match self.interrupts {
            Interrupts::Relatched(gap) => write!(f, " interrupts=relatched({}ms)", gap.as_millis())?,
            Interrupts::Lost => f.write_str(" interrupts=lost")?,
            Interrupts::Unknown => f.write_str(" interrupts=unknown")?,
        }
        f.write_str(match self.config {
            Config::Same => " config=same",
            Config::Changed => " config=changed",
            Config::Unknown => " config=unknown",
        })?;
        f.write_str(match self.state {
            State::Probed => " state=probed",
            State::Attested => " state=attested",
            State::Unknown => " state=unknown",
        })?;
        if self.quiescent {
            f.write_str(" quiescent")?;
        }
        if !self.returned {
            f.write_str(" not-returned")?;
        }
        Ok(())
    }
}
