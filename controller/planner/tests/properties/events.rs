//! Random worlds and what happens to them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use liveupdate_planner::simulation::{Behaviour, Fault, World};
use liveupdate_planner::{
    Amount, OnBlocked, OnFailure, Policy, Reason, Spec, Step, Strategy as Rollout, Text, Time, Update, Verb,
    VerbKind,
};
use proptest::prelude::*;
use proptest::sample::select;

use crate::checks::check;
use crate::common;

/// A world and its history.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) nodes: u32,
    pub(crate) first: Strategies,
    pub(crate) second: Option<Strategies>,
    pub(crate) events: Vec<Event>,
}

/// How an update rolls.
#[derive(Clone, Debug)]
pub(crate) struct Strategies {
    max_unavailable: Amount,
    max_failures: u32,
    abort_on_failure: bool,
    on_blocked: u8,
    include: bool,
    steps: u8,
}

impl Default for Strategies {
    fn default() -> Self {
        Self {
            max_unavailable: Amount::Count(1),
            max_failures: 0,
            abort_on_failure: false,
            on_blocked: 0,
            include: false,
            steps: 0,
        }
    }
}

/// What happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Tick(u64),
    /// Passes of which many actions fail, by these bits.
    Flaky(u64),
    Crash,
    Fault(u32, Fault),
    Mend(u32),
    Down(u32),
    Up(u32),
    Block(u32),
    Clear(u32),
    Malformed(u32),
    Leave(u32),
    Join(u32),
    Verb(VerbKind, u32),
    Pause(bool),
    PolicyHold(bool),
    PolicyMax(u32),
    Max(u32),
    Edit,
    Delete,
}

pub(crate) fn strategy() -> impl Strategy<Value = Strategies> {
    let amount = prop_oneof![(1_u32..4).prop_map(Amount::Count), Just(Amount::Percent(100))];
    (amount, 0_u32..3, any::<bool>(), 0_u8..3, any::<bool>(), 0_u8..4).prop_map(
        |(max_unavailable, max_failures, abort_on_failure, on_blocked, include, steps)| Strategies {
            max_unavailable,
            max_failures,
            abort_on_failure,
            on_blocked,
            include,
            steps,
        },
    )
}

pub(crate) fn scenario() -> impl Strategy<Value = Scenario> {
    let events = prop::collection::vec(event(), 0..40);
    (1_u32..8, strategy(), prop::option::of(strategy()), events)
        .prop_map(|(nodes, first, second, events)| Scenario { nodes, first, second, events })
}

fn event() -> impl Strategy<Value = Event> {
    let faults = [
        Fault::Aborts,
        Fault::Fails(Reason::KernelRefused),
        Fault::Fails(Reason::Quarantined),
        Fault::WrongKernel,
        Fault::NeverReturns,
        Fault::NotReady,
        Fault::LiesAboutBoot,
        Fault::Silent,
        Fault::Misbehaves,
    ];
    let verbs = [
        VerbKind::Approve,
        VerbKind::Abort,
        VerbKind::Resume,
        VerbKind::Retry,
        VerbKind::Skip,
        VerbKind::Hold,
        VerbKind::AcceptFailure,
        VerbKind::Release,
    ];
    let node = || 1_u32..9;
    prop_oneof![
        6 => (1_u64..90).prop_map(Event::Tick),
        1 => (300_u64..900).prop_map(Event::Tick),
        4 => any::<u64>().prop_map(Event::Flaky),
        2 => Just(Event::Crash),
        3 => (node(), select(faults.to_vec())).prop_map(|(n, fault)| Event::Fault(n, fault)),
        2 => node().prop_map(Event::Mend),
        2 => node().prop_map(Event::Down),
        2 => node().prop_map(Event::Up),
        1 => node().prop_map(Event::Block),
        1 => node().prop_map(Event::Clear),
        1 => node().prop_map(Event::Malformed),
        1 => node().prop_map(Event::Leave),
        1 => node().prop_map(Event::Join),
        4 => (select(verbs.to_vec()), node()).prop_map(|(verb, n)| Event::Verb(verb, n)),
        1 => any::<bool>().prop_map(Event::Pause),
        1 => any::<bool>().prop_map(Event::PolicyHold),
        1 => (1_u32..4).prop_map(Event::PolicyMax),
        1 => (1_u32..4).prop_map(Event::Max),
        1 => Just(Event::Edit),
        1 => Just(Event::Delete),
    ]
}

/// Plays a scenario; every plan on the way is checked.
pub(crate) fn play(scenario: &Scenario) -> World {
    let mut world = World::new(Time(0), Policy::default());
    for number in 1..=scenario.nodes {
        join(&mut world, number);
    }
    world.apply_update(update("first", "aaaa1111", world.now, &scenario.first));
    if let Some(second) = &scenario.second {
        world.apply_update(update("second", "bbbb2222", Time(1), second));
    }
    for event in &scenario.events {
        happen(&mut world, event);
    }
    world
}

/// Everything that can be mended is: a person's last morning on call.
pub(crate) fn mend(world: &mut World) {
    world.snapshot.policy.hold = false;
    world.snapshot.policy.max_unavailable = None;
    let now = world.now;
    let names: Vec<Text> = world.snapshot.nodes.iter().map(|node| node.name.clone()).collect();
    for name in names {
        let (node, machine) = world.node(&name).expect("it was listed");
        node.malformed = None;
        node.ready = true;
        machine.behaviour.fault = None;
        machine.behaviour.blocked = None;
        machine.come_to_life(now);
        world.knock(&name);
    }
    // Long enough for every deadline and for blocked nodes to be asked again.
    for round in 0..4 {
        let until = world.now.after(Duration::from_hours(1));
        assert!(world.pass_time(until, check), "the plan does not come to rest");
        let names: Vec<Text> = world.snapshot.nodes.iter().map(|node| node.name.clone()).collect();
        let now = world.now;
        for name in &names {
            let (node, machine) = world.node(name).expect("it was listed");
            node.ready = true;
            machine.come_to_life(now);
        }
        for update in &mut world.snapshot.updates {
            let Ok(spec) = &mut update.spec else { continue };
            spec.paused = false;
            // A target that came up as another kernel is replaced by the next one.
            if update.record.bad_targets.contains(spec.digest.as_str()) {
                retarget(spec);
            }
            let revision = spec.revision.clone();
            let verb = |kind, argument: &str| Verb {
                kind,
                argument: argument.into(),
                revision: revision.to_string(),
                again: 1_000 + round,
            };
            let steps = spec.strategy.steps.iter().map(|step| verb(VerbKind::Approve, &step.name));
            let retries = names.iter().map(|name| verb(VerbKind::Retry, name));
            let releases = names.iter().map(|name| verb(VerbKind::Release, name));
            update.verbs = steps.chain(retries).chain(releases).chain([verb(VerbKind::Resume, "")]).collect();
        }
    }
}

fn join(world: &mut World, number: u32) {
    let behaviour = Behaviour {
        models: BTreeSet::from([format!("10de:{:04x}", number % 3)]),
        prepare: Duration::from_secs(u64::from(5 + number % 4 * 10)),
        ..Behaviour::default()
    };
    world.join(&format!("n{number}"), "9.0", BTreeMap::new(), behaviour);
}

fn happen(world: &mut World, event: &Event) {
    let name = |number: &u32| format!("n{number}");
    match event {
        Event::Tick(seconds) => {
            let until = world.now.after(Duration::from_secs(*seconds));
            assert!(world.pass_time(until, check), "the plan does not come to rest");
        }
        Event::Flaky(bits) => flaky(world, *bits),
        Event::Crash => world.crash(),
        Event::Join(number) if world.node(&name(number)).is_none() => join(world, *number),
        Event::Leave(number) => world.leave(&name(number)),
        Event::PolicyHold(on) => world.snapshot.policy.hold = *on,
        Event::PolicyMax(max) => world.snapshot.policy.max_unavailable = Some(Amount::Count(*max)),
        Event::Delete => {
            for update in world.snapshot.updates.iter_mut().skip(1) {
                update.deleting = true;
            }
            world.snapshot.updates.retain(|update| !update.deleting || update.has_finalizer);
        }
        Event::Verb(kind, number) => {
            let argument = match kind {
                VerbKind::Approve => "canary".to_owned(),
                VerbKind::Retry | VerbKind::Skip | VerbKind::Release => name(number),
                _ => String::new(),
            };
            for update in &mut world.snapshot.updates {
                let Ok(spec) = &update.spec else { continue };
                let revision = spec.revision[..4].to_owned();
                update.verbs.push(Verb { kind: *kind, argument: argument.clone(), revision, again: *number });
            }
        }
        Event::Pause(on) => specs(world, |spec| spec.paused = *on),
        Event::Max(max) => specs(world, |spec| spec.strategy.max_unavailable = Amount::Count(*max)),
        Event::Edit => specs(world, retarget),
        Event::Fault(number, _)
        | Event::Mend(number)
        | Event::Down(number)
        | Event::Up(number)
        | Event::Block(number)
        | Event::Clear(number)
        | Event::Malformed(number)
        | Event::Join(number) => {
            let Some((node, machine)) = world.node(&name(number)) else { return };
            match event {
                Event::Fault(_, fault) => machine.behaviour.fault = Some(*fault),
                Event::Mend(_) => machine.behaviour.fault = None,
                Event::Down(_) => node.ready = false,
                Event::Up(_) => node.ready = true,
                Event::Block(_) => {
                    machine.behaviour.blocked = Some((Reason::GateNotPassed, "no keeper".into()));
                }
                Event::Clear(_) => machine.behaviour.blocked = None,
                Event::Malformed(_) => node.malformed = Some("it has no UID".into()),
                _ => {}
            }
            if matches!(event, Event::Mend(_)) {
                world.knock(&name(number));
            }
        }
    }
}

/// A few passes, each action of which fails or not.
fn flaky(world: &mut World, mut bits: u64) {
    for _ in 0..8 {
        let plan = world.plan();
        check(world, &plan);
        for action in &plan.actions {
            bits = bits.rotate_left(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            if bits >> 62 != 0 {
                continue;
            }
            world.carry_out_one(action, &plan.report);
        }
        if bits >> 61 & 1 == 0 {
            world.write_statuses(&plan.report);
        }
        world.now = Time(world.now.0 + 250);
        world.go_on();
    }
}

fn specs(world: &mut World, change: impl Fn(&mut Spec)) {
    for update in &mut world.snapshot.updates {
        if let Ok(spec) = &mut update.spec {
            change(spec);
        }
    }
}

/// Another kernel, and with it another revision.
fn retarget(spec: &mut Spec) {
    let number: u32 = spec.release.rsplit('.').next().and_then(|n| n.parse().ok()).unwrap_or(1);
    spec.release = format!("9.{}", number + 1).into();
    spec.digest = format!("sha256:{}", spec.release).into();
    spec.revision = format!("{:04x}{}", 0xc000 + number, &spec.revision[4..]).into();
}

fn update(name: &str, revision: &str, created: Time, how: &Strategies) -> Update {
    let step = |name: &str, nodes, bake, approval, cover_device_model| Step {
        cover_device_model,
        bake: Duration::from_secs(bake),
        approval,
        ..common::step(name, nodes)
    };
    let all = step("rest", Amount::Percent(100), 0, false, false);
    let steps = match how.steps {
        0 => vec![all],
        1 => vec![step("canary", Amount::Count(1), 60, false, false), all],
        2 => vec![
            step("canary", Amount::Count(1), 0, false, true),
            step("half", Amount::Percent(50), 30, false, false),
        ],
        _ => vec![step("canary", Amount::Percent(30), 10, false, true), all],
    };
    let release = if name == "first" { "9.1" } else { "9.100" };
    let plain = common::spec(revision);
    let spec = Spec {
        include_joining: how.include,
        release: release.into(),
        digest: format!("sha256:{release}").into(),
        strategy: Rollout {
            max_unavailable: how.max_unavailable,
            max_failures: Amount::Count(how.max_failures),
            on_failure: if how.abort_on_failure { OnFailure::Abort } else { OnFailure::Pause },
            on_blocked: [OnBlocked::Wait, OnBlocked::Skip, OnBlocked::Fail][how.on_blocked as usize],
            steps,
            ..plain.strategy
        },
        ..plain
    };
    common::update(name, created, spec)
}
