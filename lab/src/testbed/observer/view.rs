//! The parts of objects that invariants speak of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use k8s_openapi::api::core::v1::Node;
use kube::core::{Selector, SelectorExt};
use liveupdate_crds::{GROUP, IntOrPercent, LiveUpdate, MARK_ANNOTATION, TAINT_KEY};

/// Prefixes of keys that Kubernetes itself writes on Nodes.
const KUBERNETES: [&str; 4] = ["kubernetes.io/", "node.kubernetes.io/", "node.alpha.", "beta.kubernetes.io/"];

/// A Node.
#[derive(Clone, Debug)]
pub(super) struct NodeView {
    pub(super) uid: String,
    pub(super) labels: BTreeMap<String, String>,
    /// Carries our taint.
    pub(super) tainted: bool,
    /// `update-uid/attempt`
    pub(super) mark: Option<String>,
    /// Since when it is not Ready, as far as was seen.
    pub(super) not_ready: Option<Instant>,
    /// What of it belongs to others, one line each.
    pub(super) foreign: BTreeSet<String>,
}

impl NodeView {
    pub(super) fn of(node: &Node, before: Option<&NodeView>, seen: Instant) -> Self {
        let spec = node.spec.as_ref();
        let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let annotations = node.metadata.annotations.clone().unwrap_or_default();
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref());
        let ready = conditions
            .unwrap_or_default()
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let foreign = |key: &str| !key.contains(GROUP) && !KUBERNETES.iter().any(|it| key.starts_with(it));
        let mut others: BTreeSet<String> = taints
            .iter()
            .filter(|taint| foreign(&taint.key))
            .map(|taint| format!("taint {}={:?}:{}", taint.key, taint.value, taint.effect))
            .collect();
        let pairs = |what: &str, map: &BTreeMap<String, String>| -> Vec<String> {
            let ours = map.iter().filter(|(key, _)| foreign(key));
            ours.map(|(key, value)| format!("{what} {key}={value}")).collect()
        };
        others.extend(pairs("label", &labels));
        others.extend(pairs("annotation", &annotations));
        if spec.and_then(|spec| spec.unschedulable).unwrap_or_default() {
            others.insert("unschedulable".to_owned());
        }
        Self {
            uid: node.metadata.uid.clone().unwrap_or_default(),
            tainted: taints.iter().any(|taint| taint.key == TAINT_KEY),
            mark: annotations.get(MARK_ANNOTATION).cloned(),
            not_ready: (!ready).then(|| before.and_then(|before| before.not_ready).unwrap_or(seen)),
            foreign: others,
            labels,
        }
    }
}

/// An update.
#[derive(Clone, Debug)]
pub(super) struct UpdateView {
    pub(super) uid: String,
    /// (node, attempt)
    pub(super) flying: BTreeSet<(String, String)>,
    pub(super) epoch: i64,
    selector: Option<Selector>,
}

impl UpdateView {
    pub(super) fn of(update: &LiveUpdate) -> Self {
        let status = update.status.as_ref();
        let flying = status.map(|status| status.in_flight.as_slice()).unwrap_or_default();
        Self {
            uid: update.metadata.uid.clone().unwrap_or_default(),
            flying: flying.iter().map(|entry| (entry.node.clone(), entry.attempt.clone())).collect(),
            epoch: status.and_then(|status| status.epoch.as_ref()).map_or(0, |epoch| epoch.counter),
            selector: update.spec.node_selector.clone().try_into().ok(),
        }
    }

    pub(super) fn selects(&self, node: &NodeView) -> bool {
        self.selector.as_ref().is_some_and(|selector| selector.matches(&node.labels))
    }
}

/// The number that an amount allows of so many nodes.
pub(super) fn limit(amount: &IntOrPercent, of: usize) -> usize {
    match amount {
        IntOrPercent::Int(count) => usize::try_from(*count).unwrap_or(0),
        IntOrPercent::Percent(text) => {
            let percent: usize = text.trim_end_matches('%').parse().unwrap_or(0);
            (of * percent / 100).max(1)
        }
    }
}
