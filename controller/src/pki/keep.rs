//! Keeping the CAs in order, and signing with the one that signs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use liveupdate_proto::causes::chain;
use liveupdate_proto::tls::{Credentials, Identity, Pems, TlsError};
use rcgen::PublicKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::issue::{self, IssueError};
use super::state::{self, Authorities, Lifetimes, Seconds};
use super::store::{Kept, Store, StoreError};

/// Steps in one look, and processes that get in the way of each other while they start.
const TRIES: u32 = 16;
/// Between two tries while there is no CA yet.
const AGAIN: Duration = Duration::from_secs(1);

/// Why nothing can be signed.
#[derive(Debug, thiserror::Error)]
pub enum NotSigned {
    /// What is known of the CAs is old: another process may have changed them.
    #[error("the CAs were read {0:?} ago and may have changed since")]
    Stale(Duration),
    /// Making the certificate failed.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A CA of ours cannot be read.
    #[error("an entry of the CA's Secret is no certificate: delete that entry")]
    Unreadable,
    /// The own credentials do not fit together.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A certificate as it is handed out, all DER.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub leaf: Vec<u8>,
    /// All CAs that are to be trusted.
    pub authorities: Vec<Vec<u8>>,
}

/// The CAs as they were read last.
#[derive(Debug)]
struct Known {
    authorities: Authorities,
    read: Instant,
}

/// Signs, and keeps the CAs in order meanwhile ([`Signer::keep`]).
#[derive(Debug)]
pub struct Signer {
    store: Store,
    lifetimes: Lifetimes,
    known: Mutex<Known>,
}

/// Seconds since 1970, by the wall clock.
fn now() -> Seconds {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Signer {
    /// Reads the CAs, or makes the first one. Waits until that can be done; why it cannot is logged.
    pub async fn start(store: Store, lifetimes: Lifetimes) -> Self {
        let mut said = String::new();
        loop {
            match look(&store, lifetimes).await {
                Ok(authorities) => {
                    let known = Mutex::new(Known { authorities, read: Instant::now() });
                    return Self { store, lifetimes, known };
                }
                Err(error) => {
                    let why = chain(&*error);
                    if why != said {
                        tracing::warn!(error = why, "there is no CA yet; trying again");
                        said = why;
                    }
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// A certificate for somebody's key.
    ///
    /// # Errors
    /// [`NotSigned`].
    pub fn sign(&self, identity: &Identity, key: &PublicKey) -> Result<Issued, NotSigned> {
        let authorities = self.fresh()?;
        let leaf = issue::leaf(&authorities.current, identity, key, now(), self.lifetimes)?;
        let der = |pem: &str| {
            CertificateDer::from_pem_slice(pem.as_bytes())
                .map(|der| der.to_vec())
                .map_err(|_| NotSigned::Unreadable)
        };
        let trusted = authorities.trusted().map(der).collect::<Result<_, _>>()?;
        Ok(Issued { leaf: leaf.der().to_vec(), authorities: trusted })
    }

    /// Credentials of the controller itself, with a new key.
    ///
    /// # Errors
    /// [`NotSigned`].
    pub fn own(&self) -> Result<Pems, NotSigned> {
        let authorities = self.fresh()?;
        let (certificate, key) =
            issue::own(&authorities.current, &Identity::Controller, now(), self.lifetimes)?;
        Ok(Pems {
            authorities: authorities.bundle(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    fn fresh(&self) -> Result<Authorities, NotSigned> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let age = known.read.elapsed();
        if age > self.lifetimes.trust() {
            return Err(NotSigned::Stale(age));
        }
        Ok(known.authorities.clone())
    }

    /// Looks at the CAs again and again, takes the steps that are due, and renews the controller's own
    /// certificate before half of its life is over, or when the CAs have changed.
    pub async fn keep(self: Arc<Self>, credentials: Arc<Credentials>) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.lifetimes.poll()).await;
            let changed = match look(&self.store, self.lifetimes).await {
                Ok(authorities) => {
                    let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                    let changed = known.authorities != authorities;
                    *known = Known { authorities, read: Instant::now() };
                    changed
                }
                Err(error) => {
                    tracing::warn!(error = chain(&*error), "cannot look after the CA; trying again");
                    false
                }
            };
            if !changed && renewed.elapsed() < self.lifetimes.leaf / 2 {
                continue;
            }
            match self.own().and_then(|pems| Ok(credentials.replace(&pems)?)) {
                Ok(()) => {
                    renewed = Instant::now();
                    tracing::info!("the controller has a new certificate");
                }
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "the controller's certificate is not renewed; trying again"
                    );
                }
            }
        }
    }
}

/// Brings what is kept to where it should be now, whoever else does the same.
async fn look(
    store: &Store,
    lifetimes: Lifetimes,
) -> Result<Authorities, Box<dyn std::error::Error + Send + Sync>> {
    let mut tries = 0;
    loop {
        tries += 1;
        match once(store, lifetimes).await {
            Ok(Some(authorities)) => return Ok(authorities),
            Ok(None) if tries < TRIES => {}
            Err(Failed::Store(StoreError::Conflict { .. })) if tries < TRIES => {}
            Ok(None) => return Err("the CAs change all the time".into()),
            Err(Failed::Store(error)) => return Err(error.into()),
            Err(Failed::Issue(error)) => return Err(error.into()),
        }
    }
}

enum Failed {
    Store(StoreError),
    Issue(IssueError),
}

/// One step, if one is due; what is kept, if none is.
async fn once(store: &Store, lifetimes: Lifetimes) -> Result<Option<Authorities>, Failed> {
    let kept = store.read().await.map_err(Failed::Store)?;
    // First, so that a step is only taken from what everybody can read.
    store.publish(&kept).await.map_err(Failed::Store)?;
    let now = now();
    let next = state::step(kept.authorities.as_ref(), now, lifetimes, || issue::authority(now, lifetimes))
        .map_err(Failed::Issue)?;
    match (next, kept) {
        (Some(next), kept) => {
            store.write(&kept, &next).await.map_err(Failed::Store)?;
            told(kept.authorities.as_ref(), &next);
            Ok(None)
        }
        (None, Kept { authorities, .. }) => Ok(authorities),
    }
}

fn told(before: Option<&Authorities>, after: &Authorities) {
    let Some(before) = before else {
        return tracing::info!(ends = after.current.ends, "made a CA");
    };
    if before.current != after.current {
        tracing::info!(ends = after.current.ends, "another CA signs from now on");
    } else if before.next.is_none() && after.next.is_some() {
        tracing::info!("made the CA that comes next");
    } else if before.retired.len() > after.retired.len() {
        tracing::info!("a CA of before is trusted no more");
    }
}
