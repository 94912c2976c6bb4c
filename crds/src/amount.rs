//! Numbers of nodes: a count or a percentage.

use liveupdate_planner::Amount;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A whole number of nodes, or a percentage such as `10%`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrPercent {
    /// A number of nodes.
    Int(i32),
    /// A percentage, written with its sign: `10%`.
    Percent(String),
}

/// Why an amount cannot be read. The schema's rules refuse the same values first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Less than nothing.
    #[error("{0} nodes cannot be: write 0 or more")]
    Negative(i32),
    /// Not `0%` to `100%`.
    #[error("{0:?} is no percentage: write a whole number from 0% to 100%, such as 10%")]
    Malformed(String),
}

impl TryFrom<&IntOrPercent> for Amount {
    type Error = AmountError;

    fn try_from(value: &IntOrPercent) -> Result<Self, AmountError> {
        match value {
            IntOrPercent::Int(count) => {
                u32::try_from(*count).map(Self::Count).map_err(|_| AmountError::Negative(*count))
            }
            IntOrPercent::Percent(text) => {
                percent(text).map(Self::Percent).ok_or_else(|| AmountError::Malformed(text.clone()))
            }
        }
    }
}

/// `0%` to `100%` without leading zeroes or sign, exactly as the schema has it.
fn percent(text: &str) -> Option<u32> {
    let digits = text.strip_suffix('%')?;
    let canonical =
        digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|percent| canonical && *percent <= 100)
}

impl JsonSchema for IntOrPercent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "IntOrPercent".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Amount, AmountError> {
        Amount::try_from(&serde_json::from_str::<IntOrPercent>(json).unwrap())
    }

    #[test]
    fn reads_counts_and_percentages() {
        assert_eq!(read("0"), Ok(Amount::Count(0)));
        assert_eq!(read("7"), Ok(Amount::Count(7)));
        assert_eq!(read("\"0%\""), Ok(Amount::Percent(0)));
        assert_eq!(read("\"10%\""), Ok(Amount::Percent(10)));
        assert_eq!(read("\"100%\""), Ok(Amount::Percent(100)));
    }

    #[test]
    fn refuses_everything_else() {
        assert_eq!(read("-1"), Err(AmountError::Negative(-1)));
        for text in ["", "%", "10", "101%", "-1%", "+1%", "1.5%", "01%", "1 %", "99999999999%"] {
            assert_eq!(read(&format!("{text:?}")), Err(AmountError::Malformed(text.to_owned())), "{text}");
        }
    }
}
