//! Texts that are compared with files beside the tests.

use crate::bed::file;

const REFRESH: &str = "LIVEUPDATE_REFRESH_GOLDENS";

/// Compares a text with a file; with LIVEUPDATE_REFRESH_GOLDENS it is written instead.
pub(crate) fn compare(name: &str, text: &str) {
    let path = file(name);
    if std::env::var_os(REFRESH).is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(wanted == text, "{}: want\n{wanted}\nfound\n{text}\nTo accept: {REFRESH}=1", path.display());
}

/// Compares lines with those of a file in which each has a reason after ` # `; a line without one is refused.
pub(crate) fn compare_reasoned(name: &str, lines: &[String]) {
    let path = file(name);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let known: Vec<(&str, &str)> =
        text.lines().map(|line| line.split_once(" # ").unwrap_or((line, ""))).collect();
    let known =
        |wanted: &str| known.iter().find(|(line, _)| line.trim_end() == wanted).map_or("", |(_, why)| why);
    let width = lines.iter().map(String::len).max().unwrap_or(0);
    let found: String = lines.iter().map(|line| format!("{line:width$} # {}\n", known(line))).collect();
    compare(name, &found);
    let without: Vec<&str> = found.lines().filter(|line| line.trim_end().ends_with(" #")).collect();
    assert!(without.is_empty(), "{}: no reason is given for {without:#?}", path.display());
}
