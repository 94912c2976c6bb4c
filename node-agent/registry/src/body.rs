//! Bytes as they come: no more than were announced, and at a pace.

use std::io::{self, Read};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use tokio::time::Instant;

use crate::dial::Connected;
use crate::{Error, Limits};

/// A blob on its way. Dropped, its connection ends.
#[derive(Debug)]
pub struct Blob {
    body: Incoming,
    _connection: Connected,
    what: String,
    size: u64,
    came: u64,
    pace: Pace,
}

impl Blob {
    pub(crate) fn new(
        body: Incoming,
        connection: Connected,
        what: String,
        size: u64,
        limits: &Limits,
    ) -> Self {
        let pace = Pace { least: limits.least, within: limits.idle, since: Instant::now(), came: 0 };
        Self { body, _connection: connection, what, size, came: 0, pace }
    }

    /// The next bytes; none: all of them have come, exactly as many as were announced.
    ///
    /// # Errors
    /// More or fewer come, they come too slowly, or the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let limit = self.pace.within;
            let what = || self.what.clone();
            let frame = tokio::time::timeout(limit, self.body.frame())
                .await
                .map_err(|_| Error::TimedOut { what: what(), limit })?;
            let Some(frame) = frame else {
                if self.came < self.size {
                    return Err(Error::Truncated { what: what(), found: self.came, wanted: self.size });
                }
                return Ok(None);
            };
            let frame = frame.map_err(|source| Error::Broken { what: what(), source })?;
            // Trailers say nothing here.
            let Ok(bytes) = frame.into_data() else { continue };
            self.came = self.came.saturating_add(bytes.len() as u64);
            if self.came > self.size {
                return Err(Error::TooLong { what: what(), limit: self.size });
            }
            if !self.pace.keeps(Instant::now(), bytes.len() as u64) && self.came < self.size {
                return Err(Error::Slow { what: what(), least: self.pace.least, within: limit });
            }
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`Blob::next`].
    pub async fn whole(mut self) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }
}

/// A blob for those who read and wait: `wait` does the waiting for the next bytes.
#[derive(Debug)]
pub struct Reader<W> {
    blob: Blob,
    wait: W,
    piece: Bytes,
}

impl<W: FnMut(&mut Blob) -> io::Result<Option<Bytes>>> Reader<W> {
    /// A reader of all that has not come yet.
    pub fn new(blob: Blob, wait: W) -> Self {
        Self { blob, wait, piece: Bytes::new() }
    }
}

impl<W: FnMut(&mut Blob) -> io::Result<Option<Bytes>>> Read for Reader<W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            match (self.wait)(&mut self.blob)? {
                Some(bytes) => self.piece = bytes,
                None => return Ok(0),
            }
        }
        let read = buffer.len().min(self.piece.len());
        buffer[..read].copy_from_slice(&self.piece.split_to(read));
        Ok(read)
    }
}

/// The least that has to come in each stretch of time: a server that sends a byte now and then holds up nobody for
/// days.
#[derive(Debug)]
struct Pace {
    least: u64,
    within: Duration,
    since: Instant,
    came: u64,
}

impl Pace {
    fn keeps(&mut self, now: Instant, came: u64) -> bool {
        self.came = self.came.saturating_add(came);
        if now.duration_since(self.since) < self.within {
            return true;
        }
        let enough = self.came >= self.least;
        (self.since, self.came) = (now, 0);
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_told_from_a_slow_line() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace { least: 100, within: Duration::from_secs(10), since: start, came: 0 };
        assert!(pace.keeps(at(1), 1) && pace.keeps(at(9), 1), "it has time");
        assert!(pace.keeps(at(10), 98), "just enough");
        assert!(pace.keeps(at(15), 1) && !pace.keeps(at(21), 1), "a trickle");
    }
}
