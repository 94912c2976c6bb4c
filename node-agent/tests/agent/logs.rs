//! What the agent of a test writes down. Each test has a thread of its own, on which its agent runs.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;
use std::time::{Duration, Instant};

/// For a line that follows what the other side saw.
const PATIENCE: Duration = Duration::from_secs(20);

thread_local! {
    static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct OfThisThread;

impl Write for OfThisThread {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        WRITTEN.with(|written| written.borrow_mut().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is written on this thread from here on.
pub(crate) struct Log;

impl Log {
    pub(crate) fn keep() -> Self {
        static BEGIN: Once = Once::new();
        BEGIN.call_once(|| {
            let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_ansi(false);
            lines.with_writer(|| OfThisThread).init();
            // Another test may have been about to write something while there was nobody to read it.
            tracing::callsite::rebuild_interest_cache();
        });
        WRITTEN.with(|written| written.borrow_mut().clear());
        Self
    }

    fn refusals() -> Vec<String> {
        let text = WRITTEN.with(|written| String::from_utf8_lossy(&written.borrow()).into_owned());
        text.lines().filter(|line| line.contains(": refused ")).map(str::to_owned).collect()
    }

    /// Waits for a refusal to be written down, and expects that each is this one: what was refused, the word, and more of it.
    /// What is written from then on is of another step.
    pub(crate) async fn refused(&self, what: &str, reason: &str, more: &str) {
        let begun = Instant::now();
        let written = loop {
            match Self::refusals() {
                none if none.is_empty() => {
                    assert!(begun.elapsed() < PATIENCE, "nothing is written down of {what} and {reason}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                some => break some,
            }
        };
        let (what, reason) = (format!(": refused {what} "), format!(" reason=\"{reason}\""));
        for line in &written {
            assert!([what.as_str(), &reason, more].iter().all(|part| line.contains(part)), "{written:#?}");
        }
        WRITTEN.with(|written| written.borrow_mut().clear());
    }
}
