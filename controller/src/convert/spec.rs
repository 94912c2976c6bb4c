//! An update's spec, in the planner's words and in those of the agents.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use liveupdate_crds::update as api;
use liveupdate_crds::{Continuity, IntOrPercent, LiveUpdateSpec, duration};
use liveupdate_planner::{
    Amount, OnBlocked, OnFailure, Operator, Policy, Requirement, Selector, Spec, Step, Strategy,
};
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

fn length(field: &str, text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| format!("spec.{field}: {error}"))
}

fn amount(field: &str, amount: &IntOrPercent) -> Result<Amount, String> {
    Amount::try_from(amount).map_err(|error| format!("spec.strategy.{field}: {error}"))
}

/// Reads a spec; an error says which field is wrong and how it is written right.
pub fn read(spec: &LiveUpdateSpec) -> Result<ReadSpec, String> {
    let deadline = |name: &str, text: &str| length(&format!("deadlines.{name}"), text);
    let of = &spec.deadlines;
    let preflight = deadline("preflight", &of.preflight)?;
    let stage = deadline("stage", &of.stage)?;
    let preserve = deadline("preserve", &of.preserve)?;
    let quiesce = deadline("quiesce", &of.quiesce)?;
    let return_deadline = deadline("return", &of.r#return)?;
    let reclaim = deadline("reclaim", &of.reclaim)?;
    let verify = deadline("verify", &of.verify)?;
    let budget = spec.blackout_budget.as_deref().map(|text| length("blackoutBudget", text)).transpose()?;
    let planner = Spec {
        selector: selector(&spec.node_selector)?,
        include_joining: spec.join_policy == api::JoinPolicy::Include,
        release: spec.target.release.clone(),
        digest: spec.target.bundle.digest.clone(),
        revision: liveupdate_crds::revision(spec),
        acknowledge: spec.acknowledge.iter().map(|token| token.as_str().to_owned()).collect(),
        strategy: strategy(&spec.strategy)?,
        return_deadline,
        // The planner counts from the return: what is given back comes before what is verified.
        verify_deadline: reclaim.saturating_add(verify),
        prepare_deadline: preflight.saturating_add(stage).saturating_add(preserve).saturating_add(quiesce),
        blackout_budget: budget,
        paused: spec.paused,
    };
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let demands = wire::Demands {
        devices: spec.devices.iter().map(rule).collect(),
        acknowledged: planner.acknowledge.iter().cloned().collect(),
        platform_minimum: wire::Continuity::Unspecified.into(),
        deadlines: Some(wire::Deadlines {
            preflight_ms: millis(preflight),
            stage_ms: millis(stage),
            preserve_ms: millis(preserve),
            quiesce_ms: millis(quiesce),
            return_ms: millis(return_deadline),
            reclaim_ms: millis(reclaim),
        }),
    };
    let target = wire::Target {
        release: spec.target.release.clone(),
        bundle: spec.target.bundle.name.clone(),
        digest: spec.target.bundle.digest.clone(),
    };
    Ok(ReadSpec { planner, target, demands, preflight, stage })
}

/// What agents are asked for: the team's and the platform's voices.
pub fn demands(spec: &ReadSpec, policy: &Policy) -> wire::Demands {
    use liveupdate_planner::Continuity as Word;
    let floor = match policy.minimum_continuity {
        None => wire::Continuity::Unspecified,
        Some(Word::Reinitialised) => wire::Continuity::Reinitialised,
        Some(Word::Paused) => wire::Continuity::Paused,
        Some(Word::Uninterrupted) => wire::Continuity::Uninterrupted,
    };
    wire::Demands { platform_minimum: floor.into(), ..spec.demands.clone() }
}

fn rule(rule: &api::DeviceRule) -> wire::DeviceRule {
    let minimum = match rule.minimum_continuity {
        None => wire::Continuity::Unspecified,
        Some(Continuity::Reinitialised) => wire::Continuity::Reinitialised,
        Some(Continuity::Paused) => wire::Continuity::Paused,
        Some(Continuity::Uninterrupted) => wire::Continuity::Uninterrupted,
    };
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
        minimum: minimum.into(),
        on_shortfall: on_shortfall.into(),
    }
}

fn selector(selector: &LabelSelector) -> Result<Selector, String> {
    let mut requirements = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        let operator = Operator::In(BTreeSet::from([value.clone()]));
        requirements.push(Requirement { key: key.clone(), operator });
    }
    for expression in selector.match_expressions.iter().flatten() {
        let field = || format!("spec.nodeSelector.matchExpressions, key {:?}", expression.key);
        let values: BTreeSet<String> = expression.values.iter().flatten().cloned().collect();
        let operator = match (expression.operator.as_str(), values.is_empty()) {
            ("In" | "NotIn", true) => {
                return Err(format!("{}: {} needs values", field(), expression.operator));
            }
            ("In", false) => Operator::In(values),
            ("NotIn", false) => Operator::NotIn(values),
            ("Exists" | "DoesNotExist", false) => {
                return Err(format!("{}: {} takes no values", field(), expression.operator));
            }
            ("Exists", true) => Operator::Exists,
            ("DoesNotExist", true) => Operator::DoesNotExist,
            (other, _) => {
                return Err(format!(
                    "{}: operator {other:?}: write In, NotIn, Exists or DoesNotExist",
                    field()
                ));
            }
        };
        requirements.push(Requirement { key: expression.key.clone(), operator });
    }
    Ok(Selector { requirements })
}

fn strategy(strategy: &api::Strategy) -> Result<Strategy, String> {
    let mut steps = strategy.steps.iter().map(step).collect::<Result<Vec<_>, _>>()?;
    if steps.is_empty() {
        steps.push(Step {
            name: "all".to_owned(),
            nodes: Amount::Percent(100),
            cover_device_model: false,
            bake: Duration::ZERO,
            approval: false,
        });
    }
    Ok(Strategy {
        max_unavailable: amount("maxUnavailable", &strategy.max_unavailable)?,
        order: strategy.order.clone(),
        max_failures: amount("maxFailures", &strategy.max_failures)?,
        on_failure: match strategy.on_failure {
            api::OnFailure::Pause => OnFailure::Pause,
            api::OnFailure::Abort => OnFailure::Abort,
        },
        on_blocked: match strategy.on_blocked {
            api::OnBlocked::Wait => OnBlocked::Wait,
            api::OnBlocked::Skip => OnBlocked::Skip,
            api::OnBlocked::Fail => OnBlocked::Fail,
        },
        dry_run: strategy.dry_run,
        steps,
    })
}

fn step(step: &api::Step) -> Result<Step, String> {
    let field = |name: &str| format!("strategy.steps, {:?}, {name}", step.name);
    Ok(Step {
        name: step.name.clone(),
        nodes: Amount::try_from(&step.nodes).map_err(|error| format!("spec.{}: {error}", field("nodes")))?,
        cover_device_model: step.cover.contains(&api::Cover::DeviceModel),
        bake: step.bake.as_deref().map_or(Ok(Duration::ZERO), |text| length(&field("bake"), text))?,
        approval: step.approval == api::Approval::Required,
    })
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
    fn a_short_spec_means_one_step_of_all_nodes_one_at_a_time() {
        let read = read(&spec("")).unwrap();
        let strategy = &read.planner.strategy;
        assert_eq!((strategy.max_unavailable, strategy.max_failures), (Amount::Count(1), Amount::Count(0)));
        assert_eq!((strategy.steps.len(), strategy.steps[0].name.as_str()), (1, "all"));
        assert_eq!(strategy.steps[0].nodes, Amount::Percent(100));
        assert_eq!(read.planner.verify_deadline, Duration::from_secs(600));
        assert_eq!(read.target.release, "7.3");
        assert_eq!(read.demands.deadlines.unwrap().quiesce_ms, 2000);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        let bad = [
            (r#","strategy":{"maxUnavailable":"ten"}"#, "spec.strategy.maxUnavailable"),
            (r#","blackoutBudget":"3 seconds""#, "spec.blackoutBudget"),
            (r#","deadlines":{"stage":"soon"}"#, "spec.deadlines.stage"),
            (r#","strategy":{"steps":[{"name":"canary","nodes":-1}]}"#, r#"steps, "canary", nodes"#),
        ];
        for (more, field) in bad {
            let error = read(&spec(more)).unwrap_err();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn an_operator_that_nobody_knows_selects_nothing() {
        let mut spec = spec("");
        spec.node_selector =
            serde_json::from_str(r#"{"matchExpressions":[{"key":"k","operator":"Gt","values":["1"]}]}"#)
                .unwrap();
        assert!(read(&spec).unwrap_err().contains("write In, NotIn"));
    }

    #[test]
    fn the_platforms_floor_is_added_to_what_the_team_asks() {
        let read = read(&spec("")).unwrap();
        let policy =
            Policy { minimum_continuity: Some(liveupdate_planner::Continuity::Paused), ..Policy::default() };
        assert_eq!(demands(&read, &policy).platform_minimum(), wire::Continuity::Paused);
    }
}
