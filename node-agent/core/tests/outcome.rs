//! Facts, then one word (docs/concepts.md). Invariant 3.
#![allow(missing_docs, clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test")]
mod common;

use std::time::Duration;

use common::best;
use liveupdate_node_core::outcome::{Config, Dma, Facts, Interrupts, Outcome, Reset, State};
use liveupdate_node_core::outcomes::{NotTaken, Outcomes};

const GAP: Duration = Duration::from_millis(12);

/// The whole product of facts.
fn all() -> Vec<Facts> {
    let mut all = Vec::new();
    for reset in [Reset::None, Reset::Detected, Reset::Unknown] {
        for dma in [Dma::Continuous, Dma::Gap(GAP), Dma::Stopped, Dma::Unknown] {
            for interrupts in [Interrupts::Relatched(GAP), Interrupts::Lost, Interrupts::Unknown] {
                for config in [Config::Same, Config::Changed, Config::Unknown] {
                    for state in [State::Probed, State::Attested, State::Unknown] {
                        for flags in 0..4 {
                            let (quiescent, returned) = (flags & 1 == 1, flags & 2 == 2);
                            all.push(Facts { reset, dma, interrupts, config, state, quiescent, returned });
                        }
                    }
                }
            }
        }
    }
    assert_eq!(all.len(), 3 * 4 * 3 * 3 * 3 * 4);
    all
}

/// One fact replaced by "unknown" or by a worse one.
fn worse(facts: Facts) -> Vec<Facts> {
    let mut worse = vec![
        Facts { reset: Reset::Unknown, ..facts },
        Facts { reset: Reset::Detected, ..facts },
        Facts { dma: Dma::Unknown, ..facts },
        Facts { interrupts: Interrupts::Unknown, ..facts },
        Facts { interrupts: Interrupts::Lost, ..facts },
        Facts { config: Config::Unknown, ..facts },
        Facts { config: Config::Changed, ..facts },
        Facts { state: State::Unknown, ..facts },
        Facts { quiescent: false, ..facts },
        Facts { returned: false, ..facts },
    ];
    if facts.state == State::Probed {
        worse.push(Facts { state: State::Attested, ..facts });
    }
    // DMA that went on where it should have been still is no better than DMA that stood still: the two
    // compare only where going on was worth something.
    if facts.outcome() == Outcome::Uninterrupted {
        worse.push(Facts { dma: Dma::Gap(GAP), ..facts });
        worse.push(Facts { dma: Dma::Stopped, ..facts });
    }
    worse
}

#[test]
fn every_line_of_the_table() {
    let paused = Facts { dma: Dma::Gap(GAP), quiescent: true, ..best() };
    let lines = [
        (Facts { returned: false, ..best() }, Outcome::Lost),
        (Facts { reset: Reset::Detected, ..best() }, Outcome::Reinitialised),
        (Facts { reset: Reset::Unknown, ..best() }, Outcome::Reinitialised),
        (Facts { config: Config::Changed, ..best() }, Outcome::Reinitialised),
        (Facts { config: Config::Unknown, ..best() }, Outcome::Reinitialised),
        (best(), Outcome::Uninterrupted),
        (Facts { state: State::Attested, ..best() }, Outcome::Uninterrupted),
        (Facts { state: State::Unknown, ..best() }, Outcome::Reinitialised),
        (Facts { interrupts: Interrupts::Lost, ..best() }, Outcome::Reinitialised),
        (Facts { interrupts: Interrupts::Unknown, ..best() }, Outcome::Reinitialised),
        (paused, Outcome::Paused),
        (Facts { dma: Dma::Stopped, ..paused }, Outcome::Paused),
        (Facts { interrupts: Interrupts::Lost, state: State::Unknown, ..paused }, Outcome::Paused),
        (Facts { quiescent: false, ..paused }, Outcome::Reinitialised),
        (Facts { dma: Dma::Unknown, ..paused }, Outcome::Reinitialised),
        // The first line that fits: reset outweighs everything but not being back.
        (Facts { reset: Reset::Detected, ..paused }, Outcome::Reinitialised),
        (Facts { reset: Reset::Detected, returned: false, ..paused }, Outcome::Lost),
        (Facts::default(), Outcome::Lost),
    ];
    for (facts, word) in lines {
        assert_eq!(facts.outcome(), word, "{facts}");
    }
}

#[test]
fn invariant_3_no_word_is_better_than_its_evidence() {
    for facts in all() {
        let untouched = facts.reset == Reset::None && facts.config == Config::Same && facts.returned;
        match facts.outcome() {
            Outcome::Uninterrupted => {
                assert!(
                    untouched && facts.dma == Dma::Continuous && facts.state != State::Unknown,
                    "{facts}"
                );
                assert!(matches!(facts.interrupts, Interrupts::Relatched(_)), "{facts}");
            }
            Outcome::Paused => {
                assert!(untouched && facts.quiescent, "{facts}");
                assert!(matches!(facts.dma, Dma::Gap(_) | Dma::Stopped), "{facts}");
            }
            Outcome::Reinitialised => assert!(facts.returned, "{facts}"),
            Outcome::Lost => assert!(!facts.returned, "{facts}"),
            word => panic!("{word} does not follow from facts: {facts}"),
        }
    }
}

#[test]
fn invariant_3_worse_facts_never_give_a_better_word() {
    for facts in all() {
        for other in worse(facts) {
            assert!(other.outcome() <= facts.outcome(), "{facts} → {other}");
        }
    }
}

#[test]
fn facts_read_well() {
    let facts = best();
    assert_eq!(
        facts.to_string(),
        "reset=none dma=continuous interrupts=relatched(12ms) config=same state=probed"
    );
    assert_eq!(
        Facts { dma: Dma::Gap(GAP), quiescent: true, ..facts }.to_string(),
        "reset=none dma=gap(12ms) interrupts=relatched(12ms) config=same state=probed quiescent"
    );
    assert_eq!(
        Facts::default().to_string(),
        "reset=unknown dma=unknown interrupts=unknown config=unknown state=unknown not-returned"
    );
}

#[test]
fn invariant_3_each_device_gets_exactly_one_outcome() {
    let mut outcomes = Outcomes::new();
    outcomes.await_facts("a");
    outcomes.await_facts("b");
    outcomes.not_preserved("c", true);
    outcomes.not_preserved("d", false);
    outcomes.take("a", best()).unwrap();
    assert_eq!(outcomes.take("a", best()), Err(NotTaken::Repeated("a".into())));
    assert_eq!(outcomes.take("c", best()), Err(NotTaken::NotPreserved("c".into())));
    assert_eq!(outcomes.take("z", best()), Err(NotTaken::NotPreserved("z".into())));
    // "Not back" settles nothing: it may still come.
    outcomes.take("b", Facts::default()).unwrap();
    assert_eq!(outcomes.missing().collect::<Vec<_>>(), ["b"]);
    let mut finished = outcomes.finish();
    let words: Vec<_> = finished.devices().values().map(|settled| settled.outcome).collect();
    assert_eq!(words, [Outcome::Uninterrupted, Outcome::Lost, Outcome::Stopped, Outcome::Untouched]);
    // A late return corrects `Lost`, once, and nothing else.
    finished.correct("b", best()).unwrap();
    assert_eq!(finished.devices()["b"].outcome, Outcome::Uninterrupted);
    assert!(finished.correct("b", Facts::default()).is_err());
    assert!(finished.correct("d", best()).is_err());
}
