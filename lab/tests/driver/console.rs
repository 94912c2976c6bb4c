//! What the watchers say on the console.

use liveupdate_lab_guest::trial::SAW;

/// Lines of these begin a report.
const WORDS: [&str; 13] = [
    "KASAN:",
    "BUG:",
    "WARNING:",
    "possible recursive locking",
    "possible circular locking",
    "possible irq lock inversion",
    "inconsistent lock state",
    "bad unlock balance",
    "held lock freed",
    "suspicious RCU usage",
    "general protection fault",
    "blocked for more than",
    TRACE,
];
const TRACE: &str = "Call Trace";
/// A trace of calls is part of the report that began so many lines above it.
const REACH: usize = 60;

/// Reports that say nothing of the driver, each by what its head says.
const EXCUSED: [(&str, &str); 5] = [
    // The kernel's way to say that it was refused memory, which is what we do.
    ("vmalloc error", "a refused request of a caller that does not keep it to itself"),
    ("page allocation failure", "the same"),
    (
        "vfio_group_release",
        "VFIO's way back from a group that it could not name or add: it warns of what it left in it",
    ),
    // Enabling and disabling a device asks ACPI for its interrupt.
    (
        "KASAN: slab-use-after-free in acpi_",
        "ACPI's interpreter touches what it has freed when it lacks memory",
    ),
    ("luo_retrieve_file", "the orchestrator cannot do without the entry of a retrieved file, and warns"),
];

/// Something that was reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    lines: Vec<String>,
    /// So many of them say what it is; what follows may be anybody's.
    head: usize,
}

impl Report {
    /// It has this in it.
    pub(crate) fn has(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.contains(text))
    }

    fn excused(&self) -> bool {
        EXCUSED.iter().any(|(text, _)| self.lines.iter().take(self.head).any(|line| line.contains(text)))
    }
}

fn begins(line: &str) -> bool {
    WORDS.iter().any(|word| line.contains(word))
}

/// All reports, with what follows them.
pub(crate) fn reports(lines: &[String]) -> Vec<Report> {
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        if !begins(line) {
            at += 1;
            continue;
        }
        // A lone trace has what it is of right above it.
        let from = if line.contains(TRACE) { at.saturating_sub(8) } else { at };
        let mut traces = u8::from(line.contains(TRACE));
        let mut end = at + 1;
        // Up to the next one, which is not to be excused for this one's sake.
        while let Some(line) =
            lines.get(end).filter(|line| end < at + REACH && (!begins(line) || line.contains(TRACE)))
        {
            traces += u8::from(line.contains(TRACE));
            if traces > 1 {
                break;
            }
            end += 1;
        }
        all.push(Report { lines: lines[from..end].to_vec(), head: at - from + 1 });
        at = end;
    }
    all
}

/// Nothing was reported of the driver. Gives how much of it says nothing of the driver.
pub(crate) fn quiet(lines: &[String]) -> usize {
    let (excused, ours): (Vec<_>, Vec<_>) = reports(lines).into_iter().partition(Report::excused);
    assert!(ours.is_empty(), "the watchers reported {} times:\n{ours:#?}", ours.len());
    excused.len()
}

/// What a guest says that it saw, each with how many of it.
fn counted(lines: &[String]) -> Vec<(u64, &str)> {
    let said = lines.iter().filter_map(|line| Some(line.split_once(SAW)?.1));
    said.filter_map(|rest| Some((rest.split_whitespace().next()?.parse().ok()?, rest))).collect()
}

/// Says each thing that a guest saw, and gives how many. Nothing may have been reported of the driver.
pub(crate) fn seen(lines: &[String]) -> u64 {
    println!("{} reports of refused requests that say nothing of the driver", quiet(lines));
    let counted = counted(lines);
    counted.iter().for_each(|(_, rest)| println!("saw {rest}"));
    counted.iter().map(|(count, _)| count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_report_is_found_unless_it_is_of_what_was_refused() {
        let calm = "[    1.0] pci 0000:01:00.0: enabling\n[    2.0] trial: saw 7 faults in x: 3 refused, 4 tolerated\n\
                    [    3.0] trial: saw 2 loads\n";
        assert_eq!(counted(&lines(calm)).iter().map(|(count, _)| count).sum::<u64>(), 9);
        assert_eq!(quiet(&lines(calm)), 0);
        let refused =
            format!("{calm}[  4.0] init: vmalloc error: size 4096\n[  4.0] CPU: 0\n[  4.0] Call Trace:\n");
        assert_eq!(quiet(&lines(&refused)), 1);
        let kasan =
            format!("{calm}[  4.0] BUG: KASAN: slab-use-after-free in lu_unpreserve\n[  4.0] Call Trace:\n");
        let found = reports(&lines(&kasan));
        assert!(found.len() == 1 && found[0].has("lu_unpreserve") && !found[0].excused(), "{found:?}");
        // What it came through is no excuse.
        let through = format!("{kasan}[  4.0]  lu_retrieve\n[  4.0]  luo_retrieve_file\n");
        assert!(reports(&lines(&through)).iter().all(|report| !report.excused()), "{through}");
        // One right after one that is excused is not.
        let both =
            format!("[  3.5] x: vmalloc error: size 4096\n[  3.5] Call Trace:\n[  3.5]  dump_stack\n{kasan}");
        let found = reports(&lines(&both));
        assert_eq!(found.iter().map(Report::excused).collect::<Vec<_>>(), [true, false], "{found:#?}");
        let lone = reports(&lines("[  4.0] who\n[  4.0] Call Trace:\n"));
        assert!(lone.len() == 1 && lone[0].has("who"), "{lone:?}");
    }
}
