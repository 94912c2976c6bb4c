//! Three voices, the strictest wins; unknown is not a pass.
#![allow(missing_docs, clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test")]
mod common;

use common::{gate, passing};
use liveupdate_node_core::gate::{self, Gate, GateId, Needed, Scope};
use liveupdate_node_core::node::{BlockReason, Plan};
use liveupdate_node_core::verdict::{
    Demands, Device, Fate, Holder, OnShortfall, OnUpdate, Rule, Voice, judge,
};
use liveupdate_node_core::{Continuity, GateResult};

const ADDRESS: &str = "0000:01:00.0";
const NONE: [&str; 0] = [];

fn device(holder: &str) -> Device {
    Device {
        address: ADDRESS.into(),
        vendor: "10de".into(),
        device: "2330".into(),
        class: "0302".into(),
        holder: holder.into(),
    }
}

fn rule(on_update: OnUpdate, minimum: Continuity, on_shortfall: OnShortfall) -> Rule {
    Rule {
        name: "gpus".into(),
        vendor: "10DE".into(),
        device: String::new(),
        class: "0302".into(),
        on_update,
        minimum,
        on_shortfall,
    }
}

fn demands(rule: Rule, platform_minimum: Option<Continuity>) -> Demands {
    Demands {
        rules: vec![rule],
        acknowledged: ["VfioPciLiveUpdate".into()].into(),
        platform_minimum,
        signers: Vec::new(),
    }
}

/// Gates that permit exactly this.
fn permitting(ceiling: Option<Continuity>) -> Vec<Gate> {
    let mut gates = passing(&[ADDRESS], &["vm"]);
    for gate in &mut gates {
        if gate.id.scope() != Scope::Device {
            continue;
        }
        if let Needed::From(least) = gate.id.needed()
            && ceiling.is_none_or(|ceiling| least > ceiling)
        {
            gate.result = GateResult::Unknown;
        }
    }
    gates
}

fn levels() -> Vec<Option<Continuity>> {
    [None].into_iter().chain(Continuity::ALL.map(Some)).collect()
}

#[test]
fn the_ceiling_is_what_all_gates_permit() {
    for ceiling in levels() {
        assert_eq!(gate::ceiling(&permitting(ceiling), ADDRESS, "vm", &["NoKdump"]), ceiling);
    }
    // Unknown and unread are no pass, for every gate that preserving needs.
    for (i, read) in permitting(Some(Continuity::Uninterrupted)).iter().enumerate() {
        let mut gates = permitting(Some(Continuity::Uninterrupted));
        gates.remove(i);
        let found = gate::ceiling(&gates, ADDRESS, "vm", &NONE);
        match read.id.needed() {
            Needed::Nothing => assert_eq!(found, Some(Continuity::Uninterrupted)),
            Needed::Jump => assert_eq!(found, None, "{}", read.id),
            Needed::From(least) => assert!(found.is_none_or(|found| found < least), "{}", read.id),
        }
    }
}

#[test]
fn better_continuity_never_needs_fewer_gates() {
    let mut last = gate::required(None).count();
    for continuity in Continuity::ALL {
        let count = gate::required(Some(continuity)).count();
        assert!(count > last, "{continuity:?}");
        assert!(gate::required(None).all(|id| id.required(Some(continuity))));
        last = count;
    }
    assert!(!gate::required(None).any(|id| id.as_str().contains("LiveUpdate")), "adoption needs no LUO gate");
    for &id in GateId::ALL {
        assert_eq!(GateId::from_name(id.as_str()), Some(id));
        assert!(!id.question().is_empty());
    }
    assert_eq!(GateId::ALL.len(), 28, "as many as the design names");
}

#[test]
fn every_combination_of_voices_and_the_strictest_wins() {
    let mut combinations = 0;
    for ceiling in levels() {
        for platform in levels() {
            for team in Continuity::ALL {
                for workload in levels() {
                    for refuses in [false, true] {
                        for on_update in [OnUpdate::Preserve, OnUpdate::Stop] {
                            for on_shortfall in [OnShortfall::Block, OnShortfall::Stop] {
                                let case =
                                    (ceiling, platform, team, workload, refuses, on_update, on_shortfall);
                                expect(case);
                                combinations += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    assert_eq!(combinations, 4 * 4 * 3 * 4 * 2 * 2 * 2);
}

type Case =
    (Option<Continuity>, Option<Continuity>, Continuity, Option<Continuity>, bool, OnUpdate, OnShortfall);

fn expect(case: Case) {
    let (ceiling, platform, team, workload, refuses, on_update, on_shortfall) = case;
    let holder = Holder { name: "vm".into(), aware: true, minimum: workload, refuses };
    let demands = demands(rule(on_update, team, on_shortfall), platform);
    let verdict = judge(&[device("vm")], &[holder], &permitting(ceiling), &demands);
    let one = &verdict.devices[0];
    let strictest = [platform, Some(team), workload].into_iter().flatten().max().unwrap();
    let blocks = matches!(one.fate, Fate::Blocks(_));
    assert_eq!(verdict.blocked.is_some(), blocks, "{case:?}");
    assert_eq!(one.ceiling, ceiling, "{case:?}");
    if refuses {
        assert!(blocks && one.decided_by == Voice::Workload, "{case:?}");
        return;
    }
    match one.fate {
        Fate::Preserved => {
            assert!(on_update == OnUpdate::Preserve && ceiling >= Some(strictest), "{case:?}");
            assert_eq!(one.minimum, Some(strictest), "{case:?}");
            let asked = match one.decided_by {
                Voice::Platform => platform,
                Voice::Team => Some(team),
                Voice::Workload => workload,
                Voice::Node => None,
            };
            assert_eq!(asked, Some(strictest), "the named voice asked for it: {case:?}");
            assert_eq!(verdict.scope()[0].plan, Plan::Preserve(strictest));
        }
        Fate::Stopped => {
            assert_eq!(workload, None, "an owner that asks for continuity is not stopped: {case:?}");
            let short = on_shortfall == OnShortfall::Stop && ceiling < Some(strictest);
            assert!(on_update == OnUpdate::Stop || short, "{case:?}");
            assert_eq!(verdict.scope()[0].plan, Plan::Stop);
        }
        Fate::Blocks(reason) => {
            assert!(one.message.contains(ADDRESS), "{case:?}: {}", one.message);
            match on_update {
                OnUpdate::Stop => assert!(workload.is_some() && one.decided_by == Voice::Workload),
                OnUpdate::Preserve => {
                    assert!(ceiling < Some(strictest), "{case:?}");
                    let objected = on_shortfall == OnShortfall::Stop;
                    assert_eq!(objected, one.decided_by == Voice::Workload && objected, "{case:?}");
                    let gate = ceiling.is_none() && !objected;
                    assert_eq!(reason == BlockReason::GateNotPassed, gate, "{case:?}");
                }
            }
        }
        Fate::Untouched => panic!("it is held: {case:?}"),
    }
}

#[test]
fn a_held_device_that_matches_no_rule_blocks_and_a_free_one_does_not() {
    let gates = permitting(Some(Continuity::Uninterrupted));
    let mut other = rule(OnUpdate::Preserve, Continuity::Reinitialised, OnShortfall::Block);
    other.vendor = "8086".into();
    let demands = demands(other, None);
    let verdict = judge(&[device("vm")], &[], &gates, &demands);
    let (reason, message) = verdict.blocked.unwrap();
    assert_eq!(reason, BlockReason::DeviceNotCovered);
    assert_eq!(message, "0000:01:00.0 (10de:2330, held by vm) matches no rule of the update");
    let verdict = judge(&[device("")], &[], &gates, &demands);
    assert_eq!((verdict.blocked, verdict.devices[0].fate), (None, Fate::Untouched));
}

#[test]
fn the_first_rule_that_matches_counts() {
    let gates = permitting(Some(Continuity::Uninterrupted));
    let mut demands = demands(rule(OnUpdate::Stop, Continuity::Reinitialised, OnShortfall::Block), None);
    demands.rules.push(rule(OnUpdate::Preserve, Continuity::Reinitialised, OnShortfall::Block));
    let fate = |demands: &Demands| judge(&[device("vm")], &[], &gates, demands).devices[0].fate;
    assert_eq!(fate(&demands), Fate::Stopped);
    demands.rules.reverse();
    assert_eq!(fate(&demands), Fate::Preserved);
}

#[test]
fn preserving_without_its_acknowledgement_blocks_and_says_what_to_write() {
    let mut demands = demands(rule(OnUpdate::Preserve, Continuity::Reinitialised, OnShortfall::Stop), None);
    demands.acknowledged.clear();
    let gates = permitting(Some(Continuity::Uninterrupted));
    let (reason, message) = judge(&[device("vm")], &[], &gates, &demands).blocked.unwrap();
    assert_eq!(reason, BlockReason::GateNotPassed);
    assert!(message.contains("must acknowledge VfioPciLiveUpdate"), "{message}");
}

#[test]
fn adoption_needs_no_luo_gate_but_the_jumps_own() {
    let mut gates: Vec<_> = passing(&[], &[]);
    for gate in &mut gates {
        if gate.id.needed() != Needed::Jump {
            gate.result = GateResult::Fail;
        }
    }
    assert_eq!(judge(&[device("")], &[], &gates, &Demands::default()).blocked, None);
    let mut failing = gate(GateId::KexecAllowed, "", GateResult::Fail);
    failing.evidence = "kernel.kexec_load_disabled = 1".into();
    failing.remedy = "boot with it unset".into();
    gates.retain(|gate| gate.id != GateId::KexecAllowed);
    gates.push(failing);
    let (reason, message) = judge(&[], &[], &gates, &Demands::default()).blocked.unwrap();
    assert_eq!(reason, BlockReason::GateNotPassed);
    assert_eq!(message, "gate KexecAllowed fails: kernel.kexec_load_disabled = 1: boot with it unset");
}

#[test]
fn a_holder_without_devices_can_refuse_too() {
    let gates = passing(&[], &[]);
    let holder = Holder { name: "db".into(), refuses: true, ..Holder::default() };
    let (_, message) = judge(&[], &[holder], &gates, &Demands::default()).blocked.unwrap();
    assert_eq!(message, "the owner of db refuses any update");
}

/// What the receipt would ask for is asked for before anything begins.
#[test]
fn invariant_2_a_node_that_holds_memory_alone_needs_what_preserving_needs() {
    let vm = Holder { name: "vm".into(), aware: true, minimum: None, refuses: false };
    let demands = Demands::default();
    let all = passing(&[], &["vm"]);
    assert_eq!(judge(&[], std::slice::from_ref(&vm), &all, &demands).blocked, None);
    let needed = gate::required(Some(Continuity::Reinitialised)).filter(|id| id.scope() != Scope::Device);
    for id in needed {
        let mut gates = all.clone();
        for gate in gates.iter_mut().filter(|gate| gate.id == id) {
            gate.result = GateResult::Unknown;
        }
        let blocked = judge(&[], std::slice::from_ref(&vm), &gates, &demands).blocked;
        let (reason, message) = blocked.unwrap_or_else(|| panic!("{id} does not matter"));
        assert_eq!(reason, BlockReason::GateNotPassed, "{id}");
        assert!(message.contains(id.as_str()), "{id}: {message}");
    }
}
