//! Every value goes there and back; what is unset or unknown never helps.

use std::time::Duration;

use liveupdate_node_core::gate::{Gate, GateId};
use liveupdate_node_core::node::StateName;
use liveupdate_node_core::outcome::{Config, Dma, Facts, Interrupts, Outcome, Reset, State};
use liveupdate_node_core::verdict::{Demands, OnShortfall, OnUpdate, Rule, Voice};
use liveupdate_node_core::{Continuity, Epoch, GateResult, Target};

use super::{ConvertError, deadlines, epoch, known_gates, subject};
use crate::common::v1 as pb;
use crate::node::v1 as node;

/// There and back for all, and `None` for what is unset; and the messages' names are the core's.
fn round_trip<M, C>(all: &[C])
where
    M: From<C> + Into<Option<C>> + Default + Copy + std::fmt::Debug,
    C: Copy + PartialEq + std::fmt::Debug,
{
    for value in all {
        let message = M::from(*value);
        assert_eq!(format!("{message:?}"), format!("{value:?}"));
        assert_eq!(message.into(), Some(*value));
    }
    assert_eq!(M::default().into(), None, "unset must not be taken for a value");
}

#[test]
fn every_enum_value_round_trips() {
    round_trip::<pb::Continuity, _>(&Continuity::ALL);
    round_trip::<pb::Outcome, _>(&Outcome::ALL);
    round_trip::<pb::NodeState, _>(&StateName::ALL);
    round_trip::<node::Voice, _>(&Voice::ALL);
    round_trip::<pb::OnUpdate, _>(&[OnUpdate::Preserve, OnUpdate::Stop]);
    for result in [GateResult::Pass, GateResult::Fail, GateResult::Unknown] {
        assert_eq!(GateResult::from(pb::GateResult::from(result)), result);
    }
    for on_shortfall in [OnShortfall::Block, OnShortfall::Stop] {
        assert_eq!(OnShortfall::from(pb::OnShortfall::from(on_shortfall)), on_shortfall);
    }
}

#[test]
fn unset_and_unheard_of_values_never_help() {
    assert_eq!(GateResult::from(pb::GateResult::Unspecified), GateResult::Unknown);
    assert_eq!(OnShortfall::from(pb::OnShortfall::Unspecified), OnShortfall::Block);
    assert_eq!(Facts::from(&pb::DeviceFacts::default()), Facts::default());
    let newer =
        pb::DeviceFacts { reset: 99, dma: 99, interrupts: 99, config: 99, state: 99, ..Default::default() };
    assert_eq!(Facts::from(&newer), Facts::default());
    let gate = pb::Gate { id: "CustodySafe".into(), result: 99, ..Default::default() };
    assert_eq!(Gate::try_from(&gate).unwrap().result, GateResult::Unknown);
}

#[test]
fn every_combination_of_facts_round_trips() {
    let ms = Duration::from_millis;
    for reset in [Reset::None, Reset::Detected, Reset::Unknown] {
        for dma in [Dma::Continuous, Dma::Gap(ms(7)), Dma::Stopped, Dma::Unknown] {
            for interrupts in [Interrupts::Relatched(ms(12)), Interrupts::Lost, Interrupts::Unknown] {
                for config in [Config::Same, Config::Changed, Config::Unknown] {
                    for state in [State::Probed, State::Attested, State::Unknown] {
                        for (quiescent, returned) in
                            [(false, false), (false, true), (true, false), (true, true)]
                        {
                            let facts = Facts { reset, dma, interrupts, config, state, quiescent, returned };
                            assert_eq!(Facts::from(&pb::DeviceFacts::from(&facts)), facts);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn gates_round_trip_and_unheard_of_ones_are_left_out() {
    let mut messages: Vec<pb::Gate> = Vec::new();
    for &id in GateId::ALL {
        let gate = Gate {
            id,
            subject: "0000:01:00.0".into(),
            result: GateResult::Fail,
            evidence: "read".into(),
            remedy: "mend".into(),
        };
        let message = pb::Gate::from(&gate);
        assert_eq!(Gate::try_from(&message).unwrap(), gate);
        messages.push(message);
    }
    let foreign = pb::Gate { id: "FromTheFuture".into(), ..Default::default() };
    let error = Gate::try_from(&foreign).unwrap_err();
    assert_eq!(error.to_string(), "the field gate.id makes no sense: \"FromTheFuture\"");
    messages.push(foreign);
    assert_eq!(known_gates(&messages).len(), GateId::ALL.len());
}

#[test]
fn errors_name_the_field() {
    assert_eq!(epoch(&pb::Subject::default()), Err(ConvertError::Missing("subject.epoch")));
    let leader = Epoch { cluster: "c".into(), counter: 3 };
    let with = |epoch: pb::Epoch| pb::Subject { epoch: Some(epoch), ..Default::default() };
    assert_eq!(epoch(&with((&leader).into())), Ok(leader));
    for (cluster, counter) in [("", 3), ("c", 0), ("c\n", 1)] {
        let odd = with(pb::Epoch { cluster: cluster.into(), counter });
        assert_eq!(epoch(&odd).unwrap_err().field(), "subject.epoch", "{cluster:?} {counter}");
    }
    let long = pb::Subject { attempt: "a".repeat(254), ..Default::default() };
    assert_eq!(subject(&long).unwrap_err().field(), "subject.attempt");
    let long = pb::Subject { attempt: "a".repeat(253), ..Default::default() };
    assert_eq!(subject(&long), Ok(()));
    for odd in ["../../etc", "worker\u{1b}[2J", ".hidden", "a b"] {
        let odd = pb::Subject { node: odd.into(), ..Default::default() };
        assert!(matches!(subject(&odd), Err(ConvertError::Word { field: "subject.node", .. })));
    }
    let digest = format!("sha256:{}", "0a".repeat(32));
    let target = Target { release: "7.3.5".into(), bundle: "b".into(), digest };
    let message = pb::Target::from(&target);
    assert_eq!(Target::try_from(&message).unwrap(), target);
    let bad = pb::Target { digest: "sha256:12".into(), ..message.clone() };
    assert!(Target::try_from(&bad).unwrap_err().to_string().contains("target.digest"));
    let bad = pb::Target { bundle: "../7.3".into(), ..message.clone() };
    assert_eq!(Target::try_from(&bad).unwrap_err().field(), "target.bundle");
    let bad = pb::Target { release: String::new(), ..message };
    assert_eq!(Target::try_from(&bad), Err(ConvertError::Missing("target.release")));
}

#[test]
fn a_demand_that_is_not_understood_is_an_error_and_not_none() {
    let rule = Rule {
        name: "gpus".into(),
        vendor: "10de".into(),
        device: String::new(),
        class: "0302".into(),
        on_update: OnUpdate::Preserve,
        minimum: Continuity::Paused,
        on_shortfall: OnShortfall::Stop,
    };
    let message = pb::DeviceRule::from(&rule);
    assert_eq!(Rule::try_from(&message).unwrap(), rule);
    let newer = pb::DeviceRule { minimum: 99, ..message.clone() };
    assert!(Rule::try_from(&newer).unwrap_err().to_string().contains("rule.minimum"));
    let unset = pb::DeviceRule { on_update: 0, ..message };
    assert!(Rule::try_from(&unset).unwrap_err().to_string().contains("rule.on_update"));
    let newer = pb::Demands { platform_minimum: 99, ..Default::default() };
    assert!(Demands::try_from(&newer).unwrap_err().to_string().contains("demands.platform_minimum"));
}

#[test]
fn deadlines_that_are_not_set_are_the_defaults() {
    let default = deadlines(None);
    assert_eq!(deadlines(Some(&pb::Deadlines::default())), default);
    let asked = deadlines(Some(&pb::Deadlines { quiesce_ms: 1500, ..Default::default() }));
    assert_eq!(asked.quiesce, Duration::from_millis(1500));
    assert_eq!(asked.reclaim, default.reclaim);
}
