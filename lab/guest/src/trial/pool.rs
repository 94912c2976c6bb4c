//! Calls that go through but once on a device: each device goes on with the faults where the one before it ended.

use super::faults::{Nth, Tally};
use super::say;

/// A call's faults, over several devices.
pub(super) struct Walk {
    what: &'static str,
    switch: Nth,
    nth: u32,
    tally: Tally,
    whole: bool,
}

/// What became of the call on one device.
pub(super) enum Walked<T> {
    /// It went through.
    Through(T),
    /// It failed for want of memory, and its failure is kept: it cannot be tried again.
    Lost,
}

impl Walk {
    pub(super) fn new(what: &'static str) -> Result<Walk, String> {
        Ok(Walk { what, switch: Nth::open()?, nth: 1, tally: Tally::default(), whole: false })
    }

    /// Tries a call on the next device until it goes through, with one more request refused each time.
    pub(super) fn step<T>(
        &mut self,
        mut attempt: impl FnMut() -> Result<T, String>,
    ) -> Result<Walked<T>, String> {
        let mut refused = false;
        while !self.whole {
            let (outcome, fired) = self.switch.around(self.nth, &mut attempt)?;
            self.nth += u32::from(fired);
            match outcome {
                Ok(value) => {
                    self.tally.tolerated += u32::from(fired);
                    self.whole = !fired;
                    return Ok(Walked::Through(value));
                }
                Err(_) if fired => {
                    self.tally.refused += 1;
                    refused = true;
                }
                Err(_) if refused => return Ok(Walked::Lost),
                Err(error) => return Err(format!("{} failed with nothing refused: {error}", self.what)),
            }
        }
        attempt().map(Walked::Through)
    }

    /// As [`Walk::step`], of a call that can be tried again.
    pub(super) fn through<T>(&mut self, attempt: impl FnMut() -> Result<T, String>) -> Result<T, String> {
        match self.step(attempt)? {
            Walked::Through(value) => Ok(value),
            Walked::Lost => Err(format!("{} failed for good when it lacked memory once", self.what)),
        }
    }

    /// Says what became of them, and whether there were devices enough to refuse each request once.
    pub(super) fn end(self) -> bool {
        self.tally.say(self.what);
        if !self.whole {
            say(&format!("{}: not to the end, with request {} next", self.what, self.nth));
        }
        self.whole
    }
}
