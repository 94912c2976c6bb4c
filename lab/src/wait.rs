//! Waiting for something that shows only by being asked about.

use std::fmt;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Often enough that a test loses no time, seldom enough that asking is no load.
const POLL: Duration = Duration::from_millis(50);
/// An answer that takes longer counts as none, so that one hanging call cannot outlast the deadline.
const ONE_ANSWER: Duration = Duration::from_secs(5);

/// What asking once gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// It happened.
    Yes(T),
    /// Not yet; this was seen instead, and is said when the deadline passes.
    NotYet(String),
}

impl<T> Answer<T> {
    /// Not yet, and this is why.
    pub fn not_yet(seen: impl fmt::Display) -> Answer<T> {
        Answer::NotYet(seen.to_string())
    }
}

/// Asks until it happened.
///
/// # Errors
/// [`Error::Deadline`] with what was seen last; any error of the question at once.
pub async fn until<T>(
    what: &str,
    deadline: Duration,
    mut ask: impl AsyncFnMut() -> Result<Answer<T>>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        let seen = match tokio::time::timeout(ONE_ANSWER, ask()).await {
            Ok(answer) => match answer? {
                Answer::Yes(value) => return Ok(value),
                Answer::NotYet(seen) => seen,
            },
            Err(_) => format!("no answer in {ONE_ANSWER:?}"),
        };
        if begun.elapsed() >= deadline {
            return Err(Error::Deadline {
                what: what.to_owned(),
                waited: deadline,
                detail: format!("; seen last: {seen}"),
            });
        }
        tokio::time::sleep(POLL).await;
    }
}
