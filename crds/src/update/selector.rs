//! The schema of `nodeSelector`: Kubernetes' own label selector, with bounds and rules. Without them a
//! selector that can match nothing would be found out only by a run that never begins.

use kube::core::{Rule, validate};
use schemars::{Schema, SchemaGenerator, json_schema};

/// Longest label key: a prefix of 253 characters, `/`, and a name of 63.
const KEY_LENGTH: u32 = 317;

pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    let mut expression = json_schema!({
        "type": "object",
        "required": ["key", "operator"],
        "properties": {
            "key": {"type": "string", "description": "The label's key.", "minLength": 1, "maxLength": KEY_LENGTH},
            "operator": {
                "type": "string",
                "description": "`In`: the label's value is one of `values`. `NotIn`: it is none of them, or the label is absent. `Exists`: the label is there. `DoesNotExist`: it is not.",
                "maxLength": 64,
            },
            "values": {
                "type": "array",
                "description": "For `In` and `NotIn`.",
                "maxItems": 64,
                "items": {"type": "string", "maxLength": 63},
            },
        },
    });
    let rules = [
        (
            "self.operator in ['In', 'NotIn', 'Exists', 'DoesNotExist']",
            "operator: write In, NotIn, Exists or DoesNotExist",
        ),
        (
            "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
            "operators In and NotIn need values: write the label's values as a list, such as values: [hypervisor]",
        ),
        (
            "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0",
            "operators Exists and DoesNotExist take no values: leave them out, or write operator: In",
        ),
    ];
    for (rule, message) in rules {
        // A rule is plain text, which always serializes.
        let _ = validate(&mut expression, Rule::new(rule).message(message));
    }
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "type": "object",
                "description": "Labels that a node must have, with these values.",
                "maxProperties": 32,
                "additionalProperties": {"type": "string", "maxLength": 63},
            },
            "matchExpressions": {
                "type": "array",
                "description": "What else must hold for a node's labels; all of them must.",
                "maxItems": 32,
                "items": expression,
            },
        },
        "x-kubernetes-map-type": "atomic",
    })
}
