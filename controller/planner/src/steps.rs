//! Canary steps: how many nodes may be updated by now, and what the run waits for.
//!
//! ```text
//! step i: count reached ─► bake since the last verify ─► all Ready ─► approval ─► step i + 1 … last: done
//! ```
//! Counts are cumulative. A step passes when its count is updated *and verified*; blocked nodes do not
//! count, too few eligible nodes for a count is `CanaryTooSmall` and no success. A target never falls below
//! the nodes that are updated. Steps that end before 100 % are followed by one of all nodes, because a run
//! is complete only when every eligible node runs the target.

use crate::amount::count;
use crate::cover::{self, Cover};
use crate::fleet::Fleet;
use crate::input::{Amount, Spec, Step};
use crate::output::{NodeClass, Reason};
use crate::progress::{Progress, Waits};
use crate::run::{Member, Run};
use crate::todo::Todo;
use crate::{Time, verbs};

/// The step after the last that was written, if that leaves nodes out.
const ALL: &str = "all";

/// Passes the steps that are to be passed, and says how far the present one is.
pub(crate) fn advance(run: &mut Run<'_>, spec: &Spec, fleet: &Fleet<'_>, todo: &mut Todo) {
    let steps = &spec.strategy.steps;
    let implicit = !matches!(steps.last(), Some(Step { nodes: Amount::Percent(100..), .. }));
    let of = count(steps.len()) + u32::from(implicit);
    run.record.step = run.record.step.min(of - 1);
    loop {
        let step = steps.get(run.record.step as usize);
        let covering = step.is_some_and(|step| step.cover_device_model);
        let cover = covering.then(|| cover::needed(run, fleet));
        let (target, too_small) = target(run, steps, cover.as_ref());
        let cover = cover.unwrap_or_default();
        let started = run.tally.updated + run.tally.in_flight;
        let open = if cover.unknown && !cover.picks.is_empty() {
            base(run, steps).saturating_sub(started)
        } else {
            target.saturating_sub(started)
        };
        let waits = if too_small {
            Waits::Eligible
        } else if run.tally.updated < target {
            Waits::Nodes
        } else if cover.unknown {
            Waits::Models
        } else {
            let reached = *run.record.step_reached.get_or_insert(todo.now);
            reached_step(run, step, run.tally.last_verified.unwrap_or(reached), fleet, todo)
        };
        if matches!(waits, Waits::Nodes | Waits::Eligible | Waits::Models) {
            run.record.step_reached = None;
        }
        if waits == Waits::Nothing && run.record.step + 1 < of {
            run.record.step += 1;
            run.record.step_reached = None;
            continue;
        }
        run.progress = Progress {
            step: run.record.step,
            of,
            name: step.map_or(ALL, |step| &step.name).into(),
            target,
            open,
            first: cover.picks,
            waits,
            bakes: steps.iter().skip(run.record.step as usize).map(|step| step.bake).sum(),
        };
        return;
    }
}

fn reached_step(
    run: &Run<'_>,
    step: Option<&Step>,
    since: Time,
    fleet: &Fleet<'_>,
    todo: &mut Todo,
) -> Waits {
    let Some(step) = step else { return Waits::Nothing };
    let away = if step.bake.is_zero() { 0 } else { away(run, fleet) };
    if !step.bake.is_zero() && !todo.due(since.after(step.bake)) {
        Waits::Bake(step.bake)
    } else if away > 0 {
        Waits::Ready(away)
    } else if step.approval && !verbs::is_approved(run, &step.name) {
        Waits::Approval
    } else {
        Waits::Nothing
    }
}

/// Nodes that this run has updated and that are not Ready now: a bake is to see what becomes of them.
fn away(run: &Run<'_>, fleet: &Fleet<'_>) -> u32 {
    let away = |member: &&Member<'_>| {
        let (standing, node) = (&member.standing, fleet.at(member.node));
        standing.class == NodeClass::Updated
            && standing.reason == Reason::Updated
            && !node.ready
            && !run.is_skipped(node)
    };
    count(run.members.iter().filter(away).count())
}

/// The step's count without `cover`: the highest so far, because counts are cumulative.
fn base(run: &Run<'_>, steps: &[Step]) -> u32 {
    let eligible = run.tally.eligible;
    let so_far = steps.iter().take(run.record.step as usize + 1);
    let amount = if (run.record.step as usize) < steps.len() { 0 } else { eligible.max(1) };
    so_far.map(|step| step.nodes.of(eligible)).fold(amount, u32::max)
}

/// The step's count, and whether there are too few eligible nodes for it.
fn target(run: &Run<'_>, steps: &[Step], cover: Option<&Cover>) -> (u32, bool) {
    let updated = run.tally.updated;
    let base = base(run, steps);
    let covering = match cover {
        Some(cover) => updated + run.tally.in_flight + count(cover.picks.len()) + cover.waiting,
        None => 0,
    };
    (base.max(covering).max(updated), base > run.tally.eligible)
}
