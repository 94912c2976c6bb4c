//! Whether an answer can be believed at all: sizes, names, identity. What fails here is never used.

use liveupdate_proto::MINOR_VERSION;
use liveupdate_proto::common::v1::{AttemptReport, Gate};
use liveupdate_proto::node::v1::{InspectReply, OutcomeReply, PreflightReply, Receipt};

use super::Peer;

/// Longest release, boot id, digest, receipt or other short text, in bytes.
const SHORT: usize = 256;
/// Longest evidence, remedy or message.
const LONG: usize = 4096;
/// Most gates, devices or states in one answer.
const MANY: usize = 512;

/// What is wrong with an answer, in a sentence.
pub type Verdict = Result<(), String>;

fn short(what: &str, text: &str) -> Verdict {
    bounded(what, text, SHORT)
}

fn bounded(what: &str, text: &str, limit: usize) -> Verdict {
    if text.len() > limit {
        return Err(format!("{what} is {} bytes long, at most {limit} make sense", text.len()));
    }
    if text.chars().any(is_odd) {
        return Err(format!("{what} holds control characters"));
    }
    Ok(())
}

fn needed(what: &str, text: &str) -> Verdict {
    if text.is_empty() {
        return Err(format!("{what} is empty"));
    }
    short(what, text)
}

fn few(what: &str, count: usize) -> Verdict {
    if count > MANY { Err(format!("{count} {what}, at most {MANY} make sense")) } else { Ok(()) }
}

fn equal(what: &str, found: &str, expected: &str) -> Verdict {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what} is {:?}, expected {expected:?}", cut(found, 64)))
    }
}

/// The beginning of a text that may be long or odd.
pub fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// As [`cut`], of a text that nobody has checked, for a status: a control character takes six bytes there, and does
/// something to the terminal of whoever reads it.
pub fn plain(text: &str, limit: usize) -> String {
    cut(text, limit).chars().filter(|c| !is_odd(*c)).collect()
}

fn is_odd(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

fn gates(gates: &[Gate]) -> Verdict {
    few("gates", gates.len())?;
    gates.iter().try_for_each(|gate| {
        needed("a gate's id", &gate.id)?;
        short("a gate's subject", &gate.subject)?;
        bounded("a gate's evidence", &gate.evidence, LONG)?;
        bounded("a gate's remedy", &gate.remedy, LONG)
    })
}

/// The answer is that of the node that was asked.
fn of(peer: &Peer, node: &str, uid: &str) -> Verdict {
    equal("the node's name", node, &peer.node)?;
    equal("the node's UID", uid, &peer.uid)
}

/// An answer to `Inspect`.
pub fn inspect(peer: &Peer, reply: &InspectReply) -> Verdict {
    of(peer, &reply.node, &reply.node_uid)?;
    if reply.minor_version.abs_diff(MINOR_VERSION) > 1 {
        return Err(format!(
            "it speaks minor version {} and we {MINOR_VERSION}: update the older of the two",
            reply.minor_version
        ));
    }
    needed("the boot id", &reply.boot_id)?;
    needed("the release", &reply.release)?;
    short("the bundle's digest", &reply.bundle_digest)?;
    gates(&reply.gates)?;
    few("devices", reply.devices.len())?;
    for device in &reply.devices {
        needed("a device's address", &device.address)?;
        short("a device's vendor", &device.vendor)?;
        short("a device's model", &device.device)?;
        short("a device's holder", &device.holder)?;
    }
    few("holders", reply.holders.len())?;
    match &reply.attempt {
        Some(attempt) => report(attempt),
        None => Ok(()),
    }
}

/// An answer to `Preflight`.
pub fn preflight(peer: &Peer, reply: &PreflightReply) -> Verdict {
    of(peer, &reply.node, &reply.node_uid)?;
    needed("the boot id", &reply.boot_id)?;
    needed("the release", &reply.release)?;
    short("the bundle's digest", &reply.bundle_digest)?;
    short("the reason", &reply.reason)?;
    bounded("the message", &reply.message, LONG)?;
    gates(&reply.gates)?;
    few("devices", reply.devices.len())?;
    for verdict in &reply.devices {
        let device = verdict.device.as_ref().ok_or("a verdict names no device")?;
        needed("a device's address", &device.address)?;
        short("a device's holder", &device.holder)?;
        bounded("a device's message", &verdict.message, LONG)?;
    }
    Ok(())
}

/// What an agent says of an attempt, in any call.
pub fn report(report: &AttemptReport) -> Verdict {
    needed("the attempt", &report.attempt)?;
    short("the revision", &report.revision)?;
    short("the reason", &report.reason)?;
    bounded("the message", &report.message, LONG)?;
    few("devices", report.devices.len())?;
    few("states", report.states.len())?;
    for device in &report.devices {
        needed("a device's address", &device.address)?;
        short("a device's model", &device.model)?;
        short("a device's holder", &device.holder)?;
    }
    if let Some(proof) = &report.proof {
        short("the proof's boot id", &proof.boot_id)?;
        short("the proof's boot id before", &proof.boot_id_before)?;
        short("the proof's release", &proof.release)?;
    }
    Ok(())
}

/// What an agent says of the attempt that it was asked for.
pub fn report_of(attempt: &str, found: &AttemptReport) -> Verdict {
    equal("the attempt", &found.attempt, attempt)?;
    report(found)
}

/// An answer to `Outcome`.
pub fn outcome(attempt: &str, reply: &OutcomeReply) -> Verdict {
    needed("the boot id", &reply.boot_id)?;
    needed("the release", &reply.release)?;
    report_of(attempt, reply.attempt.as_ref().ok_or("it says nothing of the attempt")?)
}

/// A request for the permission to jump.
pub fn receipt(receipt: &Receipt) -> Verdict {
    needed("the receipt", &receipt.id)?;
    needed("the receipt's boot id", &receipt.boot_id)?;
    gates(&receipt.gates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer { node: "a".into(), uid: "u".into(), address: "127.0.0.1:1".into() }
    }

    fn reply() -> InspectReply {
        InspectReply {
            node: "a".into(),
            node_uid: "u".into(),
            boot_id: "b".into(),
            release: "7.3".into(),
            minor_version: MINOR_VERSION,
            ..InspectReply::default()
        }
    }

    #[test]
    fn a_good_answer_passes() {
        assert_eq!(inspect(&peer(), &reply()), Ok(()));
    }

    #[test]
    fn another_nodes_answer_is_refused() {
        let other = InspectReply { node: "b".into(), ..reply() };
        assert!(inspect(&peer(), &other).unwrap_err().contains("expected \"a\""));
        let reborn = InspectReply { node_uid: "v".into(), ..reply() };
        assert!(inspect(&peer(), &reborn).unwrap_err().contains("UID"));
    }

    #[test]
    fn a_verdict_is_believed_of_the_node_alone_that_was_asked() {
        let own = PreflightReply {
            node: "a".into(),
            node_uid: "u".into(),
            boot_id: "b".into(),
            release: "7.3".into(),
            ..PreflightReply::default()
        };
        assert_eq!(preflight(&peer(), &own), Ok(()));
        let other = PreflightReply { node: "b".into(), ..own.clone() };
        assert!(preflight(&peer(), &other).unwrap_err().contains("expected \"a\""));
        let reborn = PreflightReply { node_uid: "v".into(), ..own };
        assert!(preflight(&peer(), &reborn).unwrap_err().contains("UID"));
    }

    #[test]
    fn garbage_is_refused() {
        let long = InspectReply { release: "x".repeat(10_000), ..reply() };
        assert!(inspect(&peer(), &long).is_err());
        let odd = InspectReply { boot_id: "\u{1b}[2J".into(), ..reply() };
        assert!(inspect(&peer(), &odd).is_err());
        let flood = InspectReply { gates: vec![Gate { id: "x".into(), ..Gate::default() }; 1000], ..reply() };
        assert!(inspect(&peer(), &flood).is_err());
        let far = InspectReply { minor_version: MINOR_VERSION + 2, ..reply() };
        assert!(inspect(&peer(), &far).unwrap_err().contains("update the older"));
    }

    #[test]
    fn an_outcome_of_another_attempt_is_refused() {
        let report = AttemptReport { attempt: "r-u-1".into(), ..AttemptReport::default() };
        let reply = OutcomeReply { attempt: Some(report), boot_id: "b".into(), release: "r".into() };
        assert_eq!(outcome("r-u-1", &reply), Ok(()));
        assert!(outcome("r-u-2", &reply).is_err());
    }
}
