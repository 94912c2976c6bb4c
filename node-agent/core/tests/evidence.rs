//! Driver's evidence and holder's word, then facts, then one word. Invariant 3.
#![allow(missing_docs, clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use liveupdate_node_core::evidence::{Checks, Evidence, FILES, LONGEST_EXPLANATION, Seen};
use liveupdate_node_core::outcome::{Config, Dma, Facts, Interrupts, Outcome, Reset, State};
use proptest::prelude::*;

const NVME: &str = "0108";
const NET: &str = "0200";
const DEVICE: &str = "0000:01:00.0";

/// What the driver's files hold after a jump over which an NVMe controller never stopped.
const BEST: [(&str, &str); 22] = [
    ("state", "attached"),
    ("keeps_bus_master", "1"),
    ("frozen_command", "0x0507"),
    ("arrived_command", "0x0507"),
    ("retrieved_command", "0x0507"),
    ("frozen_bridges", "0000:00:02.0=0x0507"),
    ("arrived_bridges", "0000:00:02.0=0x0507"),
    ("retrieved_bridges", "0000:00:02.0=0x0107"),
    ("frozen_counter", "0x3b9aca00"),
    ("arrived_counter", "0x77359400"),
    ("retrieved_counter", "0xb2d05e00"),
    ("attached_counter", "0xee6b2800"),
    ("frozen_link", "0x1041"),
    ("retrieved_link", "0x0041"),
    ("frozen_aer", "uncor=0x0 cor=0x1"),
    ("retrieved_aer", "uncor=0x0 cor=0x1"),
    ("canary", "same"),
    ("config", "same"),
    ("bus_master", "kept"),
    ("resets", "0"),
    ("frozen_probe", "cc=0x460001 csts=0x1 aqa=0x1f001f asq=0x10200000"),
    ("retrieved_probe", "cc=0x460001 csts=0x1 aqa=0x1f001f asq=0x10200000"),
];

#[derive(Clone, Debug)]
struct Case {
    evidence: Evidence,
    checks: Checks,
    class: &'static str,
    khz: Option<u64>,
    quiescent: bool,
}

impl Case {
    fn best() -> Self {
        let mut evidence = Evidence::default();
        for (file, text) in BEST {
            evidence.take(file, text).unwrap();
        }
        let mut checks = Checks::default();
        for name in ["dma", "interrupts", "state"] {
            checks.take(DEVICE, &format!("{name} {DEVICE}"), true, "gap=12");
        }
        Self { evidence, checks, class: NVME, khz: Some(1_000_000), quiescent: false }
    }

    /// Bus mastering was cleared at freeze, as with an IOMMU that translates.
    fn cleared() -> Self {
        let cleared = Self::best().with("bus_master", "cleared").with("keeps_bus_master", "0");
        cleared.with("arrived_command", "0x0403").with("retrieved_command", "0x0403")
    }

    fn with(mut self, file: &str, text: &str) -> Self {
        self.evidence.take(file, text).unwrap();
        self
    }

    fn check(mut self, name: &str, passed: bool, detail: &str) -> Self {
        match name {
            "dma" => self.checks.dma = None,
            "interrupts" => self.checks.interrupts = None,
            _ => self.checks.state = None,
        }
        self.checks.take(DEVICE, &format!("{name} {DEVICE}"), passed, detail);
        self
    }

    fn silent(mut self, name: &str) -> Self {
        match name {
            "dma" => self.checks.dma = None,
            "interrupts" => self.checks.interrupts = None,
            _ => self.checks.state = None,
        }
        self
    }

    fn class(mut self, class: &'static str) -> Self {
        self.class = class;
        self
    }

    fn quiescent(mut self) -> Self {
        self.quiescent = true;
        self
    }

    fn seen(&self) -> Seen<'_> {
        Seen {
            evidence: &self.evidence,
            checks: &self.checks,
            class: self.class,
            counter_khz: self.khz,
            attested_quiescent: self.quiescent,
            returned: true,
        }
    }

    fn facts(&self) -> Facts {
        self.seen().facts()
    }

    fn outcome(&self) -> Outcome {
        self.facts().outcome()
    }
}

#[test]
fn a_device_that_never_stopped_is_uninterrupted_and_there_is_nothing_to_explain() {
    let best = Case::best();
    assert_eq!(best.outcome(), Outcome::Uninterrupted);
    assert_eq!(
        best.facts().to_string(),
        "reset=none dma=continuous interrupts=relatched(12ms) config=same state=probed"
    );
    assert_eq!(best.seen().explain(), "");
    // Without a bridge above it, on the root bus.
    let root = ["frozen_bridges", "arrived_bridges", "retrieved_bridges"];
    let alone = root.into_iter().fold(Case::best(), |case, file| case.with(file, "none"));
    assert_eq!(alone.outcome(), Outcome::Uninterrupted);
}

#[test]
fn every_file_counts() {
    // Each of these alone is enough to lose the best word, and is said.
    for (file, text, said) in [
        ("canary", "changed", "canary changed"),
        ("canary", "unknown", "canary unknown"),
        ("resets", "1", "1 resets"),
        ("resets", "unknown", "resets unknown"),
        ("config", "changed", "config changed"),
        ("config", "unknown", "config unknown"),
        ("retrieved_link", "0x0011", "link 0x1041 → 0x0011"),
        ("frozen_link", "unknown", "link unknown"),
        ("frozen_link", "none", "link none"),
        ("bus_master", "cleared", "bus mastering cleared"),
        ("bus_master", "unknown", "bus_master unknown"),
        ("frozen_command", "unknown", "COMMAND unknown"),
        ("arrived_command", "0x0503", "bus mastering at first touch: 0x0503"),
        ("arrived_command", "unknown", "bus mastering at first touch: unknown"),
        ("retrieved_command", "0x0503", "COMMAND 0x0507 → 0x0507 → 0x0503"),
        ("retrieved_command", "unknown", "COMMAND"),
        ("frozen_bridges", "unknown", "frozen_bridges unknown"),
        ("arrived_bridges", "0000:00:02.0=0x0103", "arrived: 0000:00:02.0=0x0103"),
        ("retrieved_bridges", "0000:00:02.0=0x0103", "retrieved: 0000:00:02.0=0x0103"),
        ("retrieved_probe", "cc=0x0 csts=0x0 aqa=0x1f001f asq=0x10200000", "probe cc=0x460001"),
        ("retrieved_probe", "cc=0x460001 csts=0x3 aqa=0x1f001f asq=0x10200000", "csts=0x3"),
        ("retrieved_probe", "unknown", "probe unknown"),
    ] {
        let case = Case::best().with(file, text);
        assert!(case.outcome() < Outcome::Uninterrupted, "{file} {text}");
        let explanation = case.seen().explain();
        assert!(explanation.contains(said), "{file} {text}: no {said:?} in {explanation:?}");
    }
}

#[test]
fn a_reset_is_detected_however_it_shows() {
    for (file, text) in [
        ("canary", "changed"),
        ("resets", "2"),
        ("retrieved_probe", "cc=0x460001 csts=0x0 aqa=0x1f001f asq=0x10200000"),
        ("retrieved_probe", "cc=0x460001 csts=0x1 aqa=0x1f001f asq=0x0"),
    ] {
        let case = Case::best().with(file, text).quiescent();
        assert_eq!(case.facts().reset, Reset::Detected, "{file} {text}");
        assert_eq!(case.outcome(), Outcome::Reinitialised);
    }
    // The same registers of a class that nobody can ask say nothing of a reset.
    assert_eq!(Case::best().class(NET).with("frozen_probe", "unknown").facts().reset, Reset::None);
    // Bus mastering that nobody is known to have cleared and that is off all the same.
    assert_eq!(Case::best().with("arrived_command", "0x0").facts().reset, Reset::Unknown);
}

#[test]
fn what_was_cleared_is_paused_when_the_holder_attests_it_before_and_after() {
    let case = Case::cleared().quiescent();
    assert_eq!(case.facts().dma, Dma::Gap(Duration::from_millis(3000)));
    assert_eq!(case.outcome(), Outcome::Paused);
    assert!(case.seen().explain().contains("bus mastering cleared"));
    assert_eq!(Case::cleared().outcome(), Outcome::Reinitialised, "it never said that it was quiescent");
    assert_eq!(case.clone().check("dma", false, "").outcome(), Outcome::Reinitialised);
    assert_eq!(case.clone().silent("dma").outcome(), Outcome::Reinitialised);
    // Without a counter, or before it is attached, nobody can say for how long.
    assert_eq!(Case { khz: None, ..case.clone() }.facts().dma, Dma::Stopped);
    assert_eq!(case.clone().with("attached_counter", "unknown").facts().dma, Dma::Stopped);
    assert_eq!(case.clone().with("attached_counter", "1").facts().dma, Dma::Stopped, "it ran backwards");
    assert_eq!(case.with("attached_counter", "unknown").outcome(), Outcome::Paused);
    // A device that did no DMA at all when it was frozen.
    let idle = Case::best().with("frozen_command", "0x0403").with("arrived_command", "0x0403");
    assert_eq!(idle.quiescent().outcome(), Outcome::Paused);
}

#[test]
fn the_holders_word_can_only_lower() {
    let interrupts = |passed, detail| Case::best().check("interrupts", passed, detail).facts().interrupts;
    assert_eq!(interrupts(true, "2 vectors, gap=7"), Interrupts::Relatched(Duration::from_millis(7)));
    assert_eq!(interrupts(false, "gap=7"), Interrupts::Lost);
    assert_eq!(interrupts(true, "all well"), Interrupts::Unknown);
    assert_eq!(Case::best().check("dma", false, "2 commands were lost").facts().dma, Dma::Unknown);
    let stood = Case::best().with("canary", "unknown");
    assert_eq!(stood.facts().reset, Reset::Unknown, "no check makes up for the canary");
    // Registers tell how it was given back, and nothing of what its holder did to it since.
    let set_up_anew = Case::best().check("state", false, "").facts();
    assert_eq!((set_up_anew.state, set_up_anew.reset), (State::Unknown, Reset::Unknown));
    let net = Case::best().class(NET);
    assert_eq!(net.facts().state, State::Attested);
    assert_eq!(net.clone().check("state", false, "").facts().state, State::Unknown);
    let idle = "cc=0x0 csts=0x0 aqa=0x0 asq=0x0";
    let idle = Case::best().with("frozen_probe", idle).with("retrieved_probe", idle);
    assert_eq!(idle.facts().state, State::Attested, "a controller at rest proves nothing by its registers");
}

#[test]
fn a_conventional_device_has_no_link_and_that_is_known() {
    let none = Case::best().with("frozen_link", "none").with("retrieved_link", "none");
    assert_eq!(none.facts().config, Config::Same);
    let half = Case::best().with("frozen_link", "none");
    assert_eq!(half.facts().config, Config::Changed);
}

#[test]
fn errors_that_were_reported_meanwhile_are_told_and_decide_nothing() {
    let case = Case::cleared().quiescent().with("retrieved_aer", "uncor=0x4000 cor=0x1");
    assert_eq!(case.outcome(), Outcome::Paused);
    assert!(case.seen().explain().contains("new errors uncor=0x4000 cor=0x0"), "{}", case.seen().explain());
}

#[test]
fn a_device_that_never_left_its_kernel_keeps_what_it_had() {
    let here = |case: Case| case.seen().facts_of_undone();
    let never_frozen = BEST.iter().fold(Case::best(), |case, (file, _)| match *file {
        "state" => case.with("state", "preserved"),
        "keeps_bus_master" | "resets" => case,
        other => case.with(other, "unknown"),
    });
    let facts = here(never_frozen.clone());
    assert_eq!((facts.reset, facts.dma, facts.config), (Reset::None, Dma::Continuous, Config::Same));
    assert_eq!(facts.outcome(), Outcome::Uninterrupted);
    assert_eq!(here(never_frozen.clone().silent("dma")).dma, Dma::Unknown);
    assert_eq!(here(never_frozen.clone().with("resets", "1")).outcome(), Outcome::Reinitialised);
    assert_eq!(here(never_frozen.clone().with("resets", "unknown")).outcome(), Outcome::Reinitialised);
    assert_eq!(here(never_frozen.with("state", "unknown")).outcome(), Outcome::Reinitialised);
    // Frozen, and the kernel refused.
    assert_eq!(here(Case::best().with("state", "preserved")).outcome(), Outcome::Uninterrupted);
    assert_eq!(here(Case::cleared().with("state", "preserved")).outcome(), Outcome::Reinitialised);
    assert_eq!(here(Case::cleared().with("state", "preserved").quiescent()).outcome(), Outcome::Paused);
}

#[test]
fn what_makes_no_sense_is_unknown_and_said() {
    for (file, text) in [
        ("frozen_command", "0x1ffff"),
        ("frozen_command", "-1"),
        ("frozen_command", "0x"),
        ("frozen_bridges", "0000:00:02.0"),
        ("state", "happy"),
        ("canary", "yes"),
        ("resets", "0x1ffffffff"),
        ("frozen_probe", "cc=0x1 csts=0x1 aqa=0x1"),
        ("frozen_aer", "uncor=0x0"),
        ("bus_master", ""),
    ] {
        let mut case = Case::best();
        let error = case.evidence.take(file, text).unwrap_err();
        assert!(error.to_string().starts_with(file), "{error}");
        let unknown = Case::best().with(file, "unknown");
        assert_eq!(case.evidence, unknown.evidence, "{file}");
    }
    assert!(Case::best().evidence.take("colour", "blue").is_err());
    let named: Vec<&str> = BEST.iter().map(|(file, _)| *file).collect();
    assert_eq!(named, FILES);
}

#[test]
fn facts_are_read_as_they_are_written() {
    let gap = Duration::from_millis(12);
    for reset in [Reset::None, Reset::Detected, Reset::Unknown] {
        for dma in [Dma::Continuous, Dma::Gap(gap), Dma::Stopped, Dma::Unknown] {
            for interrupts in [Interrupts::Relatched(gap), Interrupts::Lost, Interrupts::Unknown] {
                for config in [Config::Same, Config::Changed, Config::Unknown] {
                    for state in [State::Probed, State::Attested, State::Unknown] {
                        for flags in 0..4 {
                            let (quiescent, returned) = (flags & 1 == 1, flags & 2 == 2);
                            let facts = Facts { reset, dma, interrupts, config, state, quiescent, returned };
                            assert_eq!(facts.to_string().parse(), Ok(facts));
                        }
                    }
                }
            }
        }
    }
    let whole = Facts::default().to_string();
    for text in ["", "reset=none", &whole[1..], &format!("{whole} more"), &whole.replace("dma", "dna")] {
        assert!(text.parse::<Facts>().is_err(), "{text:?}");
    }
}

/// What a file may hold, plausible or not.
fn texts(file: &str) -> Vec<&'static str> {
    match file {
        "state" => vec!["unknown", "idle", "preserved", "frozen", "incoming", "retrieved", "attached"],
        "keeps_bus_master" => vec!["unknown", "0", "1"],
        "canary" | "config" => vec!["unknown", "same", "changed"],
        "bus_master" => vec!["unknown", "kept", "cleared"],
        "resets" => vec!["unknown", "0", "3"],
        "frozen_link" | "retrieved_link" => vec!["unknown", "none", "0x1041", "0x1011"],
        "frozen_aer" | "retrieved_aer" => vec!["unknown", "uncor=0x0 cor=0x0", "uncor=0x4000 cor=0x0"],
        file if file.ends_with("_counter") => vec!["unknown", "0x10", "0xffffffffff"],
        file if file.ends_with("_command") => vec!["unknown", "0x0507", "0x0403", "0x0"],
        file if file.ends_with("_bridges") => vec![
            "unknown",
            "none",
            "0000:00:02.0=0x0507",
            "0000:00:02.0=0x0103",
            "0000:00:02.0=0x0507 0000:01:00.0=0x0507",
        ],
        _ => vec![
            "unknown",
            "cc=0x460001 csts=0x1 aqa=0x1f001f asq=0x1000",
            "cc=0x0 csts=0x0 aqa=0x1f001f asq=0x1000",
            "cc=0x460001 csts=0x3 aqa=0x1f001f asq=0x1000",
        ],
    }
}

/// Near the best, so that words are not all the same: each file keeps its best value most of the time.
fn cases() -> impl Strategy<Value = Case> {
    let files = BEST.map(|(file, best)| {
        let choice = prop_oneof![4 => Just(best), 1 => proptest::sample::select(texts(file))];
        choice.prop_map(move |text| (file, text))
    });
    let check = || {
        prop_oneof![1 => Just(None), 4 => Just(Some((true, "gap=1"))), 1 => Just(Some((false, "gap=1"))),
            1 => Just(Some((true, "")))]
    };
    let class = prop_oneof![Just(NVME), Just(NET)];
    let files: Vec<_> = files.into_iter().collect();
    let khz = prop_oneof![Just(None), Just(Some(0)), Just(Some(1000))];
    (files, (check(), check(), check()), class, khz, any::<bool>()).prop_map(
        |(files, (dma, interrupts, state), class, khz, quiescent)| {
            let mut case = Case::best().class(class);
            (case.khz, case.quiescent) = (khz, quiescent);
            for (file, text) in files {
                case = case.with(file, text);
            }
            for (name, said) in [("dma", dma), ("interrupts", interrupts), ("state", state)] {
                case = match said {
                    Some((passed, detail)) => case.check(name, passed, detail),
                    None => case.silent(name),
                };
            }
            case
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn unknown_never_helps(case in cases()) {
        let word = case.outcome();
        for file in FILES {
            let less = case.clone().with(file, "unknown");
            prop_assert!(less.outcome() <= word, "{file} unknown: {} → {}", word, less.outcome());
        }
        for name in ["dma", "interrupts", "state"] {
            let less = case.clone().silent(name);
            prop_assert!(less.outcome() <= word, "no word of {name}: {} → {}", word, less.outcome());
        }
        for less in [Case { khz: None, ..case.clone() }, Case { quiescent: false, ..case.clone() }] {
            prop_assert!(less.outcome() <= word);
        }
        prop_assert_eq!(Seen { returned: false, ..case.seen() }.facts().outcome(), Outcome::Lost);
    }

    #[test]
    fn explanations_are_short_and_there_is_one_where_the_word_is_not_the_best(case in cases()) {
        let explanation = case.seen().explain();
        prop_assert!(explanation.len() <= LONGEST_EXPLANATION);
        prop_assert_eq!(explanation.is_empty(), case.outcome() == Outcome::Uninterrupted, "{:?}", case);
    }

    #[test]
    fn anything_can_be_read(file in "[a-z_]{0,20}", text in "\\PC{0,80}") {
        let mut evidence = Evidence::default();
        let _ = evidence.take(&file, &text);
        for file in FILES {
            let _ = evidence.take(file, &text);
        }
        let case = Case { evidence, ..Case::best() };
        prop_assert!(case.outcome() <= Outcome::Reinitialised);
    }
}
