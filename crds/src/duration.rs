//! Durations as people write them in a spec: `2s`, `5m`, `1h30m`, `1.5h`, `250ms`.

use core::time::Duration;

/// A duration such as `30s`, `5m` or `1h30m`, as Go and kubectl write it.
pub type DurationString = String;

/// Why a duration cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It is not a row of numbers with units.
    #[error("{0:?} is not a duration: write numbers with the units ms, s, m or h, such as 30s or 1h30m")]
    Malformed(String),
    /// It is longer than can be counted in nanoseconds by the API server, too (292 years).
    #[error("the duration {0:?} is too long")]
    TooLong(String),
}

/// The longest duration that Go, and with it the API server, can count.
const LONGEST: Duration = Duration::from_nanos(i64::MAX as u64);

/// Units, the longer name first where one begins with the other.
const UNITS: [(&str, u128); 4] =
    [("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)];

/// Reads a duration. What is finer than a nanosecond is dropped.
///
/// # Errors
/// When it is malformed (no sign, no spaces, every number has a unit) or longer than 292 years.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let malformed = || DurationError::Malformed(text.to_owned());
    let too_long = || DurationError::TooLong(text.to_owned());
    if text.is_empty() {
        return Err(malformed());
    }
    let mut nanos: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        if whole.is_empty() {
            return Err(malformed());
        }
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => match digits(after) {
                ("", _) => return Err(malformed()),
                found => found,
            },
            None => ("", after),
        };
        let (name, unit) = UNITS.iter().find(|(name, _)| after.starts_with(name)).ok_or_else(malformed)?;
        let whole: u128 = whole.parse().map_err(|_| too_long())?;
        nanos = whole
            .checked_mul(*unit)
            .and_then(|part| nanos.checked_add(part))
            .and_then(|sum| sum.checked_add(fraction_of(fraction, *unit)))
            .filter(|sum| *sum <= LONGEST.as_nanos())
            .ok_or_else(too_long)?;
        rest = &after[name.len()..];
    }
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| too_long())
}

/// Writes a duration in the largest units that are exact down to milliseconds: `1h30m`, `2s`, `812ms`,
/// `1s500ms`; what is finer than a millisecond is dropped. The result can be read again by [`parse`].
pub fn format(duration: Duration) -> DurationString {
    use core::fmt::Write as _;
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    let parts =
        [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s"), (u64::from(millis), "ms")];
    let mut text = String::new();
    for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{count}{unit}");
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// Nanoseconds of the digits after the point.
fn fraction_of(digits: &str, unit: u128) -> u128 {
    let shares = core::iter::successors(Some(unit / 10), |share| Some(share / 10));
    digits
        .bytes()
        .zip(shares.take_while(|share| *share > 0))
        .map(|(digit, share)| u128::from(digit - b'0') * share)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kubectl_writes() {
        let cases = [
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            ("0s", 0),
            ("1m0.5s", 60_500),
            ("0.25s", 250),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_malformed_and_says_what_to_write() {
        for text in ["", "5", "s", "-1s", "+1s", "1 s", "1d", "1.s", ".5s", "1s1", "5m ", "１s", "1us"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error, DurationError::Malformed(text.to_owned()));
            assert!(error.to_string().contains("such as 30s"), "{error}");
        }
    }

    #[test]
    fn refuses_what_overflows() {
        for text in [
            "2562048h",
            "99999999999999999999999999999999999999999h",
            "340282366920938463463374607431768211455h",
        ] {
            assert_eq!(parse(text), Err(DurationError::TooLong(text.to_owned())));
        }
        assert!(parse("2562047h").is_ok());
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        for millis in [0, 1, 812, 1_000, 1_500, 60_000, 3_600_000, 5_400_000, 90_061_001] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse(&format(duration)), Ok(duration), "{}", format(duration));
        }
        assert_eq!(format(Duration::from_millis(5_400_000)), "1h30m");
        assert_eq!(format(Duration::ZERO), "0s");
    }
}
