//! Lines of a script as events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use liveupdate_planner::simulation::{Behaviour, Fault};
use liveupdate_planner::{
    Amount, OnBlocked, OnFailure, Operator, Reason, Requirement, Selector, Spec, Step, Strategy, Text,
    Update, UpdateRecord, Verb, VerbKind,
};

use super::Play;

impl Play {
    pub(super) fn nodes(&mut self, words: &[&str]) {
        let number: u32 = words[0].parse().expect("nodes N");
        let mut labels = BTreeMap::new();
        let mut behaviour = Behaviour::default();
        for word in &words[1..] {
            match word.split_once('=').expect("key=value") {
                ("model", models) => behaviour.models.extend(models.split('+').map(str::to_owned)),
                ("prepare", value) => behaviour.prepare = duration(value),
                ("jump", value) => behaviour.jump = duration(value),
                ("blackout", value) => behaviour.blackout = duration(value),
                ("label", label) => {
                    let (key, value) = label.split_once('=').expect("label=key=value");
                    labels.insert(key.to_owned(), value.to_owned());
                }
                (key, _) => panic!("nodes: unknown {key:?}"),
            }
        }
        for _ in 0..number {
            self.number += 1;
            let name = format!("n{}", self.number);
            self.world.join(&name, "9.0", labels.clone(), behaviour.clone());
            self.behaviours.insert(name, (labels.clone(), behaviour.clone()));
        }
    }

    pub(super) fn update(&mut self, words: &[&str]) {
        let created = self.world.now;
        let mut spec = spec();
        let mut update = Update {
            name: Text::copy(words[0]),
            uid: format!("uid-of-{}", words[0]).into(),
            created,
            deleting: false,
            has_finalizer: false,
            spec: Err(String::new()),
            verbs: Vec::new(),
            record: UpdateRecord::default(),
        };
        set(&mut spec, &words[1..]);
        update.spec = Ok(spec);
        self.world.apply_update(update);
    }

    pub(super) fn edit(&mut self, words: &[&str]) {
        let words = words.to_vec();
        self.with_update(words[0], |update| match words[1..] {
            ["invalid", ..] => update.spec = Err(words[2..].join(" ")),
            _ => set(update.spec.as_mut().expect("a valid spec"), &words[1..]),
        });
    }

    pub(super) fn with_update(&mut self, name: &str, change: impl FnOnce(&mut Update)) {
        change(self.world.update(name).unwrap_or_else(|| panic!("no update {name}")));
    }

    pub(super) fn verb(&mut self, words: &[&str], on: bool) {
        let kind = match words[1] {
            "approve" => VerbKind::Approve,
            "abort" => VerbKind::Abort,
            "resume" => VerbKind::Resume,
            "retry" => VerbKind::Retry,
            "skip" => VerbKind::Skip,
            "hold" => VerbKind::Hold,
            "accept-failure" => VerbKind::AcceptFailure,
            "release" => VerbKind::Release,
            other => panic!("unknown verb {other:?}"),
        };
        let argument = words.get(2).copied().unwrap_or_default().to_owned();
        let again = words.get(3).map_or(0, |again| again.parse().expect("again"));
        self.with_update(words[0], |update| {
            let spec = update.spec.as_ref().expect("a valid spec");
            // An approval names all of it, the others a part.
            let digits = if kind == VerbKind::Approve { spec.revision.len() } else { 4 };
            let revision = spec.revision[..digits].to_owned();
            if on {
                update.verbs.push(Verb { kind, argument, revision, again });
            } else {
                update.verbs.retain(|verb| verb.kind != kind);
            }
        });
    }

    pub(super) fn node(&mut self, words: &[&str]) {
        let name = words[0];
        match words[1] {
            "gone" => return self.world.leave(name),
            "again" => {
                let (labels, behaviour) = self.behaviours[name].clone();
                return self.world.join(name, "9.0", labels, behaviour);
            }
            _ => {}
        }
        let (node, machine) = self.world.node(name).unwrap_or_else(|| panic!("no node {name}"));
        let rest = words.get(3..).unwrap_or_default().join(" ");
        match words[1] {
            "blocks" => machine.behaviour.blocked = Some((reason(words[2]), rest.into())),
            "clear" => machine.behaviour.blocked = None,
            "fault" => machine.behaviour.fault = Some(fault(words[2])),
            "mended" => machine.behaviour.fault = None,
            "down" => node.ready = false,
            "up" => node.ready = true,
            "foreign" => node.foreign = Some(words[2..].join(" ").into()),
            "boots" => machine.crash_into(node, words[2]),
            "free" => node.foreign = None,
            "malformed" => node.malformed = Some(words[2..].join(" ").into()),
            "label" => {
                let (key, value) = words[2].split_once('=').expect("key=value");
                Arc::make_mut(&mut node.labels).insert(key.to_owned(), value.to_owned());
            }
            other => panic!("node: unknown {other:?}"),
        }
        if words[1] == "mended" {
            self.world.knock(name);
        }
    }

    pub(super) fn policy(&mut self, words: &[&str]) {
        let policy = &mut self.world.snapshot.policy;
        match words[0] {
            "hold" => policy.hold = words[1] == "on",
            "max" => policy.max_unavailable = Some(amount(words[1])),
            "allow" => policy.allowed_acknowledgements = BTreeSet::from([words[1].to_owned()]),
            "forbid" => policy.allowed_acknowledgements.clear(),
            other => panic!("policy: unknown {other:?}"),
        }
    }
}

fn spec() -> Spec {
    Spec {
        selector: Selector::default(),
        include_joining: false,
        release: "9.1".into(),
        digest: "sha256:9.1".into(),
        revision: "aaaa1111".into(),
        acknowledge: BTreeSet::new(),
        strategy: Strategy {
            max_unavailable: Amount::Count(1),
            order: Vec::new(),
            max_failures: Amount::Count(0),
            on_failure: OnFailure::Pause,
            on_blocked: OnBlocked::Wait,
            dry_run: false,
            steps: vec![step("all:100%")],
        },
        return_deadline: Duration::from_mins(5),
        verify_deadline: Duration::from_mins(5),
        prepare_deadline: Duration::from_mins(10),
        blackout_budget: None,
        paused: false,
    }
}

fn set(spec: &mut Spec, words: &[&str]) {
    for word in words {
        let (key, value) = word.split_once('=').expect("key=value");
        let yes = value == "yes";
        match key {
            "rev" => spec.revision = Text::copy(value),
            "release" => {
                spec.release = Text::copy(value);
                spec.digest = format!("sha256:{value}").into();
            }
            "selector" => {
                let (key, value) = value.split_once('=').expect("selector=key=value");
                let operator = Operator::In(BTreeSet::from([value.to_owned()]));
                spec.selector = Selector { requirements: vec![Requirement { key: key.into(), operator }] };
            }
            "include" => spec.include_joining = yes,
            "acknowledge" => spec.acknowledge = BTreeSet::from([value.to_owned()]),
            "max" => spec.strategy.max_unavailable = amount(value),
            "failures" => spec.strategy.max_failures = amount(value),
            "order" => spec.strategy.order = vec![value.to_owned()],
            "on-failure" => {
                spec.strategy.on_failure = if value == "abort" { OnFailure::Abort } else { OnFailure::Pause };
            }
            "on-blocked" => {
                spec.strategy.on_blocked = match value {
                    "skip" => OnBlocked::Skip,
                    "fail" => OnBlocked::Fail,
                    _ => OnBlocked::Wait,
                };
            }
            "dry-run" => spec.strategy.dry_run = yes,
            "paused" => spec.paused = yes,
            "blackout" => spec.blackout_budget = Some(duration(value)),
            "steps" => spec.strategy.steps = value.split(',').map(step).collect(),
            other => panic!("update: unknown {other:?}"),
        }
    }
}

/// `name:amount[:bake=D][:approve][:cover]`
fn step(text: &str) -> Step {
    let mut parts = text.split(':');
    let name = parts.next().unwrap_or_default().to_owned();
    let nodes = amount(parts.next().expect("name:amount"));
    let mut step = Step { name, nodes, cover_device_model: false, bake: Duration::ZERO, approval: false };
    for part in parts {
        match part {
            "approve" => step.approval = true,
            "cover" => step.cover_device_model = true,
            _ => step.bake = duration(part.strip_prefix("bake=").expect("bake=D")),
        }
    }
    step
}

fn amount(text: &str) -> Amount {
    match text.strip_suffix('%') {
        Some(percent) => Amount::Percent(percent.parse().expect("a percentage")),
        None => Amount::Count(text.parse().expect("a number")),
    }
}

/// `800ms`, `30s`, `5m`, `2h`.
pub(super) fn duration(text: &str) -> Duration {
    let (unit, digits) = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)]
        .into_iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|digits| (factor, digits)))
        .unwrap_or_else(|| panic!("no duration: {text:?}"));
    Duration::from_millis(digits.parse::<u64>().expect("a number") * unit)
}

fn reason(text: &str) -> Reason {
    let found = Reason::ALL.iter().find(|reason| reason.as_str() == text);
    *found.unwrap_or_else(|| panic!("no reason: {text:?}"))
}

fn fault(text: &str) -> Fault {
    match text {
        "aborts" => Fault::Aborts,
        "wrong-kernel" => Fault::WrongKernel,
        "never-returns" => Fault::NeverReturns,
        "not-ready" => Fault::NotReady,
        "lies-about-boot" => Fault::LiesAboutBoot,
        "silent" => Fault::Silent,
        "misbehaves" => Fault::Misbehaves,
        other => Fault::Fails(reason(other)),
    }
}
