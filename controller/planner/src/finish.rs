//! When a run is over.

use crate::input::Finished;
use crate::members::let_go;
use crate::output::Reason;
use crate::progress::Waits;
use crate::run::Run;
use crate::{Time, stop};

/// Ends the run when nothing of it is in flight and nothing is left to do or allowed to be done.
pub(crate) fn decide(run: &mut Run<'_>, now: Time) {
    let over = run.active().is_none() || run.record.finished.is_some();
    if over || !run.entries.is_empty() || !run.record.in_flight.is_empty() {
        return;
    }
    let reason = if stop::is_aborting(run) {
        Reason::Aborted
    } else if run.stop.is_some() || run.progress.waits != Waits::Nothing {
        return;
    } else if run.tally.skipped > 0 || let_go(run) > 0 {
        Reason::CompletedWithSkipped
    } else {
        Reason::Completed
    };
    run.record.finished = Some(Finished { at: now, reason });
}
