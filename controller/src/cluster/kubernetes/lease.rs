//! The leader's Lease on the wire. Its epoch is an annotation, since a Lease has no field for it.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use liveupdate_planner::Time;

use crate::cluster::objects::LeaseObject;

/// The counter of leaderships; only ever raised, by compare-and-swap.
const EPOCH: &str = "liveupdate.dev/epoch";

pub(super) fn read(lease: Lease) -> LeaseObject {
    let spec = lease.spec.unwrap_or_default();
    let time = |at: Option<MicroTime>| at.map(|at| Time(at.0.as_millisecond()));
    let mut annotations = lease.metadata.annotations.unwrap_or_default();
    let epoch = annotations.remove(EPOCH).and_then(|text| text.parse().ok()).unwrap_or(0);
    LeaseObject {
        version: lease.metadata.resource_version.unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        duration_seconds: spec.lease_duration_seconds.unwrap_or_default(),
        epoch,
        acquired: time(spec.acquire_time),
        renewed: time(spec.renew_time),
        transitions: spec.lease_transitions.unwrap_or_default(),
        labels: lease.metadata.labels.unwrap_or_default(),
        annotations,
    }
}

pub(super) fn write(namespace: &str, name: &str, lease: &LeaseObject) -> Lease {
    let mut annotations = lease.annotations.clone();
    annotations.insert(EPOCH.to_owned(), lease.epoch.to_string());
    let time = |at: Option<Time>| at.and_then(|at| Timestamp::from_millisecond(at.0).ok()).map(MicroTime);
    Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            resource_version: (!lease.version.is_empty()).then(|| lease.version.clone()),
            // It is written whole: what is left out here would be gone.
            labels: Some(lease.labels.clone()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: (!lease.holder.is_empty()).then(|| lease.holder.clone()),
            // The API wants more than nothing, even of a Lease that was released.
            lease_duration_seconds: Some(lease.duration_seconds.max(1)),
            acquire_time: time(lease.acquired),
            renew_time: time(lease.renewed),
            lease_transitions: Some(lease.transitions),
            ..LeaseSpec::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_comes_back_as_it_was_written() {
        let lease = LeaseObject {
            version: "5".into(),
            holder: "a".into(),
            duration_seconds: 15,
            epoch: 7,
            acquired: Some(Time(1_000)),
            renewed: Some(Time(2_000)),
            transitions: 3,
            labels: [("app.kubernetes.io/managed-by".to_owned(), "Helm".to_owned())].into(),
            annotations: [("meta.helm.sh/release-name".to_owned(), "liveupdate".to_owned())].into(),
        };
        assert_eq!(read(write("ns", "name", &lease)), lease);
    }

    #[test]
    fn a_lease_of_somebody_else_has_no_epoch() {
        assert_eq!(read(Lease::default()).epoch, 0);
    }
}
