//! Leadership: one process plans and writes, the others stand by.
//!
//! ```text
//!   Standby ──lease free, released or run out──► take by compare-and-swap, epoch + 1 ──► Leader
//!      ▲                                              │ somebody was faster                │
//!      └──────────────────────────────────────────────┘          renewal refused, or not renewed in time
//!                                                                                          ▼
//!                                                       Lost: the process ends and starts again as Standby
//! ```
//! A lease is no lock: a leader that slept may wake and write. The epoch stops it: the new leader stamps it
//! on every unfinished update first, and the API server and every agent refuse a lower one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use liveupdate_planner::Epoch;

use crate::clock::Clock;
use crate::cluster::{Cluster, ClusterError, LeaseObject};

/// How the lease is timed.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Nobody renewed it for so long: it may be taken.
    pub duration: Duration,
    /// How often it is renewed.
    pub renew: Duration,
    /// Not renewed for so long: we write no more. Shorter than `duration` by what two clocks may differ and
    /// a request may take.
    pub trust: Duration,
    /// How often a standby looks, and a leader tries again after a failed renewal.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew: Duration::from_secs(5),
            trust: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// Why leadership ended.
#[derive(Debug, thiserror::Error)]
pub enum LeaseLost {
    /// Another process holds the lease.
    #[error("the lease was taken by {holder:?} (epoch {epoch}); this process ends so that it stands by anew")]
    Taken {
        /// Who.
        holder: String,
        /// Its epoch.
        epoch: u64,
    },
    /// It could not be renewed in time.
    #[error("the lease could not be renewed for {seconds} s; another process may lead by now")]
    Expired {
        /// For how long.
        seconds: u64,
    },
}

/// A leadership. Shared by all that write.
#[derive(Debug)]
pub struct Term {
    /// Who leads, and the how manieth time.
    pub epoch: Epoch,
    lease: RefCell<LeaseObject>,
    /// By the monotonic clock: when the last renewal that succeeded was *sent*.
    renewed: Cell<Duration>,
    trust: Duration,
}

impl Term {
    /// How much longer the lease can be relied on; zero when it cannot.
    pub fn remaining(&self, clock: &impl Clock) -> Duration {
        (self.renewed.get() + self.trust).saturating_sub(clock.monotonic())
    }

    /// Whether we may write now.
    pub fn holds(&self, clock: &impl Clock) -> bool {
        !self.remaining(clock).is_zero()
    }
}

/// Takes, renews and releases the lease.
#[derive(Debug)]
pub struct Elector<C, K> {
    cluster: Rc<C>,
    clock: Rc<K>,
    identity: String,
    timing: Timing,
}

impl<C: Cluster, K: Clock> Elector<C, K> {
    /// `identity` names this process; no two that run at a time should share it (if they do, the one that
    /// came later wins and the other ends).
    pub fn new(cluster: Rc<C>, clock: Rc<K>, identity: &str, timing: Timing) -> Self {
        Self { cluster, clock, identity: identity.to_owned(), timing }
    }

    /// Stands by until this process leads.
    pub async fn acquire(&self) -> Rc<Term> {
        // The version that was seen, and since when: another clock's time is never compared with ours.
        let mut seen: Option<(String, Duration)> = None;
        loop {
            match self.try_acquire(&mut seen).await {
                Ok(Some(term)) => return term,
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "cannot stand by for the lease; trying again"),
            }
            self.clock.sleep(self.timing.retry).await;
        }
    }

    async fn try_acquire(
        &self,
        seen: &mut Option<(String, Duration)>,
    ) -> Result<Option<Rc<Term>>, ClusterError> {
        let found = self.cluster.read_lease().await?;
        let now = self.clock.monotonic();
        let lease = found.unwrap_or_default();
        let since = match seen {
            Some((version, since)) if *version == lease.version => *since,
            _ => {
                *seen = Some((lease.version.clone(), now));
                now
            }
        };
        let duration = Duration::from_secs(u64::try_from(lease.duration_seconds).unwrap_or(0));
        // Our own name: the process that had it is gone, or will be stopped by the epoch.
        let free = lease.holder.is_empty() || lease.holder == self.identity || now - since >= duration;
        if !free {
            return Ok(None);
        }
        let cluster = self.cluster.identity().await?;
        // A Lease that somebody deleted has forgotten the count; what is stamped has not.
        let known = if lease.epoch == 0 { self.highest_stamp(&cluster).await? } else { lease.epoch };
        let sent = self.clock.monotonic();
        let wanted = LeaseObject {
            holder: self.identity.clone(),
            duration_seconds: i32::try_from(self.timing.duration.as_secs()).unwrap_or(15),
            epoch: known + 1,
            acquired: Some(self.clock.now()),
            renewed: Some(self.clock.now()),
            transitions: lease.transitions.saturating_add(1),
            ..lease
        };
        match self.cluster.write_lease(&wanted).await {
            Ok(lease) => {
                let epoch = Epoch { cluster, counter: lease.epoch };
                tracing::info!(epoch = epoch.counter, identity = %self.identity, "this process leads");
                Ok(Some(Rc::new(Term {
                    epoch,
                    lease: RefCell::new(lease),
                    renewed: Cell::new(sent),
                    trust: self.timing.trust,
                })))
            }
            Err(ClusterError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn highest_stamp(&self, cluster: &str) -> Result<u64, ClusterError> {
        let updates = self.cluster.list_updates().await?;
        let of_updates = updates.into_iter().filter_map(|update| update.status.ok()?.epoch);
        // Nodes are written about without any update, too, and refuse what is lower as well.
        let of_nodes = self.cluster.list_node_epochs().await?;
        let ours = of_updates.chain(of_nodes).filter(|epoch| epoch.cluster == cluster);
        Ok(ours.filter_map(|epoch| u64::try_from(epoch.counter).ok()).max().unwrap_or(0))
    }

    /// Renews for as long as it can; returns when leadership is over.
    pub async fn keep(&self, term: &Term) -> LeaseLost {
        let mut pause = self.timing.renew;
        loop {
            // Never sleeps past the end of trust: then it is over, whatever a renewal would say.
            self.clock.sleep(pause.min(term.remaining(&*self.clock))).await;
            if !term.holds(&*self.clock) {
                let seconds = self.timing.trust.as_secs();
                return LeaseLost::Expired { seconds };
            }
            let limit = term.remaining(&*self.clock);
            match self.clock.limit(limit, self.renew(term)).await {
                Some(Ok(())) => pause = self.timing.renew,
                Some(Err(ClusterError::Conflict { .. } | ClusterError::NotFound { .. })) => {
                    match self.cluster.read_lease().await {
                        Ok(Some(lease)) if self.is_ours(&lease, term) => {
                            // Our own write whose answer was lost, or somebody's label: go on from there.
                            term.lease.replace(lease);
                            pause = Duration::ZERO;
                        }
                        Ok(lease) => {
                            let lease = lease.unwrap_or_default();
                            return LeaseLost::Taken { holder: lease.holder, epoch: lease.epoch };
                        }
                        Err(_) => pause = self.timing.retry,
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "cannot renew the lease; trying again");
                    pause = self.timing.retry;
                }
                None => {}
            }
        }
    }

    async fn renew(&self, term: &Term) -> Result<(), ClusterError> {
        let sent = self.clock.monotonic();
        let wanted = LeaseObject { renewed: Some(self.clock.now()), ..term.lease.borrow().clone() };
        let written = self.cluster.write_lease(&wanted).await?;
        term.lease.replace(written);
        term.renewed.set(sent);
        Ok(())
    }

    /// Gives the lease back, so that the next one need not wait. The epoch stays in it. One that is another's by now is
    /// left alone.
    ///
    /// # Errors
    /// When it cannot be written: the next one waits until it has run out.
    pub async fn release(&self, term: &Term) -> Result<(), ClusterError> {
        match self.give_back(term).await {
            // A renewal whose answer nobody waited for, or somebody's label.
            Err(ClusterError::Conflict { .. }) => match self.cluster.read_lease().await? {
                Some(lease) if self.is_ours(&lease, term) => {
                    term.lease.replace(lease);
                    self.give_back(term).await
                }
                _ => Ok(()),
            },
            result => result,
        }
    }

    async fn give_back(&self, term: &Term) -> Result<(), ClusterError> {
        let free = LeaseObject { holder: String::new(), ..term.lease.borrow().clone() };
        self.cluster.write_lease(&free).await.map(drop)
    }

    fn is_ours(&self, lease: &LeaseObject, term: &Term) -> bool {
        lease.holder == self.identity && lease.epoch == term.epoch.counter
    }
}
