//! The definitions as YAML text.

use crate::definition::definitions;

/// Head of each file.
const HEAD: &str = "# Generated from the types in crds/src: edit those, then run\n#   cargo run -p liveupdate-crds --bin crdgen -- crds/yaml\n";

/// File names and their texts, one per kind. The same types give the same bytes.
///
/// # Errors
/// When a schema cannot be written as YAML, which would be a mistake in this crate.
pub fn files() -> Result<Vec<(String, String)>, serde_saphyr::ser_error::Error> {
    let mut files = Vec::new();
    for crd in definitions() {
        let text = serde_saphyr::to_string(&crd)?;
        files.push((format!("{}.yaml", crd.spec.names.plural), format!("{HEAD}{text}")));
    }
    Ok(files)
}
