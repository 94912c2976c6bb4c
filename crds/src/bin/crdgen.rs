//! Writes the definitions as YAML, one file per kind, into the folder that is named, or to stdout.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(std::env::args().nth(1).as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("crdgen: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(folder: Option<&str>) -> Result<(), String> {
    let files = liveupdate_crds::yaml::files().map_err(|error| format!("cannot write YAML: {error}"))?;
    for (name, text) in files {
        match folder {
            None => print!("---\n{text}"),
            Some(folder) => {
                let path = Path::new(folder).join(name);
                std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
    }
    Ok(())
}
