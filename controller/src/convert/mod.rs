//! Between the API's objects and the planner's words. Pure functions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as WireTime;
use k8s_openapi::jiff::Timestamp;
use liveupdate_crds::planned;
use liveupdate_planner::{Epoch, Policy, Time};

use crate::cluster::PolicyObject;

pub mod node_status;
pub mod record;
pub mod spec;
pub mod update_status;

/// Longest sentence that a status holds.
const SENTENCE: usize = 1024;

/// A time as the API has it: whole seconds. Nothing may depend on more.
pub fn wire_time(time: Time) -> WireTime {
    WireTime(Timestamp::from_millisecond(time.0).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// A time of the API.
pub fn time(time: &WireTime) -> Time {
    Time(time.0.as_millisecond())
}

/// An epoch as the API has it.
pub fn wire_epoch(epoch: &Epoch) -> liveupdate_crds::Epoch {
    liveupdate_crds::Epoch {
        cluster: epoch.cluster.clone(),
        counter: i64::try_from(epoch.counter).unwrap_or(i64::MAX),
    }
}

/// A number for the API, which has none without a sign.
pub fn int(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

/// The platform's word. A policy that cannot be read stops everything: nobody knows what it forbids.
pub fn policy(object: Option<&PolicyObject>) -> (Policy, Option<String>) {
    let stopped = |why: String| (Policy { hold: true, ..Policy::default() }, Some(why));
    match object.map(|object| &object.spec) {
        None => (Policy::default(), None),
        Some(Err(why)) => stopped(why.clone()),
        Some(Ok(spec)) => planned::policy(spec).map_or_else(stopped, |policy| (policy, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use liveupdate_crds::LiveUpdatePolicySpec;
    use liveupdate_planner::Amount;

    #[test]
    fn a_policy_that_cannot_be_read_stops_everything() {
        let broken = PolicyObject { name: "default".into(), spec: Err("hold is a number".into()) };
        let (policy, why) = policy(Some(&broken));
        assert!(policy.hold);
        assert_eq!(why.as_deref(), Some("hold is a number"));
    }

    #[test]
    fn no_policy_allows_no_acknowledgement_and_holds_nothing() {
        let (policy, why) = policy(None);
        assert!(policy.allowed_acknowledgements.is_empty() && !policy.hold && why.is_none());
    }

    #[test]
    fn a_policy_is_taken_over() {
        let spec: LiveUpdatePolicySpec = serde_json::from_str(
            r#"{"allowedAcknowledgements":["VfioPciLiveUpdate"],"maxUnavailable":"20%","hold":true}"#,
        )
        .unwrap();
        let (policy, _) = policy(Some(&PolicyObject { name: "default".into(), spec: Ok(spec) }));
        assert!(policy.allowed_acknowledgements.contains("VfioPciLiveUpdate"));
        assert_eq!(policy.max_unavailable, Some(Amount::Percent(20)));
        assert!(policy.hold);
    }
}
