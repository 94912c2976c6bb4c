//! What a holder attests of a device after the jump: checks named `dma <address>`, `interrupts <address>` and
//! `state <address>`.

use core::time::Duration;

/// One check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// It is as it should be.
    pub passed: bool,
    /// The milliseconds that its detail speaks of.
    pub gap: Option<Duration>,
}

/// Those of one device; none: not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// What the device was doing went on from where it stood: nothing was lost, nothing done anew.
    pub dma: Option<Check>,
    /// Every vector that was armed is armed again and was signalled once.
    pub interrupts: Option<Check>,
    /// Its inner state is what it was.
    pub state: Option<Check>,
}

impl Checks {
    /// Takes a check, if it is one of this device. What has failed once stays so; of two gaps the longer counts.
    pub fn take(&mut self, address: &str, name: &str, passed: bool, detail: &str) {
        let Some((what, of)) = name.split_once(' ') else { return };
        if of != address {
            return;
        }
        let kept = match what {
            "dma" => &mut self.dma,
            "interrupts" => &mut self.interrupts,
            "state" => &mut self.state,
            _ => return,
        };
        let new = Check { passed, gap: milliseconds(detail) };
        *kept = Some(match *kept {
            None => new,
            Some(old) => Check { passed: old.passed && new.passed, gap: old.gap.max(new.gap) },
        });
    }

    pub(super) fn passed(check: Option<Check>) -> bool {
        check.is_some_and(|check| check.passed)
    }
}

/// The first number of milliseconds in a sentence (`gap=12`, `gap 12ms`, `after 12.5 ms`), rounded up.
fn milliseconds(detail: &str) -> Option<Duration> {
    let mut words = detail.split([' ', ',', ';', '(', ')']).filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        let (named, value) = match word.split_once('=') {
            Some(("gap" | "gap_ms", value)) => (true, value),
            Some((_, value)) => (false, value),
            None => (false, word),
        };
        let with_unit = value.strip_suffix("ms");
        let unit_follows = words.peek() == Some(&"ms");
        if (named || with_unit.is_some() || unit_follows)
            && let Some(gap) = rounded_up(with_unit.unwrap_or(value))
        {
            return Some(Duration::from_millis(gap));
        }
    }
    None
}

fn rounded_up(number: &str) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return None;
    }
    let more = part.bytes().any(|digit| digit != b'0');
    whole.parse::<u64>().ok()?.checked_add(more.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_found_however_it_is_said_and_never_rounded_down() {
        let ms = |text| milliseconds(text).map(|gap| gap.as_millis());
        for (text, gap) in [
            ("gap=12", Some(12)),
            ("gap=12ms", Some(12)),
            ("2 vectors, gap 12.5 ms", Some(13)),
            ("3 of 3 armed (gap_ms=7)", Some(7)),
            ("after 12ms", Some(12)),
            ("12.000ms", Some(12)),
            ("kicked 4", None),
            ("gap=-3", None),
            ("gap=", None),
            ("gap=99999999999999999999999", None),
            ("", None),
        ] {
            assert_eq!(ms(text), gap, "{text:?}");
        }
    }

    #[test]
    fn checks_of_other_devices_and_of_other_names_are_not_taken_and_a_failure_stays() {
        let mut checks = Checks::default();
        checks.take("0000:01:00.0", "dma 0000:02:00.0", true, "");
        checks.take("0000:01:00.0", "memory", true, "");
        checks.take("0000:01:00.0", "device 0000:01:00.0", true, "");
        assert_eq!(checks, Checks::default());
        checks.take("0000:01:00.0", "interrupts 0000:01:00.0", false, "gap=3");
        checks.take("0000:01:00.0", "interrupts 0000:01:00.0", true, "gap=2");
        let gap = Some(Duration::from_millis(3));
        assert_eq!(checks.interrupts, Some(Check { passed: false, gap }));
    }
}
