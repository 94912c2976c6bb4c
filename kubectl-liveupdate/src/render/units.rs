//! Numbers, times and durations as people read them.

use jiff::Timestamp;
use liveupdate_crds::IntOrPercent;

use super::Canvas;

/// A duration in its two largest units: `850ms`, `12s`, `3m20s`, `2h5m`, `4d6h`.
#[must_use]
pub fn duration(milliseconds: i64) -> String {
    let seconds = milliseconds / 1000;
    let two = |large: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
    };
    match seconds {
        ..1 => format!("{}ms", milliseconds.max(0)),
        1..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, 'm', seconds % 60, 's'),
        3600..86400 => two(seconds / 3600, 'h', seconds / 60 % 60, 'm'),
        _ => two(seconds / 86400, 'd', seconds / 3600 % 24, 'h'),
    }
}

/// A blackout: milliseconds below ten seconds, since they are what it is about.
#[must_use]
pub fn blackout(milliseconds: i64, simulated: bool) -> String {
    let value = match milliseconds {
        ..1000 => format!("{milliseconds}ms"),
        1000..10_000 => format!("{}.{:02}s", milliseconds / 1000, milliseconds % 1000 / 10),
        _ => duration(milliseconds),
    };
    if simulated { format!("{value} (simulated)") } else { value }
}

/// A point in time in the past: its age, or itself where ages are not wanted.
#[must_use]
pub fn ago(then: Timestamp, now: Timestamp, canvas: Canvas) -> String {
    if canvas.ages { format!("{} ago", age(then, now)) } else { format!("at {}", clock(then)) }
}

/// Since when: `for 12s`, or `since 15:01:33Z`.
#[must_use]
pub fn since(then: Timestamp, now: Timestamp, canvas: Canvas) -> String {
    if canvas.ages { format!("for {}", age(then, now)) } else { format!("since {}", clock(then)) }
}

/// A point in time to come: `in 12m (15:01:33Z)`, or the latter alone.
#[must_use]
pub fn ahead(then: Timestamp, now: Timestamp, canvas: Canvas) -> String {
    let left = then.as_millisecond() - now.as_millisecond();
    if !canvas.ages {
        return format!("at {}", clock(then));
    }
    if left <= 0 {
        format!("any moment ({})", clock(then))
    } else {
        format!("in {} ({})", duration(left), clock(then))
    }
}

/// How long ago that was; never negative, since two clocks are at work.
#[must_use]
pub fn age(then: Timestamp, now: Timestamp) -> String {
    let milliseconds = (now.as_millisecond() - then.as_millisecond()).max(0);
    if milliseconds < 1000 { "0s".to_owned() } else { duration(milliseconds) }
}

/// Time of day, UTC.
#[must_use]
pub fn clock(then: Timestamp) -> String {
    then.strftime("%H:%M:%SZ").to_string()
}

/// `1 node`, `2 nodes`.
#[must_use]
pub fn count(number: impl Into<i64>, singular: &str) -> String {
    let number = number.into();
    if number == 1 { format!("1 {singular}") } else { format!("{number} {singular}s") }
}

/// As in the spec: `5` or `10%`.
#[must_use]
pub fn amount(value: &IntOrPercent) -> String {
    match value {
        IntOrPercent::Int(number) => number.to_string(),
        IntOrPercent::Percent(text) => text.clone(),
    }
}

/// That much of so many nodes: percentages are rounded down, at least 1; never more than there are.
#[must_use]
pub fn share(value: &IntOrPercent, of: i32) -> i32 {
    let wanted = match value {
        IntOrPercent::Int(number) => *number,
        IntOrPercent::Percent(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            i32::try_from(i64::from(of) * percent / 100).unwrap_or(i32::MAX).max(1)
        }
    };
    wanted.min(of)
}

/// A list of names that a line can hold: the first few, then how many more.
#[must_use]
pub fn names<'a>(names: impl IntoIterator<Item = &'a str>, total: usize, most: usize) -> String {
    let shown: Vec<&str> = names.into_iter().take(most).collect();
    let more = total.saturating_sub(shown.len());
    let mut text = shown.join(", ");
    if more > 0 {
        text.push_str(&if shown.is_empty() { format!("{more}") } else { format!(" and {more} more") });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let cases = [
            (0, "0ms"),
            (850, "850ms"),
            (12_300, "12s"),
            (60_000, "1m"),
            (200_000, "3m20s"),
            (7_500_000, "2h5m"),
            (367_200_000, "4d6h"),
            (-5, "0ms"),
        ];
        for (milliseconds, text) in cases {
            assert_eq!(duration(milliseconds), text);
        }
    }

    #[test]
    fn a_simulated_blackout_says_so() {
        assert_eq!(blackout(812, true), "812ms (simulated)");
        assert_eq!(blackout(1914, false), "1.91s");
        assert_eq!(blackout(65_000, false), "1m5s");
    }

    #[test]
    fn shares_round_down_and_are_at_least_one() {
        let percent = |text: &str| IntOrPercent::Percent(text.into());
        assert_eq!(share(&percent("25%"), 19), 4);
        assert_eq!(share(&percent("1%"), 19), 1);
        assert_eq!(share(&IntOrPercent::Int(30), 19), 19);
    }

    #[test]
    fn names_are_cut_with_their_number() {
        assert_eq!(names(["a", "b", "c"], 12, 2), "a, b and 10 more");
        assert_eq!(names(["a"], 1, 2), "a");
    }
}
