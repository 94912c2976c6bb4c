//! Goldens by script: `scripts/NAME.txt` goes through the real planner, and what it plans and reports must
//! be what `scripts/NAME.golden` says. `LIVEUPDATE_REFRESH_GOLDENS=1` writes the goldens anew; read the difference.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests; a broken script has to stop")]

mod script;

use std::path::{Path, PathBuf};
use std::{env, fs};

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut found: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("the folder of scripts")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
        .collect();
    found.sort();
    found
}

#[test]
fn every_script_plans_and_reports_what_its_golden_says() {
    let mut different = Vec::new();
    let scripts = scripts();
    assert!(scripts.len() >= 15, "only {} scripts found", scripts.len());
    for path in scripts {
        let transcript = script::run(&fs::read_to_string(&path).expect("a script"));
        let golden = path.with_extension("golden");
        if env::var_os("LIVEUPDATE_REFRESH_GOLDENS").is_some() {
            fs::write(&golden, &transcript).expect("the golden can be written");
        } else if fs::read_to_string(&golden).unwrap_or_default() != transcript {
            let first = first_difference(&fs::read_to_string(&golden).unwrap_or_default(), &transcript);
            different.push(format!("{}: {first}", path.display()));
        }
    }
    assert!(different.is_empty(), "look, then LIVEUPDATE_REFRESH_GOLDENS=1:\n{}", different.join("\n"));
}

fn first_difference(golden: &str, now: &str) -> String {
    let (mut golden, mut now) = (golden.lines(), now.lines());
    for line in 1.. {
        match (golden.next(), now.next()) {
            (None, None) => break,
            (a, b) if a != b => return format!("line {line}\n  golden: {a:?}\n  now:    {b:?}"),
            _ => {}
        }
    }
    "only line ends differ".into()
}
