//! Writes the pages of the documentation that are made from the code into the folder that is named.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("docgen: name the folder to write to, `docs`");
        return ExitCode::from(2);
    };
    for (name, text) in kubectl_liveupdate::docs::pages() {
        let path = Path::new(&folder).join(name);
        if let Err(error) = std::fs::write(&path, text) {
            eprintln!("docgen: {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
