//! The figures: medians and their spread, and where the time goes.

use std::fmt::Write;
use std::time::Duration;

use crate::vm::phases::{Phases, RETRIEVAL};

/// Two jumps into the same kernel, each phase seen.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) ours: Phases,
    pub(super) bare: Phases,
}

impl Pair {
    /// Milliseconds of our path without the retrieval of the holder's memory.
    fn ours(&self) -> f64 {
        milliseconds(self.ours.whole) - self.retrieval()
    }

    fn bare(&self) -> f64 {
        milliseconds(self.bare.whole)
    }

    fn retrieval(&self) -> f64 {
        milliseconds(self.ours.took(RETRIEVAL))
    }

    fn ratio(&self) -> f64 {
        self.ours() / self.bare()
    }
}

/// All pairs of one size.
#[derive(Clone, Debug)]
pub(super) struct Sized {
    pub(super) gib: u32,
    /// In folios of 2 MiB.
    pub(super) huge: bool,
    pub(super) pairs: Vec<Pair>,
}

impl Sized {
    pub(super) fn new(gib: u32, huge: bool) -> Sized {
        Sized { gib, huge, pairs: Vec::new() }
    }

    fn held(&self) -> String {
        format!("{} GiB{}", self.gib, if self.huge { " huge" } else { "" })
    }

    /// How it stands.
    pub(super) fn line(&self) -> String {
        let (ours, bare, ratio) = (self.of(Pair::ours), self.of(Pair::bare), self.of(Pair::ratio));
        format!("ours {:.0} ms, bare {:.0} ms, ratio {:.3}", ours.median, bare.median, ratio.median)
    }

    fn of(&self, figure: impl Fn(&Pair) -> f64) -> Spread {
        Spread::of(self.pairs.iter().map(figure).collect())
    }
}

/// Where a figure lies.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    least: f64,
    lower: f64,
    median: f64,
    upper: f64,
    most: f64,
}

impl Spread {
    fn of(mut all: Vec<f64>) -> Spread {
        all.sort_by(f64::total_cmp);
        // Between the two that are next to it, in proportion.
        let at = |share: f64| {
            let place = share * all.len().saturating_sub(1) as f64;
            let (below, above) = (place.floor() as usize, place.ceil() as usize);
            let (Some(below), Some(above)) = (all.get(below), all.get(above)) else { return f64::NAN };
            below + (above - below) * place.fract()
        };
        Spread { least: at(0.0), lower: at(0.25), median: at(0.5), upper: at(0.75), most: at(1.0) }
    }
}

fn milliseconds(took: Option<Duration>) -> f64 {
    took.map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
}

/// For a person. Nothing was measured of a size without pairs.
pub(super) fn text(all: &[Sized]) -> String {
    let mut text = String::from(
        "Blackout of a LiveUpdate (Quiesce sent to the holder's Resumed, without the retrieval of its memory)\n\
         over a bare kexec (reboot call to init's first line); emulated guests, stamps of their console lines\n\n",
    );
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{:<11} {:>5} {:>9} {:>9} {:>10}  {:<15} {:<15} {:>10}",
        "HELD", "PAIRS", "OURS", "BARE", "RATIO", "QUARTILES", "RANGE", "RETRIEVAL"
    );
    for sized in all.iter().filter(|sized| !sized.pairs.is_empty()) {
        let (ours, bare, ratio) = (sized.of(Pair::ours), sized.of(Pair::bare), sized.of(Pair::ratio));
        let _ = writeln!(
            text,
            "{:<11} {:>5} {:>6.0} ms {:>6.0} ms {:>10.3}  {:<15} {:<15} {:>7.0} ms",
            sized.held(),
            sized.pairs.len(),
            ours.median,
            bare.median,
            ratio.median,
            format!("{:.3} to {:.3}", ratio.lower, ratio.upper),
            format!("{:.3} to {:.3}", ratio.least, ratio.most),
            sized.of(Pair::retrieval).median,
        );
    }
    for sized in all.iter().filter(|sized| !sized.pairs.is_empty()) {
        phases(&mut text, sized);
    }
    text
}

/// The medians of each phase, ours beside the bare one's.
fn phases(text: &mut String, sized: &Sized) {
    let _ = writeln!(text, "\n{:<28} {:>9} {:>9} {:>9}", sized.held(), "OURS", "BARE", "MORE");
    let names = sized.pairs.first().map(|pair| pair.ours.each.as_slice()).unwrap_or_default();
    for (name, _) in names {
        let ours = sized.of(|pair| milliseconds(pair.ours.took(name))).median;
        let bare = sized.of(|pair| milliseconds(pair.bare.took(name))).median;
        // Told in a counted run are those phases alone whose ends carry the counter.
        if ours.is_nan() {
            continue;
        }
        let bare = if bare.is_nan() { 0.0 } else { bare };
        let _ = writeln!(text, "  {name:<26} {ours:>6.0} ms {bare:>6.0} ms {:>6.0} ms", ours - bare);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phases(each: &[(&'static str, u64)]) -> Phases {
        let took = |(name, ms): &(&'static str, u64)| (*name, Some(Duration::from_millis(*ms)));
        let whole = each.iter().map(|(_, ms)| ms).sum();
        Phases { each: each.iter().map(took).collect(), whole: Some(Duration::from_millis(whole)) }
    }

    fn pair(ours: u64, bare: u64, retrieval: u64) -> Pair {
        let boot = "kernel boot";
        Pair { ours: phases(&[(boot, ours), (RETRIEVAL, retrieval)]), bare: phases(&[(boot, bare)]) }
    }

    #[test]
    fn the_ratio_is_the_median_of_the_pairs_and_leaves_retrieval_out() {
        let pairs = vec![pair(1100, 1000, 500), pair(2400, 2000, 700), pair(1050, 1000, 600)];
        let sized = Sized { gib: 1, huge: false, pairs };
        let ratio = sized.of(Pair::ratio);
        assert_eq!((ratio.least, ratio.median, ratio.most), (1.05, 1.1, 1.2));
        assert!((ratio.lower - 1.075).abs() < 1e-9 && (ratio.upper - 1.15).abs() < 1e-9, "{ratio:?}");
        let text = text(&[sized]);
        let line = text.lines().find(|line| line.starts_with("1 GiB ")).unwrap();
        assert!(line.contains("1.100") && line.ends_with("600 ms"), "{text}");
        assert!(text.contains("kernel boot"), "{text}");
    }

    #[test]
    fn nothing_is_said_of_a_size_that_was_not_measured() {
        assert!(!text(&[Sized::new(4, false)]).contains("4 GiB"));
    }
}
