use std::cell::Cell;
use std::convert::Infallible;

use super::*;

const LIFETIMES: Lifetimes =
    Lifetimes { authority: Duration::from_secs(3600), leaf: Duration::from_secs(120) };

/// CAs with names for certificates.
struct Maker(Cell<u32>);

impl Maker {
    fn make(&self, now: Seconds) -> Result<Authority, Infallible> {
        self.0.set(self.0.get() + 1);
        let name = format!("ca-{} ", self.0.get());
        let ends = now + LIFETIMES.authority.as_secs();
        Ok(Authority { certificate: name.clone(), key: name, made: now, ends })
    }

    fn step(&self, known: Option<&Authorities>, now: Seconds) -> Option<Authorities> {
        step(known, now, LIFETIMES, || self.make(now)).unwrap()
    }
}

#[test]
fn the_first_signs_at_once_and_nothing_happens_for_two_thirds_of_its_life() {
    let maker = Maker(Cell::new(0));
    let first = maker.step(None, 1_000).unwrap();
    assert_eq!(first.bundle(), "ca-1 ");
    for now in [1_000, 2_000, 3_399] {
        assert_eq!(maker.step(Some(&first), now), None, "{now}");
    }
    assert_eq!(maker.step(Some(&first), 3_400).unwrap().bundle(), "ca-1 ca-2 ");
}

#[test]
fn a_successor_is_trusted_before_it_signs_and_the_old_one_until_all_of_it_has_expired() {
    let maker = Maker(Cell::new(0));
    let mut known = maker.step(None, 0).unwrap();
    known = maker.step(Some(&known), 2_400).unwrap();
    assert_eq!((known.bundle().as_str(), known.current.key.as_str()), ("ca-1 ca-2 ", "ca-1 "));
    // It counts from when everybody could read it, not from when it was made.
    known = maker.step(Some(&known), 2_500).unwrap();
    assert_eq!(known.next.as_ref().unwrap().published, Some(2_500));
    assert_eq!(maker.step(Some(&known), 2_619), None);
    known = maker.step(Some(&known), 2_620).unwrap();
    assert_eq!((known.bundle().as_str(), known.current.key.as_str()), ("ca-2 ca-1 ", "ca-2 "));
    // What it signed last holds for 120 s more.
    assert_eq!(maker.step(Some(&known), 2_620 + 149), None);
    known = maker.step(Some(&known), 2_620 + 151).unwrap();
    assert_eq!(known.bundle(), "ca-2 ");
    assert!(!serde_json::to_string(&known).unwrap().contains("ca-1"), "nor is its key kept");
}

#[test]
fn one_that_is_over_is_replaced_at_once() {
    let maker = Maker(Cell::new(0));
    let first = maker.step(None, 0).unwrap();
    assert_eq!(maker.step(Some(&first), 3_600).unwrap().bundle(), "ca-2 ");
    // By the successor, when there is one.
    let both = maker.step(Some(&first), 2_400).unwrap();
    let after = maker.step(Some(&both), 3_600).unwrap();
    assert_eq!((after.bundle().as_str(), maker.0.get()), ("ca-3 ", 3));
}

#[test]
fn a_ca_that_its_certificates_outlive_is_refused() {
    assert_eq!(LIFETIMES.problem(), None);
    let short = Lifetimes { authority: Duration::from_secs(500), ..LIFETIMES };
    assert!(short.problem().unwrap().contains("at least six times"));
}

/// Two processes, one of which looks at the Secret seldom, and nodes that renew as late as they may and read the
/// bundle late: at no time is there a certificate that somebody who should trust it does not.
#[test]
fn at_no_time_is_a_certificate_in_use_that_somebody_does_not_trust() {
    let maker = Maker(Cell::new(0));
    let leaf = LIFETIMES.leaf.as_secs();
    let mut kept = maker.step(None, 0).unwrap();
    // What a process knows that looked so long ago as it may before it signs no more.
    let lag = LIFETIMES.trust().as_secs();
    let mut history = vec![kept.clone()];
    // Issuer, and end, of certificates that somebody uses.
    let mut leaves: Vec<(String, Seconds)> = Vec::new();
    let mut rotations = 0;
    for now in 1..4 * LIFETIMES.authority.as_secs() {
        if let Some(new) = maker.step(Some(&kept), now) {
            rotations += u32::from(new.current != kept.current);
            kept = new;
        }
        history.push(kept.clone());
        let seen = |ago: u64| &history[usize::try_from(now.saturating_sub(ago)).unwrap()];
        for known in [&kept, seen(lag)] {
            let ends = known.current.ends.min(now + leaf);
            leaves.push((known.current.certificate.clone(), ends));
        }
        leaves.retain(|(_, ends)| *ends > now);
        // A bundle that is mounted is a minute or two old; here, half of a certificate's life.
        for bundle in [kept.bundle(), seen(leaf / 2).bundle()] {
            let missing = leaves.iter().find(|(issuer, _)| !bundle.contains(issuer.as_str()));
            assert_eq!(missing, None, "at {now} with {bundle}");
        }
    }
    assert!(rotations >= 4, "{rotations}");
}
