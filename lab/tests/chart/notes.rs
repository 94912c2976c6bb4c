//! What is printed to whoever has installed it.

use std::fmt::Write;

use liveupdate_lab::helm::{chart, documented_values};

use crate::bed::run;
use crate::golden;

/// Of each documented combination of values; those that are told the same stand together.
#[test]
fn who_has_installed_it_is_told_what_to_type_next() {
    run(async |bed| {
        let chart = chart().to_string_lossy().into_owned();
        let mut told: Vec<(Vec<String>, String)> = Vec::new();
        let mut files = documented_values().unwrap();
        // What has no file of values comes first.
        files.sort_by_key(|file| !file.ends_with("default-values.yaml"));
        for file in files {
            let values = file.to_string_lossy().into_owned();
            let args = ["install", "liveupdate", &chart, "--dry-run=client", "--values", &values];
            let output = bed.helm.run(&bed.plane, "liveupdate-system", args).await.unwrap();
            assert_eq!(output.code, Some(0), "{values}: {}", output.stderr);
            let (_, notes) = output.stdout.rsplit_once("\nNOTES:\n").unwrap();
            let lines: Vec<&str> = notes.trim_end().lines().map(str::trim_end).collect();
            let (name, notes) = (file.file_name().unwrap().to_string_lossy(), lines.join("\n"));
            let name = name.trim_end_matches("-values.yaml").to_owned();
            match told.iter_mut().find(|(_, other)| *other == notes) {
                Some((names, _)) => names.push(name),
                None => told.push((vec![name], notes)),
            }
        }
        let mut text = String::new();
        for (names, notes) in told {
            writeln!(text, "==== {}\n{notes}\n", names.join(", ")).unwrap();
        }
        golden::compare("golden/notes.txt", &text);
    });
}
