//! Conditions: typed names, and the one way to set them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::Reason;

/// A kind's set of condition types.
pub trait ConditionType: Copy + Ord + 'static {
    /// All of them, in the order in which they are listed.
    const ALL: &'static [Self];

    /// As it is written in `type`.
    fn as_str(self) -> &'static str;
}

macro_rules! condition_types {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $variant_doc:literal])+ $variant:ident,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[doc = $variant_doc])+ $variant,)+ }

        impl ConditionType for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)+ }
            }
        }
    };
}

condition_types! {
    /// Conditions of a `LiveUpdate`.
    LiveUpdateCondition {
        /// The spec can be carried out and the policy allows it.
        Accepted,
        /// The run goes on; the reason says what it does or waits for.
        Progressing,
        /// Something stops new nodes; the reason says what.
        Paused,
        /// The run ended as asked. `kubectl wait --for=condition=Succeeded`.
        Succeeded,
        /// Nodes failed.
        Degraded,
        /// An older update wants the same nodes.
        Conflicted,
    }
}

condition_types! {
    /// Conditions of a `NodeLiveUpdate`.
    NodeCondition {
        /// The node's agent answers and nothing is wrong.
        Ready,
        /// The node runs the target of its update and was verified.
        Updated,
        /// The node cannot be updated; the reason says why.
        Blocked,
    }
}

/// A condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

impl ConditionStatus {
    /// As it is written in `status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// What a condition shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saying<T> {
    /// Which condition.
    pub r#type: T,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in a word.
    pub reason: Reason,
    /// Why, in a sentence. May be empty.
    pub message: String,
}

/// Sets one condition. `lastTransitionTime` moves only when the status changes. The list is sorted in the
/// order of the kind's types (foreign ones last, by name), so that the same facts give the same bytes.
pub fn upsert<T: ConditionType>(
    conditions: &mut Vec<Condition>,
    saying: Saying<T>,
    observed_generation: i64,
    now: &Time,
) {
    let name = saying.r#type.as_str();
    let since = conditions
        .iter()
        .find(|old| old.type_ == name && old.status == saying.status.as_str())
        .map_or_else(|| now.clone(), |old| old.last_transition_time.clone());
    conditions.retain(|old| old.type_ != name);
    conditions.push(Condition {
        type_: name.to_owned(),
        status: saying.status.as_str().to_owned(),
        reason: saying.reason.as_str().to_owned(),
        message: saying.message,
        observed_generation: Some(observed_generation),
        last_transition_time: since,
    });
    let place = |condition: &Condition| {
        T::ALL.iter().position(|known| known.as_str() == condition.type_).unwrap_or(T::ALL.len())
    };
    conditions.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.type_.cmp(&b.type_)));
}

/// The condition of that type, if it was ever set.
pub fn find<T: ConditionType>(conditions: &[Condition], r#type: T) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == r#type.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap())
    }

    fn say(r#type: LiveUpdateCondition, holds: bool, message: &str) -> Saying<LiveUpdateCondition> {
        Saying { r#type, status: holds.into(), reason: Reason::Progressing, message: message.to_owned() }
    }

    #[test]
    fn the_time_moves_only_with_the_status() {
        let mut list = Vec::new();
        upsert(&mut list, say(LiveUpdateCondition::Progressing, true, "one"), 1, &at(10));
        upsert(&mut list, say(LiveUpdateCondition::Progressing, true, "two"), 2, &at(20));
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].last_transition_time, at(10));
        assert_eq!((list[0].message.as_str(), list[0].observed_generation), ("two", Some(2)));
        upsert(&mut list, say(LiveUpdateCondition::Progressing, false, "three"), 2, &at(30));
        assert_eq!(list[0].last_transition_time, at(30));
    }

    #[test]
    fn the_order_does_not_depend_on_who_came_first() {
        use LiveUpdateCondition::{Accepted, Paused, Succeeded};
        let order = |types: [LiveUpdateCondition; 3]| {
            let mut list = Vec::new();
            for r#type in types {
                upsert(&mut list, say(r#type, true, ""), 1, &at(1));
            }
            list.into_iter().map(|it| it.type_).collect::<Vec<_>>()
        };
        assert_eq!(order([Paused, Succeeded, Accepted]), ["Accepted", "Paused", "Succeeded"]);
        assert_eq!(order([Accepted, Paused, Succeeded]), order([Succeeded, Accepted, Paused]));
    }

    #[test]
    fn a_condition_of_somebody_else_is_kept() {
        let mut list = Vec::new();
        upsert(&mut list, say(LiveUpdateCondition::Paused, true, ""), 1, &at(1));
        list[0].type_ = "Foreign".to_owned();
        upsert(&mut list, say(LiveUpdateCondition::Degraded, false, ""), 1, &at(1));
        assert_eq!(list.iter().map(|it| it.type_.as_str()).collect::<Vec<_>>(), ["Degraded", "Foreign"]);
        assert!(find(&list, LiveUpdateCondition::Degraded).is_some());
        assert!(find(&list, LiveUpdateCondition::Paused).is_none());
    }
}
