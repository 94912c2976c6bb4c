//! Who may speak: the highest epoch is kept, also over restarts and jumps, and a lower one is refused. The
//! keeper has a fence of its own for what changes something; this one also covers what only reads.

use std::sync::{Arc, Mutex, PoisonError};

use liveupdate_host::{Host, HostError};
use liveupdate_node_core::Epoch;
use liveupdate_node_core::fence::{Call, Fence as Record, Refusal};

/// Key of [`Host::store`].
const KEY: &str = "agent-fence";

/// Why an epoch was not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fenced {
    /// It may not speak.
    Refused(Refusal),
    /// It could not be compared or kept.
    Host(HostError),
}

impl From<Refusal> for Fenced {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<HostError> for Fenced {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

/// The fence of one agent; read when the first call comes.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    record: Mutex<Option<Record>>,
}

impl Fence {
    /// The answer for an epoch where nothing has to be read or written for it.
    pub(crate) fn known(&self, epoch: &Epoch) -> Option<Result<(), Fenced>> {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tried = record.clone()?;
        match tried.check(epoch, Call::Look) {
            Ok(_) => (tried.highest() == record.as_ref()?.highest()).then_some(Ok(())),
            Err(refused) => Some(Err(refused.into())),
        }
    }

    /// Lets an epoch through that is not lower than the highest seen, and keeps it before it answers.
    pub(crate) fn pass(&self, host: &Arc<dyn Host>, epoch: &Epoch) -> Result<(), Fenced> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = loaded(&mut record, host)?;
        let mut raised = seen.clone();
        raised.check(epoch, Call::Look)?;
        if raised != *seen {
            host.store(KEY, raised.encode().as_bytes())?;
            *seen = raised;
        }
        Ok(())
    }

    /// The highest epoch seen.
    pub(crate) fn highest(&self, host: &Arc<dyn Host>) -> Result<Option<Epoch>, HostError> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(loaded(&mut record, host)?.highest().cloned())
    }
}

fn loaded<'a>(record: &'a mut Option<Record>, host: &Arc<dyn Host>) -> Result<&'a mut Record, HostError> {
    if record.is_none() {
        *record = Some(read(host)?);
    }
    Ok(record.get_or_insert_default())
}

fn read(host: &Arc<dyn Host>) -> Result<Record, HostError> {
    let Some(bytes) = host.load(KEY)? else { return Ok(Record::default()) };
    // Never guessed at: a fence that forgets lets everybody through.
    let malformed = |why: String| HostError::Malformed { what: format!("the stored {KEY}"), why };
    let text = String::from_utf8(bytes).map_err(|error| malformed(error.to_string()))?;
    Record::decode(&text).map_err(|error| malformed(error.to_string()))
}
