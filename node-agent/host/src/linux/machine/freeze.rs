//! Bringing file systems to rest, and back.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

use super::calls::Calls;
use super::filesystems::{Filesystems, Mounted};
use crate::linux::root::Root;

/// For one file system to write what is left. Holders stand still meanwhile.
const SYNC: Duration = Duration::from_secs(10);
/// For one to go on again. Holders stand still meanwhile: what takes longer does it by itself.
pub(super) const BACK: Duration = Duration::from_secs(10);

/// How long a jump may still happen: whatever takes longer than that was not permitted to jump, and holders that stand
/// still go on.
pub(super) struct Limit<'a> {
    calls: &'a dyn Calls,
    until: Duration,
}

impl<'a> Limit<'a> {
    /// Until then, by [`Calls::clock`].
    pub(super) fn new(calls: &'a dyn Calls, until: Duration) -> Self {
        Self { calls, until }
    }

    /// What is left; the sentence says before what nothing was.
    pub(super) fn left(&self, before: &str) -> Result<Duration, String> {
        let left = self.until.saturating_sub(self.calls.clock());
        if left.is_zero() {
            return Err(format!(
                "the time for the jump ran out before {before}: that of its permission, or the attempt's own"
            ));
        }
        Ok(left)
    }
}

/// How one was brought to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Frozen,
    ReadOnly,
}

/// File systems at rest; dropped, they go on.
pub(super) struct AtRest<'a> {
    calls: &'a dyn Calls,
    root: &'a Root,
    done: Vec<(&'a Mounted, Rest)>,
}

/// Writes out what is left and lets nobody write any more (invariant 11). After an error all go on as before.
pub(super) fn bring_to_rest<'a>(
    calls: &'a dyn Calls,
    root: &'a Root,
    all: &'a Filesystems,
    limit: &Limit<'_>,
) -> Result<AtRest<'a>, String> {
    // Also of what is mounted where only its holder sees it. It tells of no error: whatever can be seen is asked for those.
    let synced = calls.sync_all(limit.left("all that was written was synced")?);
    synced.map_err(|error| format!("what was written cannot be synced: {error}"))?;
    for mounted in &all.remote {
        sync_one(calls, root, mounted, left(limit, mounted)?)?;
    }
    let mut at_rest = AtRest { calls, root, done: Vec::new() };
    for mounted in &all.local {
        sync_one(calls, root, mounted, left(limit, mounted)?)?;
        if let Some(rest) = stop(calls, root, mounted, limit)? {
            at_rest.done.push((mounted, rest));
        }
    }
    Ok(at_rest)
}

fn left(limit: &Limit<'_>, mounted: &Mounted) -> Result<Duration, String> {
    limit.left(&format!("{} ({}) was at rest", mounted.place, mounted.kind))
}

/// Writes out what there is, and tells what could not be written.
pub(super) fn sync(calls: &dyn Calls, root: &Root, all: &[Mounted]) -> Result<(), String> {
    all.iter().try_for_each(|mounted| sync_one(calls, root, mounted, SYNC))
}

fn sync_one(calls: &dyn Calls, root: &Root, mounted: &Mounted, limit: Duration) -> Result<(), String> {
    match calls.sync(&root.path(&mounted.place), limit.min(SYNC)) {
        Err(error) if !is_out_of_reach(mounted, &error) => {
            Err(format!("{} ({}) cannot be synced: {error}", mounted.place, mounted.kind))
        }
        _ => Ok(()),
    }
}

/// A program's file system lets in nobody but whom it serves, or has lost its program: the sync of all has written what
/// there is, and more nobody can do.
fn is_out_of_reach(mounted: &Mounted, error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    mounted.kind.split('.').next() == Some("fuse")
        && matches!(errno, Some(Errno::ACCESS | Errno::NOTCONN | Errno::CONNABORTED))
}

/// None: somebody else has frozen it, and it is theirs to thaw.
fn stop(
    calls: &dyn Calls,
    root: &Root,
    mounted: &Mounted,
    limit: &Limit<'_>,
) -> Result<Option<Rest>, String> {
    let (place, kind) = (&mounted.place, &mounted.kind);
    let path = root.path(place);
    let error = match calls.freeze(&path, left(limit, mounted)?) {
        Ok(()) => return Ok(Some(Rest::Frozen)),
        Err(error) => error,
    };
    match Errno::from_io_error(&error) {
        Some(Errno::BUSY) => Ok(None),
        Some(Errno::OPNOTSUPP) => match calls.remount(&path, true, &mounted.options, left(limit, mounted)?) {
            Ok(()) => Ok(Some(Rest::ReadOnly)),
            Err(error) => Err(format!(
                "{place} ({kind}) can neither be frozen nor made read-only: {error}; end who writes there"
            )),
        },
        _ => Err(format!("{place} ({kind}) cannot be frozen: {error}")),
    }
}

impl AtRest<'_> {
    /// Lets them go on, in reverse order; what went wrong with it.
    pub(super) fn go_on(mut self) -> Vec<String> {
        self.undo()
    }

    fn undo(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        while let Some((mounted, rest)) = self.done.pop() {
            let path = self.root.path(&mounted.place);
            let undone = match rest {
                Rest::Frozen => self.calls.thaw(&path, BACK),
                Rest::ReadOnly => self.calls.remount(&path, false, &mounted.options, BACK),
            };
            wrong.extend(undone.err().map(|error| format!("{} stays at rest: {error}", mounted.place)));
        }
        wrong
    }
}

impl Drop for AtRest<'_> {
    fn drop(&mut self) {
        // Whoever wants to know has called `go_on`.
        let _ = self.undo();
    }
}

/// Lets go on what a keeper brought to rest that died before it jumped. What is not at rest stays as it is.
pub(super) fn release(calls: &dyn Calls, root: &Root, left: &[Mounted]) -> io::Result<()> {
    for mounted in left.iter().rev() {
        let path = root.path(&mounted.place);
        match calls.thaw(&path, BACK) {
            Ok(()) => {}
            // Not frozen, cannot be, or not mounted any more: perhaps it was made read-only.
            Err(error) if error.raw_os_error().is_some() => {
                let now = Filesystems::is_read_only(root, mounted);
                if now {
                    calls.remount(&path, false, &mounted.options, BACK)?;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
