//! Memory that the kernel does not get: the n-th request of one system call is refused (`fail-nth`, for each n until the
//! call needs no more), or all from some amount on.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::saw;

/// Of this thread: no other one is in its system calls.
const NTH: &str = "/proc/thread-self/fail-nth";
const MARKED: &str = "/proc/self/make-it-fail";
const SETTINGS: &str = "/sys/kernel/debug";
/// The allocator's objects by kind, each with a file that says whether requests for it may be refused.
const SLABS: &str = "/sys/kernel/slab";
/// Of the watcher's own: a leak detector that is refused memory switches itself off.
const SPARED: &str = "kmemleak";
/// No call here asks for memory so often.
const MOST: u32 = 2000;
/// All memory that a call may ask for, in bytes, and how finely it is tried.
const AMOUNTS: std::ops::Range<u32> = 0..(24 << 10);
const GRAIN: usize = 256;

/// What became of the faults of one sweep.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// The call failed, and said so.
    pub(super) refused: u32,
    /// The call did without.
    pub(super) tolerated: u32,
}

impl Tally {
    pub(super) fn say(self, what: &str) {
        let Tally { refused, tolerated } = self;
        saw(refused + tolerated, &format!("faults in {what}: {refused} refused, {tolerated} tolerated"));
    }
}

/// Lets requests fail that may wait for memory, which is nearly all, and none of the watcher's.
pub(super) fn prepare() -> Result<(), String> {
    for kind in ["failslab", "fail_page_alloc"] {
        set(kind, "verbose", "0")?;
        set(kind, "ignore-gfp-wait", "N")?;
    }
    set("fail_page_alloc", "ignore-gfp-highmem", "N")?;
    set("failslab", "cache-filter", "Y")?;
    let slabs = fs::read_dir(SLABS).map_err(|error| format!("cannot read {SLABS}: {error}"))?;
    let mut marked = 0;
    for slab in slabs.flatten() {
        if slab.file_name().to_string_lossy().starts_with(SPARED) {
            continue;
        }
        // Those of kinds that share their objects cannot be marked.
        marked += u32::from(fs::write(slab.path().join("failslab"), "1").is_ok());
    }
    if marked == 0 { Err(format!("nothing in {SLABS} can be made to fail")) } else { Ok(()) }
}

fn set(kind: &str, name: &str, value: &str) -> Result<(), String> {
    let path = Path::new(SETTINGS).join(kind).join(name);
    fs::write(&path, value).map_err(|error| format!("cannot write {value} to {}: {error}", path.display()))
}

/// The switch of this thread.
pub(super) struct Nth(File);

impl Nth {
    pub(super) fn open() -> Result<Nth, String> {
        let file = OpenOptions::new().read(true).write(true).open(NTH);
        file.map(Nth).map_err(|error| format!("cannot open {NTH}: {error}"))
    }

    /// Does something with its n-th request refused. Also tells whether there was one.
    pub(super) fn around<T>(&self, nth: u32, attempt: impl FnOnce() -> T) -> Result<(T, bool), String> {
        let failed = |error: std::io::Error| format!("cannot use {NTH}: {error}");
        let text = nth.to_string();
        self.0.write_all_at(text.as_bytes(), 0).map_err(failed)?;
        let outcome = attempt();
        let mut left = [0; 16];
        let length = self.0.read_at(&mut left, 0).map_err(failed)?;
        self.0.write_all_at(b"0", 0).map_err(failed)?;
        let left = String::from_utf8_lossy(left.get(..length).unwrap_or_default());
        Ok((outcome, left.trim() == "0"))
    }
}

/// Refuses each request of something once. It has to fail whole, or to do without; what it gave then, or nothing, goes to
/// `undo`, after which all has to be as it was. Gives what it gave when it needed no more.
pub(super) fn sweep<T>(
    what: &str,
    mut attempt: impl FnMut() -> Result<T, String>,
    mut undo: impl FnMut(Option<T>) -> Result<(), String>,
) -> Result<T, String> {
    let switch = Nth::open()?;
    let mut tally = Tally::default();
    for nth in 1..=MOST {
        let after = |error: String| format!("{what}, after request {nth} was refused: {error}");
        match switch.around(nth, &mut attempt)? {
            (Ok(value), false) => {
                tally.say(what);
                return Ok(value);
            }
            (Ok(value), true) => {
                tally.tolerated += 1;
                undo(Some(value)).map_err(after)?;
            }
            (Err(_), true) => {
                tally.refused += 1;
                undo(None).map_err(after)?;
            }
            (Err(error), false) => return Err(format!("{what} failed with nothing refused: {error}")),
        }
    }
    Err(format!("{what} asked for memory more than {MOST} times"))
}

/// Refuses all requests of something from an amount of memory on, for each amount until it needs no more: what undoes is
/// short of memory, too.
pub(super) fn starve<T>(
    what: &str,
    mut attempt: impl FnMut() -> Result<T, String>,
    mut undo: impl FnMut(Option<T>) -> Result<(), String>,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot use {MARKED}: {error}");
    // Open all the time: without memory it could not be opened to be switched off.
    let switch = OpenOptions::new().write(true).open(MARKED).map_err(failed)?;
    let mut tally = Tally::default();
    for amount in AMOUNTS.step_by(GRAIN) {
        for kind in ["failslab", "fail_page_alloc"] {
            set(kind, "task-filter", "Y")?;
            set(kind, "times", "-1")?;
            set(kind, "interval", "1")?;
            set(kind, "space", &amount.to_string())?;
            set(kind, "probability", "100")?;
        }
        switch.write_all_at(b"1", 0).map_err(failed)?;
        let outcome = attempt();
        switch.write_all_at(b"0", 0).map_err(failed)?;
        for kind in ["failslab", "fail_page_alloc"] {
            set(kind, "probability", "0")?;
        }
        let count = if outcome.is_ok() { &mut tally.tolerated } else { &mut tally.refused };
        *count += 1;
        undo(outcome.ok()).map_err(|error| format!("{what}, after {amount} bytes: {error}"))?;
    }
    if tally.tolerated == 0 {
        return Err(format!("{what} never had enough memory"));
    }
    tally.say(&format!("{what}, from an amount of memory on"));
    Ok(())
}
