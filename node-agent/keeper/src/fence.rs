//! Who may speak, and which attempts have begun. Raised on disk before anything else happens.

use std::collections::VecDeque;

use liveupdate_proto::common::v1::{Epoch, Subject};
use liveupdate_proto::keeper::v1::refusal::Cause;
use serde::{Deserialize, Serialize};

use crate::refusal::Refused;

/// Attempts that are remembered. An attempt's id has a number that only rises, and an old leader is fenced
/// by its epoch, so that a late repetition is of a recent one.
const REMEMBERED: usize = 256;

/// The highest epoch, and attempts that have begun here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Fence {
    cluster: String,
    counter: u64,
    begun: VecDeque<String>,
}

impl Fence {
    /// Lets a subject through; true: the epoch is higher than any before and must be written down.
    pub(crate) fn pass(&mut self, subject: &Subject) -> Result<bool, Refused> {
        let epoch = subject.epoch.as_ref().filter(|e| !e.cluster.is_empty() && e.counter > 0);
        let epoch = epoch.ok_or_else(|| Refused::malformed("the request carries no epoch"))?;
        if self.counter > 0 && epoch.cluster != self.cluster {
            let message = format!(
                "this keeper belongs to cluster {}; the request comes from {}: enrol the node again to move it",
                self.cluster, epoch.cluster
            );
            return Err(Refused::new(Cause::ForeignCluster, message));
        }
        if epoch.counter < self.counter {
            let message = format!("epoch {} is over: {} has spoken", epoch.counter, self.counter);
            return Err(Refused::new(Cause::StaleEpoch, message));
        }
        let raised = epoch.counter > self.counter;
        self.cluster.clone_from(&epoch.cluster);
        self.counter = epoch.counter;
        Ok(raised)
    }

    /// Writes an attempt down as begun; an attempt runs at most once.
    pub(crate) fn begin(&mut self, attempt: &str) -> Result<(), Refused> {
        if self.begun.iter().any(|begun| begun == attempt) {
            let message = format!("attempt {attempt} has begun here before; an attempt runs at most once");
            return Err(Refused::new(Cause::AttemptRepeated, message));
        }
        if self.begun.len() == REMEMBERED {
            self.begun.pop_front();
        }
        self.begun.push_back(attempt.into());
        Ok(())
    }

    /// The highest epoch; none before the first request.
    pub(crate) fn highest(&self) -> Option<Epoch> {
        (self.counter > 0).then(|| Epoch { cluster: self.cluster.clone(), counter: self.counter })
    }
}
