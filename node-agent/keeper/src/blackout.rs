//! How long holders stood still, by the counter that spans a jump.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One holder's stamps, in nanoseconds of the counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamps {
    pub(crate) quiesced: Option<u64>,
    pub(crate) resumed: Option<u64>,
}

/// The node's blackout in milliseconds, rounded up: its worst holder's. None when a holder was stopped and
/// one of its stamps is missing, and when no holder was stopped.
pub(crate) fn node_blackout(stamps: &BTreeMap<String, Stamps>) -> Option<u64> {
    let each = stamps.values().map(|s| Some(s.resumed?.checked_sub(s.quiesced?)?.div_ceil(1_000_000)));
    each.collect::<Option<Vec<_>>>()?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::{Stamps, node_blackout};

    fn stamps(all: &[(Option<u64>, Option<u64>)]) -> std::collections::BTreeMap<String, Stamps> {
        let one = |(i, &(quiesced, resumed)): (usize, &(Option<u64>, Option<u64>))| {
            (format!("vm{i}"), Stamps { quiesced, resumed })
        };
        all.iter().enumerate().map(one).collect()
    }

    #[test]
    fn the_nodes_blackout_is_its_worst_holders_and_rounds_up() {
        let two = [(Some(1_000_000), Some(3_000_001)), (Some(5_000_000), Some(6_000_000))];
        assert_eq!(node_blackout(&stamps(&two)), Some(3));
    }

    #[test]
    fn what_was_not_measured_is_not_made_up() {
        assert_eq!(node_blackout(&stamps(&[])), None);
        assert_eq!(node_blackout(&stamps(&[(Some(1), Some(2)), (Some(1), None)])), None);
        assert_eq!(node_blackout(&stamps(&[(None, Some(2))])), None);
        assert_eq!(node_blackout(&stamps(&[(Some(3), Some(2))])), None, "a counter that ran backwards");
    }
}
