//! One run of the planner over the imagined fleet, to its end or until nothing moves any more.

use std::sync::Arc;
use std::time::Duration;

use liveupdate_planner::simulation::{Behaviour, Fault, World};
use liveupdate_planner::{
    Finished, NodeEnd, Plan, Reason, Text, Time, Update, UpdateRecord, UpdateReport, Verb, VerbKind,
};

use super::fleet::Fleet;
use super::manifest::Asked;

/// What comes up on the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// The target.
    Good,
    /// Another kernel than the target, on every node.
    Bad,
}

/// A run that is longer than this would never be waited for.
const LONGEST: Duration = Duration::from_hours(24 * 366);
/// Looks in a row that change nothing, after which nothing ever will.
const IDLE_LOOKS: u32 = 5;

/// One step's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepTimes {
    /// Its name.
    pub name: String,
    /// Nodes updated in all when it passes.
    pub nodes: u32,
    /// When it began, from the start of the run.
    pub began: Duration,
    /// When its nodes were updated, if they ever were.
    pub reached: Option<Duration>,
    /// When it passed, if it did.
    pub passed: Option<Duration>,
}

/// How a run went.
#[derive(Clone, Debug)]
pub struct Ran {
    /// How long.
    pub duration: Duration,
    /// How it ended, if it did; else what it stands at.
    pub finished: Option<Finished>,
    /// What the planner said last.
    pub report: UpdateReport,
    /// Most nodes at once that were marked or not Ready.
    pub peak: u32,
    /// The steps.
    pub steps: Vec<StepTimes>,
    /// For each node of the fleet, how it ended.
    pub ends: Vec<Option<NodeEnd>>,
    /// Steps that were approved.
    pub approved: u32,
}

struct Watch {
    peak: u32,
    steps: Vec<StepTimes>,
    report: UpdateReport,
    start: Time,
}

/// Runs it.
#[must_use]
pub fn run(asked: &Asked, fleet: &Fleet, kernel: Kernel) -> Ran {
    let name = asked.update.metadata.name.clone().unwrap_or_default();
    let start = Time(0);
    let mut world = world(asked, fleet, kernel, &name, start);
    let mut watch = Watch { peak: 0, steps: Vec::new(), report: UpdateReport::default(), start };
    let end = start.after(LONGEST);
    let (mut idle, mut approved, mut last_move) = (0, 0, start);
    while idle < IDLE_LOOKS && world.now < end {
        let (mut wake, mut moved) = (None, false);
        let rested = world.settle_fast(|world, plan| {
            wake = plan.wake;
            moved |= watch.see(world, plan, &name);
        });
        if !rested || watch.report.record.finished.is_some() {
            break;
        }
        if approve(&mut world, &name, &watch) {
            approved += 1;
            continue;
        }
        let due = world.machines.iter().filter_map(liveupdate_planner::simulation::Machine::due).min();
        if moved || due.is_some() {
            (idle, last_move) = (0, world.now);
        } else {
            idle += 1;
        }
        // A bake is no standstill.
        if watch.report.progress == Some(Reason::Baking) {
            idle = 0;
        }
        let Some(next) = [wake, due].into_iter().flatten().min() else { break };
        world.now = next.max(world.now.after(Duration::from_millis(1)));
        world.go_on();
    }
    let finished = watch.report.record.finished;
    let until = finished.map_or(last_move, |finished| finished.at);
    let ends = world.snapshot.nodes.iter().map(|node| node.record.as_ref().and_then(|record| record.end));
    Ran {
        duration: until.since(start),
        finished,
        peak: watch.peak,
        steps: watch.closed(finished),
        ends: ends.collect(),
        report: watch.report,
        approved,
    }
}

fn world(asked: &Asked, fleet: &Fleet, kernel: Kernel, name: &str, start: Time) -> World {
    let mut world = World::new(start, asked.policy.clone());
    for machine in &fleet.machines {
        let course = &fleet.courses[machine.course];
        let behaviour = Behaviour {
            prepare: course.prepare,
            jump: course.jump,
            blackout: course.blackout,
            renews: true,
            models: machine.models.clone(),
            blocked: None,
            fault: course.fault.or((kernel == Kernel::Bad).then_some(Fault::WrongKernel)),
        };
        world.join(&machine.name, "kernel-before", Arc::clone(&machine.labels), behaviour);
    }
    world.apply_update(Update {
        name: Text::copy(name),
        uid: "simulated".into(),
        created: start,
        deleting: false,
        has_finalizer: false,
        spec: Ok(asked.spec.clone()),
        verbs: Vec::new(),
        record: UpdateRecord::default(),
    });
    // All at once: how many are asked together changes nothing at a standing clock.
    world.ask_all(name);
    world
}

/// Approves the step that waits for it, at once.
fn approve(world: &mut World, name: &str, watch: &Watch) -> bool {
    if watch.report.progress != Some(Reason::WaitingForApproval) {
        return false;
    }
    let (Some(step), Some(update)) = (&watch.report.step, world.update(name)) else { return false };
    let revision = watch.report.record.revision.to_string();
    let verb = Verb { kind: VerbKind::Approve, argument: step.name.clone(), revision, again: 0 };
    let new = !update.verbs.contains(&verb);
    if new {
        update.verbs.push(verb);
    }
    new
}

impl Watch {
    /// Takes note of a plan; true when it says something new of the run.
    fn see(&mut self, world: &World, plan: &Plan, name: &str) -> bool {
        let Some(report) = plan.report.updates.get(name) else { return false };
        let down = world.snapshot.nodes.iter().filter(|node| node.mark.is_some() || !node.ready).count();
        self.peak = self.peak.max(u32::try_from(down).unwrap_or(u32::MAX));
        let now = world.now.since(self.start);
        if let Some(step) = &report.step {
            let known = self.steps.last().is_some_and(|last| last.name == step.name);
            if !known {
                if let Some(last) = self.steps.last_mut() {
                    last.reached.get_or_insert(now);
                    last.passed.get_or_insert(now);
                }
                let name = step.name.clone();
                self.steps.push(StepTimes {
                    name,
                    nodes: step.target,
                    began: now,
                    reached: None,
                    passed: None,
                });
            }
            if let Some(last) = self.steps.last_mut() {
                last.nodes = step.target;
                last.reached = last.reached.or(report.record.step_reached.map(|at| at.since(self.start)));
            }
        }
        if self.report == *report {
            return false;
        }
        if report.frozen {
            // The run is over and its nodes are nobody's: the numbers before are its own.
            self.report.record = report.record.clone();
        } else {
            self.report = report.clone();
        }
        true
    }

    fn closed(&self, finished: Option<Finished>) -> Vec<StepTimes> {
        let mut steps = self.steps.clone();
        let well = |finished: &Finished| finished.reason != Reason::Aborted;
        if let (Some(last), Some(finished)) = (steps.last_mut(), finished.filter(well)) {
            let at = finished.at.since(self.start);
            last.reached.get_or_insert(at);
            last.passed.get_or_insert(at);
        }
        steps
    }
}

impl Ran {
    /// Whether that end is a failure.
    #[must_use]
    pub fn is_failure(end: &NodeEnd) -> bool {
        matches!(end, NodeEnd::Failed { .. })
    }
}
