//! An update's spec, in the planner's words and in those of the agents.

use std::time::Duration;

use liveupdate_crds::update as api;
use liveupdate_crds::{LiveUpdateSpec, planned};
use liveupdate_planner::{Continuity, Policy, Spec};
use liveupdate_proto::common::v1 as wire;

/// An update's spec, read.
#[derive(Clone, Debug)]
pub struct ReadSpec {
    /// For the planner.
    pub planner: Spec,
    /// For agents: the kernel.
    pub target: wire::Target,
    /// For agents: what the team asks for. The platform's voice is added per call.
    pub demands: wire::Demands,
    /// How long a preflight may take.
    pub preflight: Duration,
    /// How long staging may take.
    pub stage: Duration,
}

/// Reads a spec; an error says which field is wrong and how it is written right.
pub fn read(spec: &LiveUpdateSpec) -> Result<ReadSpec, String> {
    let planner = planned::spec(spec)?;
    let of = planned::deadlines(&spec.deadlines)?;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let demands = wire::Demands {
        devices: spec.devices.iter().map(rule).collect(),
        acknowledged: planner.acknowledge.iter().cloned().collect(),
        platform_minimum: wire::Continuity::Unspecified.into(),
        signers: Vec::new(),
        deadlines: Some(wire::Deadlines {
            preflight_ms: millis(of.preflight),
            stage_ms: millis(of.stage),
            preserve_ms: millis(of.preserve),
            quiesce_ms: millis(of.quiesce),
            return_ms: millis(of.r#return),
            reclaim_ms: millis(of.reclaim),
        }),
    };
    let named = spec.target.named()?;
    let target = wire::Target {
        release: spec.target.release.clone(),
        bundle: named.name.to_owned(),
        digest: named.digest.to_owned(),
        repository: named.repository.to_owned(),
    };
    Ok(ReadSpec { planner, target, demands, preflight: of.preflight, stage: of.stage })
}

/// What agents are asked for: the team's and the platform's voices.
pub fn demands(spec: &ReadSpec, policy: &Policy) -> wire::Demands {
    let signer = |(name, key): &(String, String)| wire::Signer { name: name.clone(), key: key.clone() };
    wire::Demands {
        platform_minimum: continuity(policy.minimum_continuity),
        signers: policy.signers.iter().map(signer).collect(),
        ..spec.demands.clone()
    }
}

fn continuity(least: Option<Continuity>) -> i32 {
    least.map_or(wire::Continuity::Unspecified, Into::into).into()
}

fn rule(rule: &api::DeviceRule) -> wire::DeviceRule {
    let on_update = match rule.on_update {
        api::OnUpdate::Preserve => wire::OnUpdate::Preserve,
        api::OnUpdate::Stop => wire::OnUpdate::Stop,
    };
    let on_shortfall = match rule.on_shortfall {
        api::OnShortfall::Block => wire::OnShortfall::Block,
        api::OnShortfall::Stop => wire::OnShortfall::Stop,
    };
    wire::DeviceRule {
        name: rule.name.clone(),
        vendor: rule.r#match.vendor.clone().unwrap_or_default(),
        device: rule.r#match.device.clone().unwrap_or_default(),
        class: rule.r#match.class.clone().unwrap_or_default(),
        on_update: on_update.into(),
        minimum: continuity(rule.minimum_continuity.map(Into::into)),
        on_shortfall: on_shortfall.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(more: &str) -> LiveUpdateSpec {
        let digest = "0".repeat(64);
        let text = format!(
            r#"{{"nodeSelector":{{"matchLabels":{{"pool":"x"}}}},
                "target":{{"release":"7.3","bundle":{{"name":"b","digest":"sha256:{digest}"}}}}{more}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn agents_are_told_the_target_and_the_deadlines() {
        let read = read(&spec("")).unwrap();
        assert_eq!(read.planner.verify_deadline, Duration::from_secs(600));
        assert_eq!((read.preflight, read.stage), (Duration::from_secs(120), Duration::from_secs(600)));
        assert_eq!(read.target.release, "7.3");
        assert_eq!(read.demands.deadlines.unwrap().quiesce_ms, 2000);
    }

    #[test]
    fn agents_are_told_the_repository_of_an_image_and_none_of_a_folder() {
        let folder = read(&spec("")).unwrap().target;
        assert_eq!((folder.bundle.as_str(), folder.repository.as_str()), ("b", ""));
        let mut image = spec("");
        image.target.bundle = None;
        image.target.image = Some(format!("registry.example/kernels/lu2@sha256:{}", "1".repeat(64)));
        let read = read(&image).unwrap();
        assert_eq!(read.target.repository, "registry.example/kernels/lu2");
        assert_eq!(
            (read.target.bundle.as_str(), read.target.digest.as_str()),
            ("lu2", read.planner.digest.as_str())
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        let error = read(&spec(r#","deadlines":{"stage":"soon"}"#)).unwrap_err();
        assert!(error.contains("spec.deadlines.stage"), "{error}");
    }

    #[test]
    fn the_platforms_floor_is_added_to_what_the_team_asks() {
        let read = read(&spec("")).unwrap();
        let policy =
            Policy { minimum_continuity: Some(liveupdate_planner::Continuity::Paused), ..Policy::default() };
        assert_eq!(demands(&read, &policy).platform_minimum(), wire::Continuity::Paused);
    }
}
