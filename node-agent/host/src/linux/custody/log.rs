//! What custody says on the machine's log.

use std::sync::{Mutex, PoisonError};

/// A line for the machine's log; not again and again the same.
pub(super) fn report(what: &str) {
    static LAST: Mutex<String> = Mutex::new(String::new());
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if *last != what {
        eprintln!("liveupdate-keeper: custody: {what}");
        what.clone_into(&mut last);
    }
}
