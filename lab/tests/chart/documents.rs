//! The documents name what there is.

use liveupdate_lab::helm::{chart, documented_values};

#[test]
fn every_file_of_values_is_documented() {
    let text = std::fs::read_to_string(chart().join("../../docs/install.md")).unwrap();
    for file in documented_values().unwrap() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(text.contains(&format!("`ci/{name}`")), "docs/install.md does not say what ci/{name} is for");
    }
}

/// A reviewer of the threat model finds every capability and every path of the host in it.
#[test]
fn the_threat_model_names_every_capability_and_path_of_the_host() {
    let text = std::fs::read_to_string(chart().join("../../docs/threat-model.md")).unwrap();
    let agent = std::fs::read_to_string(chart().join("templates/agent.yaml")).unwrap();
    let words = agent.lines().map(str::trim);
    let capabilities = words.clone().filter_map(|line| line.strip_prefix("- "));
    let capabilities = capabilities.filter(|word| word.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
    let paths = words
        .filter_map(|line| line.strip_prefix("hostPath: {path: "))
        .filter_map(|rest| rest.split(',').next());
    let named: Vec<&str> = capabilities.chain(paths.filter(|path| path.starts_with('/'))).collect();
    assert!(named.len() > 4, "{named:?}");
    for name in named {
        assert!(text.contains(&format!("`{name}`")), "docs/threat-model.md does not speak of {name}");
    }
}
