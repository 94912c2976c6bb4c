//! What is made of other sources is as those sources are.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use liveupdate_lab::RunDir;
use liveupdate_lab::helm::chart;

fn files(root: &Path, folder: &str) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| format!("{folder}/{}", path.file_name().unwrap().to_string_lossy());
    entries
        .filter(|path| path.is_file())
        .map(|path| (name(&path), std::fs::read_to_string(&path).unwrap()))
        .collect()
}

#[test]
fn kinds_rights_policies_and_readme_are_made_of_their_sources() {
    let run = RunDir::create().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/generate-chart.sh");
    let output = Command::new(script).arg(run.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for folder in ["files/crds", "templates/shared"] {
        let (made, kept) = (files(run.path(), folder), files(&chart(), folder));
        assert!(!made.is_empty());
        assert_eq!(made, kept, "{folder}: run make generate");
    }
    let read = |root: &Path| std::fs::read_to_string(root.join("README.md")).unwrap();
    assert_eq!(read(run.path()), read(&chart()), "run make generate");
}

/// Every value has a line in the README and a place in the schema.
#[test]
fn every_value_is_described() {
    let values = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let schema = std::fs::read_to_string(chart().join("values.schema.json")).unwrap();
    let readme = std::fs::read_to_string(chart().join("README.md")).unwrap();
    let values: serde_json::Value = serde_saphyr::from_str(&values).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let described = |path: &str| {
        let mut path = path;
        loop {
            if readme.contains(&format!("| `{path}` |")) {
                return true;
            }
            match path.rsplit_once('.') {
                Some((parent, _)) => path = parent,
                None => return false,
            }
        }
    };
    let mut todo = vec![(String::new(), &values, &schema)];
    let mut seen = 0;
    while let Some((path, value, schema)) = todo.pop() {
        seen += 1;
        match (value.as_object(), schema.get("properties")) {
            (Some(object), Some(properties)) => {
                assert_eq!(schema["additionalProperties"], false, "{path} takes anything");
                for (key, value) in object {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    todo.push((
                        path.clone(),
                        value,
                        properties.get(key).unwrap_or_else(|| panic!("{path}: not in the schema")),
                    ));
                }
            }
            _ => assert!(described(&path), "{path} has no line in the README"),
        }
    }
    assert!(seen > 60, "{seen} values");
}
