//! What those may cost who come with a token and without a certificate, for whatever they come: so often each, so often in
//! all, and so many questions to the API server at a time.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use liveupdate_proto::tls::counted;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::rate::{Empty, PerPeer, Rate};

/// Who is being answered at a time, each with four requests to the API server.
const AT_ONCE: usize = 8;
/// What one address may ask for. A fleet behind one address (NAT) is slower, and still gets there.
const EACH: Rate = Rate { burst: 100.0, per_second: 20.0 };
/// A fleet of 10,000 that is new has all its certificates within two minutes.
const ALL: Rate = Rate { burst: 500.0, per_second: 100.0 };

/// See the module.
#[derive(Debug)]
pub struct Strangers {
    at_once: Semaphore,
    rates: Mutex<PerPeer<IpAddr>>,
}

impl Default for Strangers {
    fn default() -> Self {
        let rates = PerPeer::new(EACH, ALL, Instant::now());
        Self { at_once: Semaphore::new(AT_ONCE), rates: Mutex::new(rates) }
    }
}

impl Strangers {
    /// One more request of a peer, before anything of it is looked at.
    ///
    /// # Errors
    /// The peer's share is used up, or that of all.
    pub fn take(&self, peer: IpAddr) -> Result<(), Empty> {
        self.take_at(peer, Instant::now())
    }

    fn take_at(&self, peer: IpAddr, now: Instant) -> Result<(), Empty> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).take(counted(peer), now)
    }

    /// Waits until the API server may be asked, for as long as what this returns is kept. None: the process ends.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.at_once.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn let_in(strangers: &Strangers, peers: impl Iterator<Item = String>) -> usize {
        let now = Instant::now();
        peers.filter(|peer| strangers.take_at(peer.parse().unwrap(), now).is_ok()).count()
    }

    /// As connections are counted: whoever has a network has as many addresses as he likes.
    #[test]
    fn all_addresses_of_a_network_are_one_stranger() {
        let strangers = Strangers::default();
        assert_eq!(let_in(&strangers, (0..300).map(|number| format!("2001:db8:0:7::{number:x}"))), 100);
        assert_eq!(let_in(&strangers, (0..5).map(|number| format!("2001:db8:0:8::{number:x}"))), 5);
        // At a listener for both, IPv4 looks like this.
        assert_eq!(let_in(&strangers, (0..60).map(|_| "::ffff:192.0.2.1".to_owned())), 60);
        assert_eq!(let_in(&strangers, (0..60).map(|_| "192.0.2.1".to_owned())), 40);
        assert_eq!(let_in(&strangers, (0..60).map(|_| "192.0.2.2".to_owned())), 60);
    }
}
