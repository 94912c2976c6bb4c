//! The node's reasons are the API's: each word that a node can say stands in the one list.
#![allow(missing_docs, reason = "a test")]

use liveupdate_node_core::node::{BlockReason, End, FailReason};
use liveupdate_planner::Reason;

#[test]
fn every_reason_of_the_node_is_one_of_the_apis() {
    let mut ends = vec![End::Updated, End::Aborted];
    ends.extend(BlockReason::ALL.map(End::Blocked));
    ends.extend(FailReason::ALL.map(End::Failed));
    for end in ends {
        let word = end.reason();
        assert!(Reason::ALL.iter().any(|reason| reason.as_str() == word), "{word} is not in the API");
    }
}
