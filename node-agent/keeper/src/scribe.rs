//! Writes the journal, and waits for the disk no longer than somebody can wait for it: a disk may hang instead of failing.
//!
//! ```text
//! save ── bytes ──► thread: store ── result ──► save returns
//!   └── patience over: Err; the next save fails at once until the thread has answered, and then writes anew
//! ```
//! What came too late may be on disk by then. It is no newer than what the keeper knows, and is written over: whoever starts
//! from it undoes what was undone already.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use liveupdate_host::{Host, HostError};

use crate::journal::{Journal, KEY};

/// One writer; dropping it ends its thread, once the disk lets it.
pub(crate) struct Scribe {
    orders: Sender<Vec<u8>>,
    results: Receiver<Result<(), HostError>>,
    /// Since when the disk has not answered.
    hangs: Option<Instant>,
}

impl Scribe {
    /// # Errors
    /// There can be no thread.
    pub(crate) fn start(host: Arc<dyn Host>) -> io::Result<Self> {
        let (orders, to_write) = mpsc::channel::<Vec<u8>>();
        let (written, results) = mpsc::channel();
        thread::Builder::new().name("journal".into()).spawn(move || {
            for bytes in to_write {
                if written.send(host.store(KEY, &bytes)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders, results, hangs: None })
    }

    /// Writes a journal down. `patience`: how long the disk may take; none: as long as it does.
    ///
    /// # Errors
    /// It is not on disk, or not known to be.
    pub(crate) fn save(&mut self, journal: &Journal, patience: Option<Duration>) -> Result<(), HostError> {
        let bytes = journal.encode()?;
        if let Some(since) = self.hangs {
            match self.results.try_recv() {
                Err(TryRecvError::Empty) => return Err(late(since.elapsed())),
                Err(TryRecvError::Disconnected) => return Err(ended()),
                // Of what was to be written then.
                Ok(_) => self.hangs = None,
            }
        }
        self.orders.send(bytes).map_err(|_| ended())?;
        let Some(patience) = patience else { return self.results.recv().map_err(|_| ended())? };
        let began = Instant::now();
        match self.results.recv_timeout(patience) {
            Ok(written) => written,
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
            Err(RecvTimeoutError::Timeout) => {
                self.hangs = Some(began);
                Err(late(patience))
            }
        }
    }
}

fn late(after: Duration) -> HostError {
    failed(format!("the disk has not answered for {:.1} s", after.as_secs_f64()))
}

fn ended() -> HostError {
    failed("the thread that writes it has ended".into())
}

fn failed(why: String) -> HostError {
    HostError::Io { what: format!("write {KEY}"), why }
}
