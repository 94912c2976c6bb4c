//! The guest together with whether it stands still. That is no part of how far the messages are: whatever is said next,
//! and in whatever order, a guest that was stopped stands until it went on.

use std::time::Duration;

use liveupdate_proto::handover::v1::Resumed;

use crate::guest::{Guest, Stopped};

/// A guest. Nothing but [`Standing::go_on`] ends that it stands still.
pub(crate) struct Standing<G> {
    guest: G,
    stands: bool,
}

impl<G: Guest> Standing<G> {
    pub(crate) fn new(guest: G) -> Self {
        Self { guest, stands: false }
    }

    pub(crate) fn guest(&self) -> &G {
        &self.guest
    }

    /// For all that neither stops it nor lets it go on.
    pub(crate) fn guest_mut(&mut self) -> &mut G {
        &mut self.guest
    }

    /// It stops.
    pub(crate) fn stop(&mut self, deadline: Duration) -> Result<Stopped, String> {
        let stopped = self.guest.quiesce(deadline)?;
        self.stands = true;
        Ok(stopped)
    }

    /// It goes on. None: it runs.
    pub(crate) fn go_on(&mut self, cause: &str) -> Result<Option<Resumed>, String> {
        if !self.stands {
            return Ok(None);
        }
        let resumed = self.guest.resume(cause)?;
        self.stands = false;
        Ok(Some(resumed))
    }
}
