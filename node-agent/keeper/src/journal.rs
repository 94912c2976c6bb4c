//! What the keeper knows, as it is on disk: one record, replaced as a whole.

use std::collections::BTreeMap;

use liveupdate_host::{Host, HostError};
use liveupdate_node_core::Monotonic;
use liveupdate_node_core::fence::Fence;
use liveupdate_node_core::node::{Effect, Event, Node};
use liveupdate_proto::common::v1::NodeState;
use liveupdate_proto::keeper::v1::refusal::Cause;
use serde::{Deserialize, Serialize};

use crate::blackout::Stamps;
use crate::refusal::Refused;

/// Under which the machine keeps it.
pub(crate) const KEY: &str = "journal";
/// An attempt with 64 devices takes some tens of kB, all remembered attempts with the longest ids a little
/// over 1 MiB; what is larger was not written by us.
const MAX_BYTES: usize = 2 << 20;

/// Everything that outlives the process and the jump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Journal {
    pub(crate) node: Node,
    pub(crate) fence: Fence,
    pub(crate) notes: Notes,
}

/// What the core's state does not hold of the attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Notes {
    /// UID of the Node object that the attempt is for.
    pub(crate) node_uid: String,
    /// Which holders stood still, and from when to when.
    pub(crate) stamps: BTreeMap<String, Stamps>,
    /// Names of the states with the wall clock's milliseconds.
    pub(crate) states: Vec<(i32, i64)>,
    /// Something came through the jump and is not given back yet.
    pub(crate) open: bool,
    /// What went wrong last while undoing or giving back; it is tried again.
    pub(crate) trouble: String,
    /// Whose files are lost, and why.
    #[serde(default)]
    pub(crate) lost: String,
    /// By device: what made its facts worse than the best.
    #[serde(default)]
    pub(crate) evidence: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    node: String,
    fence: String,
    notes: Notes,
}

const VERSION: u32 = 1;

impl Journal {
    /// Reads it; empty when there was never one. What cannot be read is an error: guessing could jump twice.
    pub(crate) fn load(host: &dyn Host) -> Result<Self, HostError> {
        let Some(bytes) = host.load(KEY)? else { return Ok(Self::default()) };
        let malformed = |why: String| HostError::Malformed { what: "the keeper's journal".into(), why };
        if bytes.len() > MAX_BYTES {
            return Err(malformed(format!("{} bytes, at most {MAX_BYTES} are read", bytes.len())));
        }
        let record: Record = serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
        if record.version != VERSION {
            return Err(malformed(format!("version {}, this keeper reads {VERSION}", record.version)));
        }
        let node = Node::decode(&record.node).map_err(|e| malformed(e.to_string()))?;
        let fence = Fence::decode(&record.fence).map_err(|e| malformed(e.to_string()))?;
        Ok(Self { node, fence, notes: record.notes })
    }

    /// As it is on disk.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, HostError> {
        let record = Record {
            version: VERSION,
            node: self.node.encode(),
            fence: self.fence.encode(),
            notes: self.notes.clone(),
        };
        serde_json::to_vec(&record)
            .map_err(|e| HostError::Malformed { what: "the keeper's journal".into(), why: e.to_string() })
    }

    /// What an event makes of it, and what is to be done then.
    pub(crate) fn after(
        mut self,
        event: Event,
        now: Monotonic,
        wall: i64,
    ) -> Result<(Self, Vec<Effect>), Refused> {
        let transition = std::mem::take(&mut self.node).step(event, now);
        if let Some(refused) = transition.refused {
            return Err(Refused::new(Cause::WrongState, refused.to_string()));
        }
        self.node = transition.state;
        if matches!(self.node, Node::Ended(_)) {
            self.fence.ended();
        }
        self.note_state(wall);
        Ok((self, transition.effects))
    }

    /// Notes the state with the time at which it began, if it is another one.
    fn note_state(&mut self, unix_ms: i64) {
        let state = i32::from(NodeState::from(self.node.name()));
        let idle = state == i32::from(NodeState::Idle);
        if !idle && self.notes.states.last().is_none_or(|(last, _)| *last != state) {
            self.notes.states.push((state, unix_ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use liveupdate_host::Host;
    use liveupdate_host::simulated::{World, WorldSpec};
    use liveupdate_node_core::Epoch;
    use liveupdate_node_core::fence::Call;
    use liveupdate_proto::convert::MAX_WORD;

    use super::{Journal, KEY};

    #[test]
    fn a_journal_that_remembers_all_that_it_can_is_read_again() {
        let host = World::in_memory(WorldSpec::new("7.3.4")).host().unwrap();
        let mut journal = Journal::default();
        let epoch = Epoch { cluster: "c".repeat(MAX_WORD), counter: u64::MAX };
        let id = |number: usize| format!("{number:0MAX_WORD$}");
        for number in 0..4200 {
            journal.fence.check(&epoch, Call::Begin(&id(number))).unwrap();
            journal.fence.ended();
        }
        assert!(journal.fence.has_ended(&id(4199)) && !journal.fence.has_ended(&id(0)));
        host.store(KEY, &journal.encode().unwrap()).unwrap();
        assert_eq!(Journal::load(&host).unwrap(), journal);
    }
}
