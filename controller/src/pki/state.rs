//! Which CAs there are, and what is to become of them: pure.
//!
//! ```text
//!   made ──► in the trust bundle ──a leaf's lifetime──► signs ──two thirds of its own──► its successor is made
//!                                                                                              │ signs
//!                     gone ◄──every leaf of it has expired── trusted, signs no more ◄──────────┘
//! ```
//! The first one signs at once: there is nobody yet who would have to hear of it before. Times are seconds of
//! the wall clock, since they outlive processes and are read by other ones.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Seconds since 1970.
pub(super) type Seconds = u64;

/// A CA with which certificates can be signed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
    /// Since when.
    pub made: Seconds,
    /// It does not hold after that.
    pub ends: Seconds,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("made", &self.made)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

/// One that is trusted already, so that it can sign when its time has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successor {
    /// Which.
    pub authority: Authority,
    /// Since when it has been in the trust bundle for everybody to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<Seconds>,
}

/// One that signs no more. Its key is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// PEM.
    pub certificate: String,
    /// Nothing that it signed holds after that.
    pub until: Seconds,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorities {
    /// The one that signs.
    pub current: Authority,
    /// The one that will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Successor>,
    /// Those whose certificates are still in use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<Retired>,
}

/// For how long things hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// A CA.
    pub authority: Duration,
    /// What it signs.
    pub leaf: Duration,
}

impl Lifetimes {
    /// What is wrong with them.
    pub fn problem(&self) -> Option<String> {
        let enough = self.leaf.checked_mul(6).is_some_and(|least| self.authority >= least);
        (!enough).then(|| {
            format!(
                "a CA of {:?} is over before certificates of {:?} could move to its successor: give at least six \
                 times as much",
                self.authority, self.leaf
            )
        })
    }

    /// How often the CAs are looked at.
    pub fn poll(&self) -> Duration {
        (self.leaf / 12).clamp(Duration::from_millis(100), Duration::from_secs(60))
    }

    /// Nothing is signed by what was read longer ago than this: another process may have retired the CA since.
    pub fn trust(&self) -> Duration {
        self.leaf / 6
    }

    /// After it is in the trust bundle, a CA waits for so long before it signs. Whoever has a certificate that
    /// holds has got it, and the bundle of that time, within this.
    fn overlap(&self) -> Seconds {
        self.leaf.as_secs().max(1)
    }

    /// A retired CA stays trusted for so long: what it signed last, perhaps by a process that did not know yet
    /// that it was retired, has expired then.
    fn farewell(&self) -> Seconds {
        (self.leaf + self.leaf / 4).as_secs() + 1
    }

    fn is_old(&self, authority: &Authority, now: Seconds) -> bool {
        let age = now.saturating_sub(authority.made);
        age >= authority.ends.saturating_sub(authority.made) / 3 * 2
    }
}

impl Authorities {
    /// With one CA, that signs at once.
    pub fn first(authority: Authority) -> Self {
        Self { current: authority, next: None, retired: Vec::new() }
    }

    /// All that are to be trusted, the one that signs first.
    pub fn trusted(&self) -> impl Iterator<Item = &str> {
        let current = std::iter::once(self.current.certificate.as_str());
        let next = self.next.iter().map(|next| next.authority.certificate.as_str());
        current.chain(next).chain(self.retired.iter().map(|old| old.certificate.as_str()))
    }

    /// The same as one file.
    pub fn bundle(&self) -> String {
        self.trusted().collect()
    }
}

/// The next step, when one is due. `known` is what is kept, none before the first start; all of `known` is in
/// the trust bundle for everybody to read. `make` makes a new CA.
pub(super) fn step<E>(
    known: Option<&Authorities>,
    now: Seconds,
    lifetimes: Lifetimes,
    make: impl FnOnce() -> Result<Authority, E>,
) -> Result<Option<Authorities>, E> {
    let Some(known) = known else { return Ok(Some(Authorities::first(make()?))) };
    let mut new = known.clone();
    if now >= known.current.ends {
        // Nothing of it holds any more, nor does anything that could be waited for.
        return Ok(Some(match new.next.take() {
            Some(next) if now < next.authority.ends => Authorities::first(next.authority),
            _ => Authorities::first(make()?),
        }));
    }
    new.retired.retain(|old| now < old.until);
    match &mut new.next {
        None if lifetimes.is_old(&known.current, now) => {
            new.next = Some(Successor { authority: make()?, published: None });
        }
        None => {}
        Some(next) => match next.published {
            None => next.published = Some(now),
            Some(published) if now >= published.saturating_add(lifetimes.overlap()) => {
                let until = known.current.ends.min(now + lifetimes.farewell());
                new.retired.push(Retired { certificate: known.current.certificate.clone(), until });
                new.current = next.authority.clone();
                new.next = None;
            }
            Some(_) => {}
        },
    }
    Ok((new != *known).then_some(new))
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
