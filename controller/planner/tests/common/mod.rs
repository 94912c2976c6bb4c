//! An update for tests that change what they are about.

use std::collections::BTreeSet;
use std::time::Duration;

use liveupdate_planner::{
    Amount, OnBlocked, OnFailure, Selector, Spec, Step, Strategy, Text, Time, Update, UpdateRecord,
};

/// To release 9.1, of all nodes in one step, one at a time; no failure is forgiven.
pub(crate) fn spec(revision: &str) -> Spec {
    Spec {
        selector: Selector::default(),
        include_joining: false,
        release: "9.1".into(),
        digest: "sha256:9.1".into(),
        revision: Text::copy(revision),
        acknowledge: BTreeSet::new(),
        strategy: Strategy {
            max_unavailable: Amount::Count(1),
            order: vec![],
            max_failures: Amount::Count(0),
            on_failure: OnFailure::Pause,
            on_blocked: OnBlocked::Wait,
            dry_run: false,
            steps: vec![step("all", Amount::Percent(100))],
        },
        return_deadline: Duration::from_mins(5),
        verify_deadline: Duration::from_mins(5),
        prepare_deadline: Duration::from_mins(10),
        blackout_budget: None,
        paused: false,
    }
}

/// Without bake and approval.
pub(crate) fn step(name: &str, nodes: Amount) -> Step {
    Step { name: name.into(), nodes, cover_device_model: false, bake: Duration::ZERO, approval: false }
}

/// That nobody has looked at yet.
pub(crate) fn update(name: &str, created: Time, spec: Spec) -> Update {
    Update {
        name: Text::copy(name),
        uid: format!("uid-of-{name}").into(),
        created,
        deleting: false,
        has_finalizer: false,
        spec: Ok(spec),
        verbs: vec![],
        record: UpdateRecord::default(),
    }
}
