//! What a pass collects: actions, and the moment at which time alone changes the plan.

use alloc::vec::Vec;

use crate::Time;
use crate::output::Action;

/// Collected over a pass.
pub(crate) struct Todo {
    /// When the pass is.
    pub(crate) now: Time,
    /// In order.
    pub(crate) actions: Vec<Action>,
    /// The earliest.
    pub(crate) wake: Option<Time>,
}

impl Todo {
    pub(crate) fn new(now: Time) -> Self {
        Self { now, actions: Vec::new(), wake: None }
    }

    /// One more thing to do.
    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// What another one collected, too.
    pub(crate) fn join(&mut self, other: Todo) {
        self.actions.extend(other.actions);
        self.wake = self.wake.into_iter().chain(other.wake).min();
    }

    /// Whether `at` has come; if not, the plan is made again then at the latest.
    pub(crate) fn due(&mut self, at: Time) -> bool {
        if at <= self.now {
            return true;
        }
        if self.wake.is_none_or(|wake| at < wake) {
            self.wake = Some(at);
        }
        false
    }
}
