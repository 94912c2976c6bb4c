//! The file: one LiveUpdate, perhaps with the policy, among other documents.

use kube::ResourceExt;
use liveupdate_crds::{GROUP, LiveUpdate, LiveUpdatePolicy, planned};
use liveupdate_planner::{Policy, Spec};
use serde_json::Value;

/// What the file asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The update.
    pub update: LiveUpdate,
    /// Its spec as the planner reads it.
    pub spec: Spec,
    /// The file's policy; without one, a policy that allows what the update acknowledges.
    pub policy: Policy,
    /// The policy was in the file.
    pub has_policy: bool,
}

/// Reads the file.
///
/// # Errors
/// One line for each thing that is wrong: with its line in the file where that is known, else its field.
pub fn read(text: &str) -> Result<Asked, String> {
    let (mut update, mut policy) = (None, None);
    for (first_line, document) in documents(text) {
        // Empty lines before it, so that errors name lines of the file.
        let padded = "\n".repeat(first_line) + document;
        let value: Value = serde_saphyr::from_str(&padded).map_err(|error| error.to_string())?;
        let ours =
            value["apiVersion"].as_str().is_some_and(|version| version.starts_with(&format!("{GROUP}/")));
        match value["kind"].as_str() {
            Some("LiveUpdate") if ours => {
                if update.is_some() {
                    return Err(format!(
                        "line {}: a second LiveUpdate: simulate one at a time",
                        first_line + 1
                    ));
                }
                update = Some(check::<LiveUpdate>(&padded, &value)?);
            }
            Some("LiveUpdatePolicy") if ours => policy = Some(check::<LiveUpdatePolicy>(&padded, &value)?),
            _ => {}
        }
    }
    let update = update.ok_or_else(|| format!("there is no LiveUpdate of {GROUP}/v1alpha1 in it"))?;
    let spec = planned::spec(&update.spec)?;
    let has_policy = policy.is_some();
    let policy = match policy {
        Some(policy) => planned::policy(&policy.spec)?,
        None => Policy { allowed_acknowledgements: spec.acknowledge.clone(), ..Policy::default() },
    };
    Ok(Asked { update, spec, policy, has_policy })
}

/// The documents of a stream, each with the number of lines before it; those without any content left out.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if line == "---\n" || line == "---\r\n" || line == "---" || line.starts_with("--- ") {
            found.push((start_line, &text[start..offset]));
            (start, start_line) = (offset + line.len(), number + 1);
        }
        offset += line.len();
    }
    found.push((start_line, &text[start..]));
    found.retain(|(_, document)| {
        document.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    });
    found
}

fn check<K>(text: &str, value: &Value) -> Result<K, String>
where
    K: kube::CustomResourceExt + ResourceExt + kube::Resource<DynamicType = ()> + serde::de::DeserializeOwned,
{
    // Typed, from the text: it knows the lines.
    if let Err(error) = serde_saphyr::from_str::<K>(text) {
        return Err(error.to_string());
    }
    let kind = K::kind(&());
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        return Err(format!("the {kind} has no metadata.name"));
    }
    liveupdate_crds::check::<K>(value, None).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(|error| format!("* {error}")).collect();
        format!("The {kind} {name:?} is invalid:\n{}", lines.join("\n"))
    })
}
