//! The imagined fleet: nodes that the update selects, drawn from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use liveupdate_crds::update::{DeviceRule, OnUpdate};
use liveupdate_node_core::Continuity;
use liveupdate_node_core::node::{Plan, ScopedDevice};
use liveupdate_planner::Operator;

use super::course::{Course, walk};
use super::manifest::Asked;

/// Guests of a node, at most.
const MOST_GUESTS: u64 = 8;
/// Models that a rule's devices come in.
const MODELS_PER_RULE: u64 = 2;
/// Zones that the nodes lie in.
const ZONES: u64 = 3;

/// A node of the fleet.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Its labels, which the update's selector selects.
    pub labels: Arc<BTreeMap<String, String>>,
    /// How many guests it has.
    pub guests: u32,
    /// Models of the devices that they hold.
    pub models: BTreeSet<String>,
    /// Which of [`Fleet::courses`] an attempt takes.
    pub course: usize,
}

/// All nodes.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// In the order of their names.
    pub machines: Vec<Machine>,
    /// The ways that attempts take, one for each kind of node.
    pub courses: Vec<Course>,
}

/// Splitmix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

impl Fleet {
    /// Draws that many nodes.
    #[must_use]
    pub fn draw(asked: &Asked, nodes: u32, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut zones: BTreeMap<u64, Arc<BTreeMap<String, String>>> = BTreeMap::new();
        let rules = &asked.update.spec.devices;
        let mut courses: Vec<Course> = Vec::new();
        let mut kinds: BTreeMap<Vec<(usize, u64)>, usize> = BTreeMap::new();
        let mut machines = Vec::new();
        for number in 1..=nodes {
            let guests = 1 + random.below(MOST_GUESTS);
            let held: Vec<(usize, u64)> = match u64::try_from(rules.len()) {
                Ok(count @ 1..) => {
                    // All guests of a node hold the same model, as racks are bought.
                    let rule = usize::try_from(random.below(count)).unwrap_or(0);
                    let model = random.below(MODELS_PER_RULE);
                    (0..guests).map(|_| (rule, model)).collect()
                }
                _ => Vec::new(),
            };
            let devices: Vec<_> =
                held.iter().enumerate().map(|(at, held)| device(rules, *held, at)).collect();
            let models = devices.iter().map(|device| device.model.clone()).collect();
            let course = *kinds.entry(held).or_insert_with(|| {
                courses.push(walk(asked, devices, nodes));
                courses.len() - 1
            });
            let zone = 1 + random.below(ZONES);
            let labels = zones.entry(zone).or_insert_with(|| Arc::new(labels(asked, zone)));
            let guests = u32::try_from(guests).unwrap_or(u32::MAX);
            let (name, labels) = (format!("node-{number:06}"), Arc::clone(labels));
            machines.push(Machine { name, labels, guests, models, course });
        }
        Self { machines, courses }
    }

    /// Guests of all nodes together.
    #[must_use]
    pub fn guests(&self) -> u64 {
        self.machines.iter().map(|machine| u64::from(machine.guests)).sum()
    }
}

/// Labels of the nodes in a zone: what the update selects and orders by.
fn labels(asked: &Asked, zone: u64) -> BTreeMap<String, String> {
    let mut labels = selected_labels(asked);
    let topology = "topology.kubernetes.io/zone".to_owned();
    for key in asked.spec.strategy.order.iter().chain([&topology]) {
        labels.entry(key.clone()).or_insert_with(|| format!("zone-{zone}"));
    }
    labels
}

/// Labels that the update's selector selects.
fn selected_labels(asked: &Asked) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for requirement in &asked.spec.selector.requirements {
        let value = match &requirement.operator {
            Operator::In(values) => values.first().cloned(),
            Operator::Exists => Some("simulated".to_owned()),
            Operator::NotIn(_) | Operator::DoesNotExist => None,
        };
        labels.extend(value.map(|value| (requirement.key.clone(), value)));
    }
    labels
}

/// A device that the rule matches.
fn device(rules: &[DeviceRule], (rule, model): (usize, u64), at: usize) -> ScopedDevice {
    let rule = &rules[rule];
    let or = |word: &Option<String>, other: String| word.clone().unwrap_or(other);
    let vendor = or(&rule.r#match.vendor, "10de".to_owned());
    let product = or(&rule.r#match.device, format!("{:04x}", 0x2330 + model));
    let plan = match rule.on_update {
        OnUpdate::Preserve => {
            Plan::Preserve(rule.minimum_continuity.map_or(Continuity::Reinitialised, Into::into))
        }
        OnUpdate::Stop => Plan::Stop,
    };
    ScopedDevice {
        address: format!("0000:{:02x}:00.0", 0x40 + at),
        model: format!("{vendor}:{product}"),
        holder: format!("guest-{at}"),
        plan,
    }
}
