//! What a planner's pass costs, over the size of the fleet and the course of a rollout.
//!
//! Prints the processor's time of a pass, as the kernel counts it for this thread: other work on the machine
//! does not count. With a fleet's size, a moment and a number as arguments it makes just that many passes
//! there, for a profiler.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use liveupdate_planner::simulation::{Behaviour, Machine, World};
use liveupdate_planner::{
    Amount, NodeClass, OnBlocked, OnFailure, Operator, Policy, Reason, Requirement, Selector, Spec, Step,
    Strategy, Time, Update, UpdateRecord, plan,
};

/// Moments of a rollout.
const MOMENTS: [&str; 4] = ["start", "queued", "middle", "end"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [nodes, moment, passes] = arguments.as_slice() {
        let numbers = nodes.parse().ok().zip(passes.parse().ok());
        let Some(((nodes, passes), moment)) = numbers.zip(MOMENTS.iter().position(|name| name == moment))
        else {
            eprintln!("usage: pass_time [NODES {} PASSES]", MOMENTS.join("|"));
            std::process::exit(2);
        };
        let world = at(nodes, moment);
        println!("{nodes} nodes, {}: {:.3} ms", MOMENTS[moment], milliseconds(pass_time(&world, passes)));
        return;
    }
    println!("{:>6}  {:<7} {:>8} {:>8}", "nodes", "moment", "ms/pass", "ns/node");
    for nodes in [100, 1_000, 10_000] {
        for (moment, name) in MOMENTS.iter().enumerate() {
            let pass = pass_time(&at(nodes, moment), 1_000_000 / nodes);
            let per_node = pass.as_nanos() / u128::from(nodes);
            println!("{nodes:>6}  {name:<7} {:>8.3} {per_node:>8}", milliseconds(pass));
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The mean of so many passes, each with the end of its plan's life.
fn pass_time(world: &World, passes: u32) -> Duration {
    let pass = || drop(std::hint::black_box(plan(std::hint::black_box(&world.snapshot), world.now)));
    pass();
    let before = on_processor();
    (0..passes).for_each(|_| pass());
    on_processor().saturating_sub(before) / passes.max(1)
}

/// How long this thread has been on a processor.
fn on_processor() -> Duration {
    // Once given up, so that the kernel has counted up to now.
    std::thread::sleep(Duration::from_millis(1));
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = line.split_whitespace().next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

/// The world at that moment: nobody asked yet; all gates read; half of the nodes updated; all of them.
fn at(nodes: u32, moment: usize) -> World {
    let mut world = world(nodes);
    loop {
        let planned = world.plan();
        let count = |test: &dyn Fn(NodeClass, Reason) -> bool| {
            planned.report.nodes.values().filter(|node| test(node.class, node.reason)).count()
        };
        let reached = match moment {
            0 => true,
            // The policy holds until then.
            1 => world.passes > 1 && count(&|_, reason| reason == Reason::Preflight) == 0,
            2 => count(&|class, _| class == NodeClass::Updated) >= nodes as usize / 2,
            _ => world.snapshot.updates.iter().all(|update| update.record.finished.is_some()),
        };
        if reached {
            return world;
        }
        if world.passes > 1 && count(&|_, reason| reason == Reason::Preflight) == 0 {
            world.snapshot.policy.hold = false;
        }
        let writes = world.writes.clone();
        world.carry_out(&planned);
        if world.writes == writes {
            let due = world.machines.iter().filter_map(Machine::due).min();
            world.now = due.unwrap_or(world.now).max(Time(world.now.0 + 1));
            world.go_on();
        }
    }
}

fn world(nodes: u32) -> World {
    let policy = Policy { hold: true, ..Policy::default() };
    let mut world = World::new(Time(1_700_000_000_000), policy);
    for number in 0..nodes {
        let labels = [("pool", "hypervisors".to_owned()), ("rack", format!("r{:03}", number / 32))];
        let labels: BTreeMap<String, String> =
            labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let blocked = number % 16 == 7;
        let behaviour = Behaviour {
            models: BTreeSet::from([format!("10de:{:04x}", number % 3)]),
            blocked: blocked.then(|| (Reason::GateNotPassed, "CustodySafe: no keeper on the node".into())),
            ..Behaviour::default()
        };
        world.join(&format!("hypervisor-{number:06}"), "6.12.0-lts", labels, behaviour);
    }
    world.apply_update(Update {
        name: "kernel".into(),
        uid: "0b7d8f0e-4c0d-4a55-9d3f-5f4d6f9f3c11".into(),
        created: world.now,
        deleting: false,
        has_finalizer: false,
        spec: Ok(spec()),
        verbs: Vec::new(),
        record: UpdateRecord::default(),
    });
    world
}

fn spec() -> Spec {
    let operator = Operator::In(BTreeSet::from(["hypervisors".to_owned()]));
    let step = |name: &str, nodes, cover_device_model| Step {
        name: name.to_owned(),
        nodes,
        cover_device_model,
        bake: Duration::ZERO,
        approval: false,
    };
    Spec {
        selector: Selector { requirements: vec![Requirement { key: "pool".to_owned(), operator }] },
        include_joining: false,
        release: "7.3.5-lu2".into(),
        digest: "sha256:7.3.5-lu2".into(),
        revision: "7f3c9a21".into(),
        acknowledge: BTreeSet::new(),
        strategy: Strategy {
            max_unavailable: Amount::Percent(10),
            order: vec!["rack".to_owned()],
            max_failures: Amount::Count(0),
            on_failure: OnFailure::Pause,
            on_blocked: OnBlocked::Skip,
            dry_run: false,
            steps: vec![step("canary", Amount::Count(1), true), step("rest", Amount::Percent(100), false)],
        },
        return_deadline: Duration::from_mins(5),
        verify_deadline: Duration::from_mins(5),
        prepare_deadline: Duration::from_mins(10),
        blackout_budget: None,
        paused: false,
    }
}
