//! The bench's nodes and its update.

use std::time::Duration;

use liveupdate_crds::{LiveUpdate, LiveUpdatePolicy};
use liveupdate_host::simulated::{BundleSpec, DeviceSpec, FactsSpec, HolderSpec, Level, WorldSpec};
use serde_json::json;

use crate::fleet::NodeSpec;
use crate::{Error, Result};

/// As a real kubelet's: a quarter of a Lease of 40 s.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(10);
const RELEASE: &str = "7.3.5-lu2";
const DIGEST: &str = "sha256:3b4c1f6a9d0e5d7c8b2a4f6e8d0c2b4a6f8e0d2c4b6a8f0e1d3c5b7a9f1e3d5c";

/// Nodes that do everything at once.
pub(super) fn nodes(count: u16) -> Vec<NodeSpec> {
    (0..count)
        .map(|index| {
            let mut world = WorldSpec::new("7.3.4-lu1");
            world.bundles = vec![BundleSpec {
                name: RELEASE.into(),
                digest: DIGEST.into(),
                release: RELEASE.into(),
                boots_as: None,
                bytes: 64 << 20,
            }];
            world.devices = vec![DeviceSpec {
                address: "0000:17:00.0".into(),
                vendor: "10de".into(),
                device: "2331".into(),
                class: "0302".into(),
                holder: Some("vm-a".into()),
                ceiling: Some(Level::Uninterrupted),
                facts: FactsSpec::uninterrupted(),
            }];
            world.holders = vec![HolderSpec {
                name: "vm-a".into(),
                aware: true,
                minimum: None,
                refuses: false,
                memory_bytes: 64 << 30,
            }];
            NodeSpec::new(index, format!("node-{index:05}"), world).label("pool", "bench")
        })
        .collect()
}

/// Ten in a hundred at a time, in one step.
pub(super) fn update() -> Result<LiveUpdate> {
    parse(json!({
        "apiVersion": "liveupdate.dev/v1alpha1",
        "kind": "LiveUpdate",
        "metadata": {"name": "bench"},
        "spec": {
            "nodeSelector": {"matchLabels": {"pool": "bench"}},
            "target": {"release": RELEASE, "bundle": {"name": RELEASE, "digest": DIGEST}},
            "acknowledge": ["VfioPciLiveUpdate"],
            "devices": [{"name": "gpus", "match": {"class": "0302"}, "onUpdate": "Preserve", "minimumContinuity": "Paused"}],
            "strategy": {"maxUnavailable": "10%"},
        },
    }))
}

/// Allows what the update acknowledges.
pub(super) fn policy() -> Result<LiveUpdatePolicy> {
    parse(json!({
        "apiVersion": "liveupdate.dev/v1alpha1",
        "kind": "LiveUpdatePolicy",
        "metadata": {"name": "default"},
        "spec": {"allowedAcknowledgements": ["VfioPciLiveUpdate"]},
    }))
}

fn parse<K: serde::de::DeserializeOwned>(object: serde_json::Value) -> Result<K> {
    serde_json::from_value(object)
        .map_err(|source| Error::Encoding { what: "the bench's own objects", source: source.into() })
}
