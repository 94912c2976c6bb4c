//! A proxy between one client and the API server that counts writes and can strike at any one of them.
//!
//! ```text
//!  client ──TLS, HTTP/1.1──► proxy ──TLS, HTTP/1.1, the account's certificate──► API server
//!                              │ write number N:   [Before] ── forward ── response ── [After] ── pass back
//!                              └ a hook may run at one of the brackets, and what is under way is dropped
//! ```
//! Each client connection has one connection of its own to the API server, and requests on it follow
//! each other, so what is dropped here is lost exactly as it is when a network or a client dies.
//! Reads and watches are passed on as they come. There is no HTTP/2 and no upgrade (`exec`, `attach`).

mod forward;
mod ledger;
mod request;
mod tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{Account, ControlPlane, Error, Result};
use ledger::Ledger;

pub use ledger::{Counts, Fate, Moment, Write};
pub use request::WriteClass;

/// A running proxy; it ends when this value goes. It lives on the async runtime that started it.
#[derive(Debug)]
pub struct WriteProxy {
    address: SocketAddr,
    kubeconfig: PathBuf,
    ledger: Arc<Ledger>,
    serving: JoinHandle<()>,
}

/// Where a trap lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which writes are counted for it.
    pub class: WriteClass,
    /// The number of the write within its class, from 1, counted since the start or the last
    /// [`WriteProxy::reset`].
    pub number: usize,
    /// On which side of the API server's work.
    pub moment: Moment,
}

impl Place {
    fn choice(self) -> ledger::Choice {
        Box::new(move |write, moment| Place { class: write.class, number: write.number, moment } == self)
    }
}

/// Tells when a trap has sprung.
#[derive(Debug)]
pub struct Sprung {
    what: String,
    receiver: oneshot::Receiver<Write>,
}

impl WriteProxy {
    /// Starts a proxy in front of a control plane for one account.
    ///
    /// # Errors
    /// When no port or certificate is to be had.
    pub async fn start(plane: &ControlPlane, account: &Account) -> Result<WriteProxy> {
        let fail =
            |source| Error::Spawn { name: "the write proxy".into(), program: "127.0.0.1".into(), source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let name = format!("{}+proxy-{}", account.file_name(), address.port());
        let kubeconfig = plane.write_kubeconfig(account, &format!("https://{address}"), &name)?;
        let ledger = Arc::new(Ledger::default());
        let forwarder = forward::Forwarder {
            acceptor: tls::acceptor(plane.authority())?,
            connector: tls::connector(plane.authority(), account)?,
            upstream: SocketAddr::from((Ipv4Addr::LOCALHOST, plane.port())),
            ledger: Arc::clone(&ledger),
        };
        let serving = tokio::spawn(forward::serve(listener, Arc::new(forwarder)));
        Ok(WriteProxy { address, kubeconfig, ledger, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A kubeconfig for the account that leads through the proxy.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// How many writes have come by, by class.
    pub fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    /// All writes that have come by, in the order of their arrival.
    pub fn writes(&self) -> Vec<Write> {
        self.ledger.writes()
    }

    /// Takes the trap away. False when there is none: it has sprung.
    pub fn disarm(&self) -> bool {
        self.ledger.disarm()
    }

    /// Forgets all writes and begins to count anew; a trap that has not sprung stays.
    pub fn reset(&self) {
        self.ledger.reset();
    }

    /// Lays a trap, in place of one that has not sprung. While the hook runs, no other write is let
    /// through; when it says [`Fate::Drop`], all connections of that time end without an answer, so that
    /// whatever a killed client had under way is lost with it. The hook may block for moments only (it keeps a
    /// thread of the runtime; a write that is to wait gets [`Fate::Hold`]), and must not ask the proxy anything.
    pub fn arm(&self, place: Place, hook: impl FnOnce(&Write) -> Fate + Send + 'static) -> Sprung {
        let Place { class, number, moment } = place;
        let what = format!("write number {number} of class {class:?} ({moment:?})");
        self.lay(what, place.choice(), Box::new(hook))
    }

    /// Lays a trap for the first write of this kind, from now on. See [`WriteProxy::arm`].
    pub fn arm_first(
        &self,
        what: &str,
        moment: Moment,
        choice: impl Fn(&Write) -> bool + Send + 'static,
        hook: impl FnOnce(&Write) -> Fate + Send + 'static,
    ) -> Sprung {
        let choice = move |write: &Write, now: Moment| now == moment && choice(write);
        self.lay(format!("{what} ({moment:?})"), Box::new(choice), Box::new(hook))
    }

    fn lay(&self, what: String, choice: ledger::Choice, hook: ledger::Hook) -> Sprung {
        let (sender, receiver) = oneshot::channel();
        self.ledger.arm(choice, hook, sender);
        Sprung { what, receiver }
    }
}

impl Drop for WriteProxy {
    fn drop(&mut self) {
        self.serving.abort();
        self.ledger.cut_all();
    }
}

impl Sprung {
    /// Waits for the trap to spring and says at which write it did.
    ///
    /// # Errors
    /// [`Error::Deadline`], also when the trap was replaced.
    pub async fn wait(self, deadline: Duration) -> Result<Write> {
        match tokio::time::timeout(deadline, self.receiver).await {
            Ok(Ok(write)) => Ok(write),
            Ok(Err(_)) | Err(_) => {
                Err(Error::Deadline { what: self.what, waited: deadline, detail: String::new() })
            }
        }
    }
}
