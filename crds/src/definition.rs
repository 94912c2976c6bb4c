//! The `CustomResourceDefinition`s as they are installed, and the check of an object against them
//! without any API server.
//!
//! Always take them from here, not from [`CustomResourceExt::crd`]: what the derive says is finished
//! here. An absent field and `null` mean the same to us, so `nullable` is taken out (the API server then
//! drops a `null` before any rule sees it), and descriptions become one line per paragraph.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use kube::core::cel::{Validator, apply_defaults};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{LiveUpdate, LiveUpdatePolicy, NodeLiveUpdate, rules};

/// All three definitions, in the order of their names.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![definition::<LiveUpdatePolicy>(), definition::<LiveUpdate>(), definition::<NodeLiveUpdate>()]
}

/// The definition of one kind.
pub fn definition<K: CustomResourceExt>() -> CustomResourceDefinition {
    let mut crd = K::crd();
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|it| it.open_api_v3_schema.as_mut()) {
            finish(schema);
        }
    }
    crd
}

/// Reads an object as the API server would: with defaults filled in and all rules held against it.
///
/// `old` is the object before, for the rules about changes.
///
/// # Errors
/// Everything that is wrong, one entry each, `path: message`. Lengths and patterns of the schema are
/// checked by the API server alone.
pub fn check<K: CustomResourceExt + DeserializeOwned>(
    object: &Value,
    old: Option<&Value>,
) -> Result<K, Vec<String>> {
    let crd = definition::<K>();
    let schema = crd.spec.versions.first().and_then(|it| it.schema.as_ref()?.open_api_v3_schema.as_ref());
    let schema = serde_json::to_string(&schema)
        .and_then(|text| serde_json::from_str(&rules::for_local_evaluation(&text)))
        .map_err(|error| vec![error.to_string()])?;
    let object = apply_defaults(&schema, object);
    // First whether it can be read at all: rules about a value of the wrong type say nothing useful.
    let read = K::deserialize(&object).map_err(|error| vec![error.to_string()])?;
    Validator::new()
        .validate(&schema, &object, old)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(read)
}

fn finish(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(description) = &mut schema.description {
        *description = one_line_per_paragraph(description);
    }
    for part in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        finish(part);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => finish(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(finish),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        finish(values);
    }
}

fn one_line_per_paragraph(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}
