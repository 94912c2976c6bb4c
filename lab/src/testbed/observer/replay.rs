//! The invariants, change by change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use liveupdate_crds::verbs::{self, VerbKind};
use liveupdate_crds::{LiveUpdate, LiveUpdatePolicy, LiveUpdatePolicySpec, NodeLiveUpdate, Reason};
use liveupdate_host::simulated::World;

use super::log::{Change, Event, Gap, Kind};
use super::view::{NodeView, UpdateView, limit};

/// What others did less than that before a start may not have been known to whoever decided.
const KNOWN: Duration = Duration::from_secs(2);

/// From the worst to the best.
const CONTINUITY: [&str; 4] = ["Lost", "Reinitialised", "Paused", "Uninterrupted"];

/// What the objects were at the last change, and what was wrong.
#[derive(Debug, Default)]
pub(super) struct Replay {
    nodes: BTreeMap<String, NodeView>,
    updates: BTreeMap<String, UpdateView>,
    epochs: BTreeMap<String, i64>,
    policy: Option<(Instant, LiveUpdatePolicySpec)>,
    /// All attempts that were ever in flight.
    admitted: BTreeSet<(String, String)>,
    /// By node and attempt: each device's word.
    outcomes: BTreeMap<(String, String), BTreeMap<String, String>>,
    /// Attempts that left `inFlight` although their record does not speak of them: they never jumped, and must
    /// not until they are admitted again. One that left before it had left a trace gives its id to the next.
    never_began: BTreeSet<(String, String)>,
    records: BTreeMap<String, String>,
    baseline: BTreeMap<String, BTreeSet<String>>,
    changed_by_test: BTreeSet<String>,
    found: Vec<String>,
    jumps_told: BTreeSet<String>,
    gaps: Vec<Gap>,
    /// Version of the change that is being taken in.
    version: u64,
}

impl Replay {
    pub(super) fn not_foreign(&mut self, node: &str) {
        self.changed_by_test.insert(node.to_owned());
    }

    /// Changes in these gaps were not seen.
    pub(super) fn not_seen(&mut self, gaps: Vec<Gap>) {
        self.gaps = gaps;
    }

    /// Whether the present change may rest on one of this kind that was not seen.
    fn blind(&self, kind: Kind) -> bool {
        self.gaps.iter().any(|gap| gap.hides(kind, self.version))
    }

    /// What was wrong since the last time.
    pub(super) fn found(&mut self) -> Vec<String> {
        std::mem::take(&mut self.found)
    }

    pub(super) fn take(&mut self, event: Event, worlds: &BTreeMap<String, World>) {
        let (version, seen) = (event.version, event.seen);
        let before = self.found.len();
        self.version = version;
        match event.change {
            Change::Node(node) => self.node(&node, seen),
            Change::Update(update) => self.update(&update, seen),
            Change::Record(record) => self.record(&record, worlds),
            Change::Policy(policy) => self.policy(&policy, seen),
            Change::Gone(Kind::Node, name) => {
                self.nodes.remove(&name);
                self.baseline.remove(&name);
            }
            Change::Gone(Kind::Update, name) => {
                if let Some(update) = self.updates.remove(&name).filter(|update| !update.flying.is_empty()) {
                    self.found.push(format!(
                        "invariant 6: LiveUpdate/{name} went with attempts in flight: {:?}",
                        update.flying
                    ));
                }
            }
            Change::Gone(Kind::Record, name) => {
                self.records.remove(&name);
            }
            Change::Gone(Kind::Policy, _) => self.policy = None,
        }
        for text in self.found.iter_mut().skip(before) {
            *text = format!("at version {version}: {text}");
        }
    }

    fn node(&mut self, node: &Node, seen: Instant) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let before = self.nodes.get(&name);
        let view = NodeView::of(node, before, seen);
        let before = before.filter(|before| before.uid == view.uid);
        let baseline = self.baseline.entry(name.clone()).or_insert_with(|| view.foreign.clone());
        if *baseline != view.foreign && !self.changed_by_test.contains(&name) {
            let changed: Vec<_> = baseline.symmetric_difference(&view.foreign).cloned().collect();
            self.found.push(format!("invariant 7: others' marks on node {name} changed: {changed:?}"));
            baseline.clone_from(&view.foreign);
        }
        if let (Some(mark), Some(before)) = (&view.mark, before)
            && before.mark.as_ref() != Some(mark)
            && !self.is_flying(&name, mark)
        {
            if self.blind(Kind::Update) {
                let attempt = mark.rsplit('/').next().unwrap_or_default();
                self.admitted.insert((name.clone(), attempt.to_owned()));
            } else {
                self.found.push(format!(
                    "invariant 5: node {name} is marked {mark} and no update has that in flight"
                ));
            }
        }
        self.nodes.insert(name, view);
    }

    fn is_flying(&self, node: &str, mark: &str) -> bool {
        let Some((uid, attempt)) = mark.split_once('/') else { return false };
        let entry = (node.to_owned(), attempt.to_owned());
        self.updates.values().any(|update| update.uid == uid && update.flying.contains(&entry))
    }

    fn update(&mut self, update: &LiveUpdate, seen: Instant) {
        let name = update.metadata.name.clone().unwrap_or_default();
        let view = UpdateView::of(update);
        self.epoch(&format!("LiveUpdate/{name} {}", view.uid), view.epoch);
        let before = self.updates.get(&name).filter(|before| before.uid == view.uid);
        let was = before.map(|before| before.flying.clone());
        let new: Vec<_> = match &was {
            Some(was) => view.flying.difference(was).cloned().collect(),
            // Flew before anybody looked, or is new and has none.
            None => Vec::new(),
        };
        let left: Vec<_> =
            was.iter().flatten().filter(|entry| !view.flying.contains(entry)).cloned().collect();
        self.admitted.extend(view.flying.iter().cloned());
        self.never_began.retain(|entry| !view.flying.contains(entry));
        self.updates.insert(name.clone(), view);
        if !new.is_empty() && !self.blind(Kind::Update) && !self.blind(Kind::Node) {
            self.admission(&name, update, &new, seen);
        }
        for (node, attempt) in left {
            let seen = !self.blind(Kind::Update) && !self.blind(Kind::Record);
            if seen && self.records.get(&node) != Some(&attempt) {
                self.never_began.insert((node, attempt));
            }
        }
        self.waiting(&name, update);
    }

    /// New attempts are in flight: was there room, and did nobody say stop?
    fn admission(&mut self, name: &str, update: &LiveUpdate, new: &[(String, String)], seen: Instant) {
        let Some(view) = self.updates.get(name) else { return };
        let flying: BTreeSet<&str> =
            self.updates.values().flat_map(|u| &u.flying).map(|(node, _)| node.as_str()).collect();
        let down = |node: &str, state: &NodeView| {
            let known = state.not_ready.is_some_and(|since| seen.saturating_duration_since(since) >= KNOWN);
            flying.contains(node) || state.tainted || known
        };
        let selected: Vec<_> = self.nodes.iter().filter(|(_, node)| view.selects(node)).collect();
        let unavailable: Vec<_> = selected
            .iter()
            .filter(|(name, state)| down(name, state))
            .map(|(name, _)| name.as_str())
            .collect();
        let asked = limit(&update.spec.strategy.max_unavailable, selected.len());
        if unavailable.len() > asked {
            self.found.push(format!(
                "invariant 1: {name} starts {new:?} and {unavailable:?} are unavailable then; {asked} may be"
            ));
        }
        let known = self.policy.as_ref().filter(|(since, _)| seen.saturating_duration_since(*since) >= KNOWN);
        if let Some((_, policy)) = known {
            let all: Vec<_> =
                self.nodes.iter().filter(|(name, state)| down(name, state)).map(|(name, _)| name).collect();
            let counted = |node: &NodeView| self.updates.values().any(|update| update.selects(node));
            let all = all.into_iter().filter(|name| self.nodes.get(*name).is_some_and(counted)).count();
            if policy.max_unavailable.as_ref().is_some_and(|it| all > limit(it, self.nodes.len())) {
                self.found
                    .push(format!("invariant 1: {name} starts {new:?}, {all} nodes are then unavailable"));
            }
            if policy.hold {
                self.found.push(format!("invariant 4: {name} starts {new:?} under the policy's hold"));
            }
        }
        // In the same object, and written by compare-and-swap: no excuse.
        let revision = update.status.as_ref().map(|status| status.revision.clone()).unwrap_or_default();
        let asked = verbs::parse(&update.metadata.annotations.clone().unwrap_or_default()).verbs;
        let stops = asked
            .iter()
            .any(|verb| matches!(verb.kind, VerbKind::Hold | VerbKind::Abort) && verb.binds(&revision));
        if update.spec.paused || stops || update.metadata.deletion_timestamp.is_some() {
            self.found.push(format!("invariant 4: {name} starts {new:?} although it was stopped"));
        }
    }

    fn waiting(&mut self, name: &str, update: &LiveUpdate) {
        let Some(status) = &update.status else { return };
        let mut said = 0;
        for group in &status.waiting {
            said += group.count;
            if !known(&group.reason) || group.message.is_empty() {
                self.found.push(format!("invariant 10: LiveUpdate/{name} groups nodes by {group:?}"));
            }
        }
        let wait = status.counts.waiting + status.counts.blocked;
        if said != wait {
            self.found.push(format!(
                "invariant 10: LiveUpdate/{name} says of {said} nodes on what they wait, and {wait} do"
            ));
        }
    }

    fn record(&mut self, record: &NodeLiveUpdate, worlds: &BTreeMap<String, World>) {
        let name = record.metadata.name.clone().unwrap_or_default();
        let uid = record.metadata.uid.clone().unwrap_or_default();
        let Some(status) = &record.status else { return };
        if let Some(epoch) = &status.epoch {
            self.epoch(&format!("NodeLiveUpdate/{name} {uid} status"), epoch.counter);
        }
        if !status.state.is_empty() && !known(&status.reason) {
            self.found.push(format!(
                "invariant 10: NodeLiveUpdate/{name} is {} and gives {:?} as its reason",
                status.state, status.reason
            ));
        }
        self.records.insert(name.clone(), status.attempt.clone());
        if self.blind(Kind::Update) {
            self.admitted.insert((name.clone(), status.attempt.clone()));
        }
        let words: BTreeMap<String, String> = status
            .devices
            .iter()
            .filter_map(|device| Some((device.address.clone(), device.outcome.clone()?)))
            .collect();
        if status.attempt.is_empty() || words.is_empty() {
            return;
        }
        let place = (name.clone(), status.attempt.clone());
        match self.outcomes.get(&place) {
            Some(old) if *old == words => {}
            Some(old) => {
                // A late return corrects `Lost`, and nothing else is corrected.
                let changed =
                    old.iter().any(|(device, word)| word != "Lost" && words.get(device) != Some(word));
                if changed {
                    self.found.push(format!(
                        "invariant 3: {name}'s outcomes of {} were {old:?} and became {words:?}",
                        status.attempt
                    ));
                }
            }
            None => {
                for better in worlds.get(&name).map(|world| better(world, &words)).unwrap_or_default() {
                    self.found.push(format!("invariant 3: {name}, attempt {}: {better}", status.attempt));
                }
            }
        }
        self.outcomes.insert(place, words);
    }

    fn policy(&mut self, policy: &LiveUpdatePolicy, seen: Instant) {
        let same = self.policy.as_ref().is_some_and(|(_, spec)| *spec == policy.spec);
        if !same {
            self.policy = Some((seen, policy.spec.clone()));
        }
    }

    fn epoch(&mut self, of: &str, counter: i64) {
        let highest = self.epochs.entry(of.to_owned()).or_default();
        if counter < *highest {
            self.found.push(format!("invariant 5: {of} fell from epoch {highest} to {counter}"));
        }
        *highest = counter.max(*highest);
    }

    /// What a node's machine did.
    pub(super) fn jumped(&mut self, node: &str, attempts: &[String]) {
        let mut once = BTreeSet::new();
        for attempt in attempts {
            let place = (node.to_owned(), attempt.clone());
            let wrong = if !once.insert(attempt) {
                "it jumped before"
            } else if !self.admitted.contains(&place) {
                "it was never in flight"
            } else if self.never_began.contains(&place) {
                "it left inFlight without an end on record"
            } else {
                continue;
            };
            if self.jumps_told.insert(attempt.clone()) {
                self.found
                    .push(format!("invariant 5: node {node} jumped for attempt {attempt}, but {wrong}"));
            }
        }
    }
}

fn known(reason: &str) -> bool {
    Reason::ALL.iter().any(|known| known.as_str() == reason)
}

/// Words that say more than the machine's own facts.
fn better(world: &World, words: &BTreeMap<String, String>) -> Vec<String> {
    let Ok(spec) = world.spec() else { return Vec::new() };
    let place = |word: &str| CONTINUITY.iter().position(|it| *it == word);
    let devices = spec.devices.iter().filter_map(|device| {
        let said = words.get(&device.address)?;
        let real = device.facts.facts(true).outcome();
        (place(said)? > place(real.as_str())?)
            .then(|| format!("{} is said to be {said} and was {real}", device.address))
    });
    devices.collect()
}
