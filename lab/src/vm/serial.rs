//! A guest's console: every line with the moment at which this machine received it.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::{Error, Result};

/// Lines that an error carries.
const TAIL_LINES: usize = 40;

/// One line of the console.
#[derive(Clone, Debug)]
pub struct Line {
    /// When its end was received: for differences.
    pub at: Instant,
    /// The same moment by the wall clock: to compare with other logs.
    pub wall: SystemTime,
    /// Its text, without the line end.
    pub text: String,
}

/// The console from the guest's start on.
#[derive(Clone, Debug)]
pub struct Serial {
    guest: String,
    begun: Instant,
    lines: Arc<Mutex<Vec<Line>>>,
    changed: watch::Receiver<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many lines so far.
    Open(usize),
    /// QEMU is gone.
    Closed,
}

impl Serial {
    /// Reads on a thread of its own, so that stamps do not depend on what the tests are busy with.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn read(guest: &str, stream: UnixStream) -> Result<Serial> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (change, changed) = watch::channel(State::Open(0));
        let sink = Arc::clone(&lines);
        let name = format!("serial-{guest}");
        std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || pump(stream, &sink, &change))
            .map_err(|source| Error::Spawn { name, program: "a thread".into(), source })?;
        Ok(Serial { guest: guest.to_owned(), begun: Instant::now(), lines, changed })
    }

    /// How many lines there are: what comes later is found with [`Serial::wait_for_after`].
    pub fn mark(&self) -> usize {
        self.held().len()
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.held().clone()
    }

    /// The first line with this text in it, from the start on.
    ///
    /// # Errors
    /// As [`Serial::wait_for_after`].
    pub async fn wait_for(&self, text: &str, deadline: Duration) -> Result<Line> {
        self.wait_for_after(0, text, deadline).await
    }

    /// The first line with this text in it after a mark.
    ///
    /// # Errors
    /// [`Error::Deadline`], or [`Error::Guest`] when QEMU is gone; both with the end of the console.
    pub async fn wait_for_after(&self, mark: usize, text: &str, deadline: Duration) -> Result<Line> {
        let mut changed = self.changed.clone();
        let mut next = mark;
        let found = tokio::time::timeout(deadline, async {
            loop {
                let state = *changed.borrow_and_update();
                {
                    let lines = self.held();
                    let new = lines.get(next..).unwrap_or_default();
                    if let Some(line) = new.iter().find(|line| line.text.contains(text)) {
                        return Some(line.clone());
                    }
                    next = next.max(lines.len());
                }
                if state == State::Closed || changed.changed().await.is_err() {
                    return None;
                }
            }
        });
        match found.await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(self.fail(format!("it ended before its console said {text:?}"))),
            Err(_) => Err(Error::Deadline {
                what: format!("{text:?} on the console of guest {}", self.guest),
                waited: deadline,
                detail: format!("; its end:\n{}", self.tail()),
            }),
        }
    }

    /// The last lines, for errors, each with the seconds since the guest's start by this machine's clock.
    pub fn tail(&self) -> String {
        let lines = self.held();
        let last = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default();
        self.stamped(last).join("\n")
    }

    /// Everything so far, stamped as in [`Serial::tail`].
    pub fn transcript(&self) -> String {
        self.stamped(&self.held()).join("\n")
    }

    fn stamped(&self, lines: &[Line]) -> Vec<String> {
        let since = |line: &Line| line.at.saturating_duration_since(self.begun).as_secs_f64();
        lines.iter().map(|line| format!("{:9.3} {}", since(line), line.text)).collect()
    }

    /// An error of this guest with the end of its console.
    pub fn fail(&self, reason: impl Into<String>) -> Error {
        Error::Guest { guest: self.guest.clone(), reason: reason.into(), tail: self.tail() }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pump(mut stream: UnixStream, lines: &Mutex<Vec<Line>>, change: &watch::Sender<State>) {
    let mut buffer = [0; 4096];
    let mut begun: Vec<u8> = Vec::new();
    let push = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).trim_end_matches('\r').to_owned();
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(Line { at: Instant::now(), wall: SystemTime::now(), text });
        let count = lines.len();
        drop(lines);
        change.send_replace(State::Open(count));
    };
    loop {
        let filled = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(filled) => filled,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        for piece in buffer.get(..filled).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    begun.extend_from_slice(end);
                    push(&begun);
                    begun.clear();
                }
                None => begun.extend_from_slice(piece),
            }
        }
    }
    // What a guest said last, before it died in the middle of a line, is often what matters.
    if !begun.is_empty() {
        push(&begun);
    }
    change.send_replace(State::Closed);
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn lines_are_found_stamped_and_kept_to_the_last_half_one() {
        let (mut guest, host) = UnixStream::pair().unwrap();
        let serial = Serial::read("g", host).unwrap();
        let before = Instant::now();
        guest.write_all(b"one\r\ntw").unwrap();
        assert!(serial.wait_for("one", Duration::from_secs(10)).await.unwrap().at >= before);
        guest.write_all(b"o\none again\nhal").unwrap();
        assert_eq!(serial.wait_for("two", Duration::from_secs(10)).await.unwrap().text, "two");
        assert_eq!(serial.wait_for_after(1, "one", Duration::from_secs(10)).await.unwrap().text, "one again");
        let missing = serial.wait_for("three", Duration::from_millis(20)).await.unwrap_err().to_string();
        assert!(missing.contains("three") && missing.contains("one again"), "{missing}");
        drop(guest);
        let gone = serial.wait_for("three", Duration::from_secs(10)).await.unwrap_err();
        assert!(matches!(&gone, Error::Guest { tail, .. } if tail.ends_with("hal")), "{gone}");
    }
}
