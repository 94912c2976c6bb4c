//! Writes the journal, and waits for the disk no longer than somebody can wait for it: a disk may hang instead of failing.
//!
//! ```text
//! save ── bytes ──► thread: store ── result ──► save returns
//!   └── patience over: Err, and what is newer then waits for the thread, which writes it next
//!       the next save fails at once until the thread has answered, and then writes anew
//! ```
//! What came too late is on disk for no longer than that takes: nobody is to start from it.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
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
    /// What is to be written as soon as it does.
    newest: Newest,
}

type Newest = Arc<Mutex<Option<Vec<u8>>>>;

fn take(newest: &Newest) -> Option<Vec<u8>> {
    newest.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Scribe {
    /// # Errors
    /// There can be no thread.
    pub(crate) fn start(host: Arc<dyn Host>) -> io::Result<Self> {
        let (orders, to_write) = mpsc::channel::<Vec<u8>>();
        let (written, results) = mpsc::channel();
        let newest = Newest::default();
        let newer = Arc::clone(&newest);
        thread::Builder::new().name("journal".into()).spawn(move || {
            for bytes in to_write {
                let mut result = host.store(KEY, &bytes);
                while let Some(bytes) = take(&newer) {
                    result = host.store(KEY, &bytes);
                }
                if written.send(result).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders, results, hangs: None, newest })
    }

    /// Writes a journal down. `patience`: how long the disk may take; none: as long as it does.
    ///
    /// # Errors
    /// It is not on disk, or not known to be.
    pub(crate) fn save(&mut self, journal: &Journal, patience: Option<Duration>) -> Result<(), HostError> {
        let bytes = journal.encode()?;
        if let Some(since) = self.hangs {
            match self.results.try_recv() {
                Err(TryRecvError::Empty) => {
                    self.replace(bytes);
                    return Err(late(since.elapsed()));
                }
                Err(TryRecvError::Disconnected) => return Err(ended()),
                // Of what was to be written then.
                Ok(_) => self.hangs = None,
            }
        }
        // Of before, if it came when the thread had looked for the last time.
        take(&self.newest);
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

    /// If the disk hangs: has this written next, so that what it may write late is not what others find.
    pub(crate) fn supersede(&self, journal: &Journal) {
        if self.hangs.is_some()
            && let Ok(bytes) = journal.encode()
        {
            self.replace(bytes);
        }
    }

    fn replace(&self, bytes: Vec<u8>) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes);
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
