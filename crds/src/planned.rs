//! Specs in the planner's words. The schema's rules refuse the same mistakes first; what came past them is
//! named with its field and does not stop anything else (invariant 9).

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use liveupdate_planner::{
    Amount, OnBlocked, OnFailure, Operator, Policy, Requirement, Selector, Spec, Step, Strategy, Text,
};

use crate::{IntOrPercent, LiveUpdatePolicySpec, LiveUpdateSpec, duration, update};

/// An update's spec.
///
/// # Errors
/// Which field is wrong, and how it is written right.
pub fn spec(spec: &LiveUpdateSpec) -> Result<Spec, String> {
    let of = deadlines(&spec.deadlines)?;
    let before_the_jump = [of.preflight, of.stage, of.preserve, of.quiesce];
    Ok(Spec {
        selector: selector(&spec.node_selector)?,
        include_joining: spec.join_policy == update::JoinPolicy::Include,
        release: Text::copy(&spec.target.release),
        digest: Text::copy(spec.target.named()?.digest),
        revision: crate::revision(spec).into(),
        acknowledge: spec.acknowledge.iter().map(|token| token.as_str().to_owned()).collect(),
        strategy: strategy(&spec.strategy)?,
        return_deadline: of.r#return,
        // The planner counts from the return: what is given back comes before what is verified.
        verify_deadline: of.reclaim.saturating_add(of.verify),
        prepare_deadline: before_the_jump.into_iter().fold(Duration::ZERO, Duration::saturating_add),
        blackout_budget: spec
            .blackout_budget
            .as_deref()
            .map(|text| length("blackoutBudget", text))
            .transpose()?,
        paused: spec.paused,
    })
}

/// An update's deadlines, read; each is the field of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the field of that name")]
pub struct Deadlines {
    pub preflight: Duration,
    pub stage: Duration,
    pub preserve: Duration,
    pub quiesce: Duration,
    pub r#return: Duration,
    pub reclaim: Duration,
    pub verify: Duration,
}

/// An update's deadlines.
///
/// # Errors
/// Which one is wrong, and how it is written right.
pub fn deadlines(of: &update::Deadlines) -> Result<Deadlines, String> {
    let deadline = |name: &str, text: &str| length(&format!("deadlines.{name}"), text);
    Ok(Deadlines {
        preflight: deadline("preflight", &of.preflight)?,
        stage: deadline("stage", &of.stage)?,
        preserve: deadline("preserve", &of.preserve)?,
        quiesce: deadline("quiesce", &of.quiesce)?,
        r#return: deadline("return", &of.r#return)?,
        reclaim: deadline("reclaim", &of.reclaim)?,
        verify: deadline("verify", &of.verify)?,
    })
}

/// The platform's word.
///
/// # Errors
/// Which field is wrong.
pub fn policy(spec: &LiveUpdatePolicySpec) -> Result<Policy, String> {
    let max_unavailable = spec.max_unavailable.as_ref().map(Amount::try_from).transpose();
    Ok(Policy {
        allowed_acknowledgements: spec
            .allowed_acknowledgements
            .iter()
            .map(|it| it.as_str().to_owned())
            .collect(),
        minimum_continuity: spec.minimum_continuity.map(Into::into),
        max_unavailable: max_unavailable.map_err(|error| format!("spec.maxUnavailable: {error}"))?,
        signers: spec.signers.iter().map(|signer| (signer.name.clone(), signer.key.clone())).collect(),
        hold: spec.hold,
    })
}

fn length(field: &str, text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| format!("spec.{field}: {error}"))
}

fn amount(field: &str, amount: &IntOrPercent) -> Result<Amount, String> {
    Amount::try_from(amount).map_err(|error| format!("spec.strategy.{field}: {error}"))
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

fn strategy(strategy: &update::Strategy) -> Result<Strategy, String> {
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
            update::OnFailure::Pause => OnFailure::Pause,
            update::OnFailure::Abort => OnFailure::Abort,
        },
        on_blocked: match strategy.on_blocked {
            update::OnBlocked::Wait => OnBlocked::Wait,
            update::OnBlocked::Skip => OnBlocked::Skip,
            update::OnBlocked::Fail => OnBlocked::Fail,
        },
        dry_run: strategy.dry_run,
        steps,
    })
}

fn step(step: &update::Step) -> Result<Step, String> {
    let field = |name: &str| format!("strategy.steps, {:?}, {name}", step.name);
    Ok(Step {
        name: step.name.clone(),
        nodes: Amount::try_from(&step.nodes).map_err(|error| format!("spec.{}: {error}", field("nodes")))?,
        cover_device_model: step.cover.contains(&update::Cover::DeviceModel),
        bake: step.bake.as_deref().map_or(Ok(Duration::ZERO), |text| length(&field("bake"), text))?,
        approval: step.approval == update::Approval::Required,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> Result<Spec, String> {
        let text = format!(
            r#"{{"nodeSelector":{{"matchLabels":{{"pool":"x"}}}},
                "target":{{"release":"7.3","bundle":{{"name":"b","digest":"sha256:0"}}}}{more}}}"#
        );
        spec(&serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_short_spec_means_one_step_of_all_nodes_one_at_a_time() {
        let spec = read("").unwrap();
        assert_eq!(
            (spec.strategy.max_unavailable, spec.strategy.max_failures),
            (Amount::Count(1), Amount::Count(0))
        );
        assert_eq!((spec.strategy.steps.len(), spec.strategy.steps[0].name.as_str()), (1, "all"));
        assert_eq!(spec.strategy.steps[0].nodes, Amount::Percent(100));
        assert_eq!(spec.verify_deadline, Duration::from_secs(600));
        assert_eq!(spec.prepare_deadline, Duration::from_secs(17 * 60 + 2));
    }

    #[test]
    fn an_operator_that_nobody_knows_selects_nothing() {
        let mut odd: LiveUpdateSpec = serde_json::from_str(
            r#"{"nodeSelector":{},"target":{"release":"7.3","bundle":{"name":"b","digest":"sha256:0"}}}"#,
        )
        .unwrap();
        odd.node_selector =
            serde_json::from_str(r#"{"matchExpressions":[{"key":"k","operator":"Gt","values":["1"]}]}"#)
                .unwrap();
        assert!(spec(&odd).unwrap_err().contains("write In, NotIn"));
    }

    #[test]
    fn invariant_9_what_is_wrong_is_named_with_its_field() {
        let bad = [
            (r#","strategy":{"maxUnavailable":"ten"}"#, "spec.strategy.maxUnavailable"),
            (r#","blackoutBudget":"3 seconds""#, "spec.blackoutBudget"),
            (r#","deadlines":{"stage":"soon"}"#, "spec.deadlines.stage"),
            (r#","strategy":{"steps":[{"name":"canary","nodes":-1}]}"#, r#"steps, "canary", nodes"#),
        ];
        for (more, field) in bad {
            let error = read(more).unwrap_err();
            assert!(error.contains(field), "{error}");
        }
    }
}
