//! The state as the keeper's journal holds it. Receipt and permission are left out on purpose: whoever
//! starts again has to ask again.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::thaw::Then;
use super::{
    AfterCommit, Attempt, BeforeCommit, BlockReason, Deadlines, End, Ended, FailReason, Node, Nonce, Phase,
    Plan, Proof, ScopedDevice, Stage, StateName, Thawing,
};
use crate::codec::{DecodeError, Reader, Writer, malformed, parse};
use crate::outcome::{Config, Dma, Facts, Interrupts, Outcome, Reset, State};
use crate::outcomes::Outcomes;
use crate::vocabulary::millis;
use crate::{Continuity, Monotonic, Target};

const KIND: &str = "liveupdate-node";
const VERSION: u32 = 1;

impl Node {
    /// The state as text; ends with a newline.
    pub fn encode(&self) -> String {
        let mut w = Writer::new(KIND, VERSION);
        w.line("state", &[self.name().as_str()]);
        if let Some(attempt) = self.attempt() {
            write_attempt(&mut w, attempt);
        }
        match self {
            Self::Idle => {}
            Self::Before(before) => {
                write_entered(&mut w, before.entered);
                match before.phase {
                    Phase::Settling { settled: true } => w.line("settled", &[]),
                    Phase::Committing { intent: true, .. } => w.line("intent", &[]),
                    _ => {}
                }
            }
            Self::Thawing(thawing) => {
                write_entered(&mut w, thawing.entered);
                w.line("then", &[if thawing.then == Then::Aborted { "Aborted" } else { "KernelRefused" }]);
                w.line("reached", &[thawing.reached.as_str()]);
                w.line("message", &[&thawing.why]);
                write_waiting(&mut w, &thawing.waiting);
                if thawing.undone {
                    w.line("undone", &[]);
                }
                if thawing.look {
                    w.line("look", &[]);
                }
                write_outcomes(&mut w, &thawing.outcomes);
            }
            Self::After(after) => {
                write_entered(&mut w, after.entered);
                write_proof(&mut w, after.proof());
                match &after.stage {
                    Stage::Jumping | Stage::Returned { .. } => {}
                    Stage::Reclaiming { outcomes, waiting, .. } => {
                        write_waiting(&mut w, waiting);
                        write_outcomes(&mut w, outcomes);
                    }
                    Stage::Verifying { outcomes, .. } | Stage::Persisting { outcomes, .. } => {
                        write_outcomes(&mut w, outcomes);
                    }
                    Stage::Quarantined { outcomes, waiting, why, confirmed, .. } => {
                        write_waiting(&mut w, waiting);
                        write_outcomes(&mut w, outcomes);
                        w.line("message", &[why]);
                        if *confirmed {
                            w.line("confirmed", &[]);
                        }
                    }
                }
            }
            Self::Ended(ended) => {
                write_proof(&mut w, ended.proof.as_ref());
                w.line("reason", &[ended.end.reason()]);
                w.line("message", &[&ended.message]);
                if ended.confirmed {
                    w.line("confirmed", &[]);
                }
                for (address, settled) in ended.outcomes.devices() {
                    write_outcome(&mut w, address, settled.outcome, settled.facts.as_ref());
                }
            }
        }
        w.finish()
    }

    /// The state that the text holds.
    ///
    /// # Errors
    /// Another record, another version, a torn record, a field that is missing or makes no sense.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        let r = Reader::new(text, KIND, VERSION)?;
        let [state] = r.one("state")?;
        let state = state_name("state", state)?;
        if state == StateName::Idle {
            return Ok(Self::Idle);
        }
        let attempt = read_attempt(&r)?;
        let phase = match state {
            StateName::Preflight => Some(Phase::Preflight),
            StateName::Queued => Some(Phase::Queued),
            StateName::Staging => Some(Phase::Staging),
            StateName::Preserving => Some(Phase::Preserving),
            StateName::Settling => Some(Phase::Settling { settled: r.has("settled") }),
            StateName::Quiescing => Some(Phase::Quiescing { go: None }),
            StateName::Committing => Some(Phase::Committing { go: None, intent: r.has("intent") }),
            _ => None,
        };
        if let Some(phase) = phase {
            return Ok(Self::Before(BeforeCommit { attempt, phase, entered: read_entered(&r)? }));
        }
        if state == StateName::Thawing {
            return read_thawing(&r, attempt).map(Self::Thawing);
        }
        if let Some(end) = read_end(&r, state)? {
            let [message] = r.one("message")?.clone();
            let outcomes = read_outcomes(&r, &attempt)?.finish();
            let (proof, confirmed) = (read_proof(&r)?, r.has("confirmed"));
            return Ok(Self::Ended(Ended { attempt, end, message, outcomes, proof, confirmed }));
        }
        let proof = || read_proof(&r)?.ok_or(DecodeError::Missing("proof"));
        let stage = match state {
            StateName::Jumping => Stage::Jumping,
            StateName::Returned => Stage::Returned { proof: proof()? },
            StateName::Reclaiming => {
                let (outcomes, waiting) = (read_outcomes(&r, &attempt)?, read_waiting(&r)?);
                Stage::Reclaiming { proof: proof()?, outcomes, waiting }
            }
            StateName::Verifying => {
                Stage::Verifying { proof: proof()?, outcomes: read_outcomes(&r, &attempt)? }
            }
            StateName::Persisting => {
                Stage::Persisting { proof: proof()?, outcomes: read_outcomes(&r, &attempt)? }
            }
            _ => {
                let [why] = r.one("message")?.clone();
                let (outcomes, waiting) = (read_outcomes(&r, &attempt)?, read_waiting(&r)?);
                let confirmed = r.has("confirmed");
                Stage::Quarantined { proof: read_proof(&r)?, outcomes, waiting, why, confirmed }
            }
        };
        Ok(Self::After(AfterCommit { attempt, stage, entered: read_entered(&r)? }))
    }
}

fn state_name(field: &'static str, word: &str) -> Result<StateName, DecodeError> {
    StateName::ALL.into_iter().find(|name| name.as_str() == word).ok_or_else(|| malformed(field, word))
}

fn read_thawing(r: &Reader, attempt: Attempt) -> Result<Thawing, DecodeError> {
    let [then] = r.one("then")?;
    let then = match then.as_str() {
        "Aborted" => Then::Aborted,
        "KernelRefused" => Then::KernelRefused,
        other => return Err(malformed("then", other)),
    };
    let [reached] = r.one("reached")?;
    let reached = state_name("reached", reached)?;
    let [why] = r.one("message")?.clone();
    let outcomes = read_outcomes(r, &attempt)?;
    let (waiting, undone, entered) = (read_waiting(r)?, r.has("undone"), read_entered(r)?);
    Ok(Thawing { attempt, then, reached, why, waiting, undone, look: r.has("look"), outcomes, entered })
}

fn read_end(r: &Reader, state: StateName) -> Result<Option<End>, DecodeError> {
    Ok(Some(match state {
        StateName::Updated => End::Updated,
        StateName::Aborted => End::Aborted,
        StateName::Blocked => {
            let [word] = r.one("reason")?;
            let found = BlockReason::ALL.into_iter().find(|reason| reason.as_str() == word);
            End::Blocked(found.ok_or_else(|| malformed("reason", word))?)
        }
        StateName::Failed => {
            let [word] = r.one("reason")?;
            let found = FailReason::ALL.into_iter().find(|reason| reason.as_str() == word);
            End::Failed(found.ok_or_else(|| malformed("reason", word))?)
        }
        _ => return Ok(None),
    }))
}

fn write_attempt(w: &mut Writer, a: &Attempt) {
    w.line("attempt", &[&a.id, &a.update, &a.revision]);
    w.line("target", &[&a.target.release, &a.target.bundle, &a.target.digest]);
    w.line("nonce", &[&a.nonce.to_string()]);
    w.line("boot", &[&a.boot_id]);
    for d in &a.devices {
        let plan = match d.plan {
            Plan::Preserve(minimum) => minimum.as_str(),
            Plan::Stop => "Stop",
            Plan::Leave => "Leave",
        };
        w.line("device", &[&d.address, &d.model, &d.holder, plan]);
    }
    for holder in &a.holders {
        w.line("holder", &[holder]);
    }
    for risk in &a.acknowledged {
        w.line("acknowledged", &[risk]);
    }
    if a.persist {
        w.line("persist", &[]);
    }
    let mut d = a.deadlines;
    let all = deadline_fields(&mut d).map(|d| millis(*d).to_string());
    w.line("deadlines", &all.each_ref().map(String::as_str));
}

/// In the order in which they stand in a record.
fn deadline_fields(d: &mut Deadlines) -> [&mut Duration; 13] {
    [
        &mut d.preflight,
        &mut d.queued,
        &mut d.stage,
        &mut d.preserve,
        &mut d.settle,
        &mut d.quiesce,
        &mut d.commit,
        &mut d.jump,
        &mut d.thaw,
        &mut d.returned,
        &mut d.reclaim,
        &mut d.verify,
        &mut d.persist,
    ]
}

fn read_attempt(r: &Reader) -> Result<Attempt, DecodeError> {
    let [id, update, revision] = r.one("attempt")?.clone();
    let [release, bundle, digest] = r.one("target")?.clone();
    let [nonce] = r.one("nonce")?;
    let nonce = Nonce(u128::from_str_radix(nonce, 16).map_err(|_| malformed("nonce", nonce))?);
    let [boot_id] = r.one("boot")?.clone();
    let mut devices = Vec::new();
    for line in r.all("device") {
        let [address, model, holder, plan] = line.take("device")?.clone();
        let plan = match plan.as_str() {
            "Stop" => Plan::Stop,
            "Leave" => Plan::Leave,
            word => Plan::Preserve(
                Continuity::ALL
                    .into_iter()
                    .find(|c| c.as_str() == word)
                    .ok_or_else(|| malformed("device", word))?,
            ),
        };
        devices.push(ScopedDevice { address, model, holder, plan });
    }
    let words = |key: &'static str| -> Result<BTreeSet<String>, DecodeError> {
        r.all(key).map(|line| line.take::<1>(key).map(|[word]| word.clone())).collect()
    };
    let (holders, acknowledged) = (words("holder")?, words("acknowledged")?);
    let fields: &[String; 13] = r.one("deadlines")?;
    let mut deadlines = Deadlines::default();
    for (deadline, word) in deadline_fields(&mut deadlines).into_iter().zip(fields) {
        *deadline = Duration::from_millis(parse("deadlines", word)?);
    }
    let (target, persist) = (Target { release, bundle, digest }, r.has("persist"));
    Ok(Attempt {
        id,
        update,
        revision,
        target,
        nonce,
        boot_id,
        devices,
        holders,
        acknowledged,
        persist,
        deadlines,
    })
}

fn write_entered(w: &mut Writer, entered: Monotonic) {
    w.line("entered", &[&entered.as_millis().to_string()]);
}

fn read_entered(r: &Reader) -> Result<Monotonic, DecodeError> {
    let [ms] = r.one("entered")?;
    parse("entered", ms).map(Monotonic::from_millis)
}

fn write_waiting(w: &mut Writer, waiting: &BTreeSet<String>) {
    for holder in waiting {
        w.line("waiting", &[holder]);
    }
}

fn read_waiting(r: &Reader) -> Result<BTreeSet<String>, DecodeError> {
    r.all("waiting").map(|line| line.take::<1>("waiting").map(|[name]| name.clone())).collect()
}

fn write_proof(w: &mut Writer, proof: Option<&Proof>) {
    if let Some(proof) = proof {
        let nonce = if proof.nonce_returned() { "nonce" } else { "no-nonce" };
        w.line("proof", &[proof.boot_id(), proof.release(), nonce]);
    }
}

fn read_proof(r: &Reader) -> Result<Option<Proof>, DecodeError> {
    if !r.has("proof") {
        return Ok(None);
    }
    let [boot_id, release, nonce] = r.one("proof")?.clone();
    let nonce_returned = match nonce.as_str() {
        "nonce" => true,
        "no-nonce" => false,
        other => return Err(malformed("proof", other)),
    };
    Ok(Some(Proof::recorded(boot_id, release, nonce_returned)))
}

fn write_outcomes(w: &mut Writer, outcomes: &Outcomes) {
    for (address, settled) in outcomes.settled() {
        write_outcome(w, address, settled.outcome, settled.facts.as_ref());
    }
    for address in outcomes.missing() {
        w.line("awaited", &[address]);
    }
}

fn write_outcome(w: &mut Writer, address: &str, outcome: Outcome, facts: Option<&Facts>) {
    let Some(facts) = facts else {
        w.line("outcome", &[address, outcome.as_str()]);
        return;
    };
    let words = facts_words(facts);
    let mut line = alloc::vec![address];
    line.extend(words.each_ref().map(String::as_str));
    w.line("facts", &line);
}

/// The word is not written where there are facts: it follows from them again (invariant 3).
fn read_outcomes(r: &Reader, attempt: &Attempt) -> Result<Outcomes, DecodeError> {
    let mut outcomes = Outcomes::new();
    for line in r.all("outcome") {
        let [address, word] = line.take("outcome")?;
        match word.as_str() {
            "Stopped" => outcomes.not_preserved(address, true),
            "Untouched" => outcomes.not_preserved(address, false),
            other => return Err(malformed("outcome", other)),
        }
    }
    for line in r.all("awaited") {
        let [address] = line.take("awaited")?;
        outcomes.await_facts(address);
    }
    for line in r.all("facts") {
        let [address, reset, dma, interrupts, config, state, flags] = line.take("facts")?;
        let facts = read_facts([reset, dma, interrupts, config, state, flags])?;
        outcomes.await_facts(address);
        outcomes.take(address, facts).map_err(|_| malformed("facts", address))?;
    }
    let has = |device: &ScopedDevice| {
        outcomes.missing().any(|a| a == device.address)
            || outcomes.settled().any(|(a, _)| a == device.address)
    };
    if let Some(absent) = attempt.devices.iter().find(|device| !has(device)) {
        return Err(malformed("outcome", &format!("{} has none", absent.address)));
    }
    Ok(outcomes)
}

fn facts_words(facts: &Facts) -> [String; 6] {
    let reset = match facts.reset {
        Reset::None => "none",
        Reset::Detected => "detected",
        Reset::Unknown => "unknown",
    };
    let dma = match facts.dma {
        Dma::Continuous => "continuous".to_string(),
        Dma::Gap(gap) => format!("gap={}", millis(gap)),
        Dma::Stopped => "stopped".to_string(),
        Dma::Unknown => "unknown".to_string(),
    };
    let interrupts = match facts.interrupts {
        Interrupts::Relatched(gap) => format!("relatched={}", millis(gap)),
        Interrupts::Lost => "lost".to_string(),
        Interrupts::Unknown => "unknown".to_string(),
    };
    let config = match facts.config {
        Config::Same => "same",
        Config::Changed => "changed",
        Config::Unknown => "unknown",
    };
    let state = match facts.state {
        State::Probed => "probed",
        State::Attested => "attested",
        State::Unknown => "unknown",
    };
    let flags = match (facts.quiescent, facts.returned) {
        (true, true) => "quiescent,returned",
        (true, false) => "quiescent",
        (false, true) => "returned",
        (false, false) => "-",
    };
    [reset.to_string(), dma, interrupts, config.to_string(), state.to_string(), flags.to_string()]
}

fn read_facts(words: [&String; 6]) -> Result<Facts, DecodeError> {
    let [reset, dma, interrupts, config, state, flags] = words.map(String::as_str);
    let gap = |word: &str| parse("facts", word).map(Duration::from_millis);
    let no = |word: &str| Err(malformed("facts", word));
    Ok(Facts {
        reset: match reset {
            "none" => Reset::None,
            "detected" => Reset::Detected,
            "unknown" => Reset::Unknown,
            other => return no(other),
        },
        dma: match dma.split_once('=') {
            Some(("gap", ms)) => Dma::Gap(gap(ms)?),
            _ if dma == "continuous" => Dma::Continuous,
            _ if dma == "stopped" => Dma::Stopped,
            _ if dma == "unknown" => Dma::Unknown,
            _ => return no(dma),
        },
        interrupts: match interrupts.split_once('=') {
            Some(("relatched", ms)) => Interrupts::Relatched(gap(ms)?),
            _ if interrupts == "lost" => Interrupts::Lost,
            _ if interrupts == "unknown" => Interrupts::Unknown,
            _ => return no(interrupts),
        },
        config: match config {
            "same" => Config::Same,
            "changed" => Config::Changed,
            "unknown" => Config::Unknown,
            other => return no(other),
        },
        state: match state {
            "probed" => State::Probed,
            "attested" => State::Attested,
            "unknown" => State::Unknown,
            other => return no(other),
        },
        quiescent: flags.split(',').any(|flag| flag == "quiescent"),
        returned: flags.split(',').any(|flag| flag == "returned"),
    })
}
