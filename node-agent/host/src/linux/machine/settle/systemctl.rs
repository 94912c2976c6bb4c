//! What systemd says of its units, and how it is asked.

use std::collections::BTreeMap;

use super::super::calls::{Calls, Said};
use super::super::store::io_error;
use crate::HostError;

/// States of services and scopes that have processes.
pub(super) const LIVING: &str = "running,abandoned";

/// Units of some types (`service,scope`) that are in one of these states.
pub(super) fn running(calls: &dyn Calls, types: &str, states: &str) -> Result<Vec<String>, HostError> {
    let (types, states) = (format!("--type={types}"), format!("--state={states}"));
    let arguments = ["list-units", "--no-legend", "--plain", "--full", &types, &states];
    let said = asked(calls, &arguments)?;
    Ok(said.output.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// Properties of units, one map for each.
pub(super) fn show(
    calls: &dyn Calls,
    units: &[String],
    properties: &[&str],
) -> Result<Vec<BTreeMap<String, String>>, HostError> {
    if units.is_empty() {
        // It would show systemd's own.
        return Ok(Vec::new());
    }
    let properties = format!("--property={}", properties.join(","));
    let said = asked(calls, &with(&["show", &properties], units))?;
    // One paragraph for each.
    let shown = said.output.split("\n\n").map(|unit| {
        let lines = unit.lines().filter_map(|line| line.split_once('='));
        lines.map(|(property, value)| (property.to_owned(), value.to_owned())).collect()
    });
    Ok(shown.collect())
}

/// A command's words, and the units that it is about.
pub(super) fn with<'a>(words: &[&'a str], units: &'a [String]) -> Vec<&'a str> {
    words.iter().copied().chain(["--"]).chain(units.iter().map(String::as_str)).collect()
}

/// Runs systemctl.
pub(super) fn asked(calls: &dyn Calls, arguments: &[&str]) -> Result<Said, HostError> {
    let what = || format!("systemctl {}", arguments.first().unwrap_or(&""));
    let said = calls.systemctl(arguments).map_err(|error| io_error(what(), &error))?;
    if said.well { Ok(said) } else { Err(io_error(what(), &said.complaint)) }
}
