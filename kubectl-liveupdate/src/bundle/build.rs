//! `bundle build`: a bundle from a kernel and what belongs to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use liveupdate_host::bundle::shim::{Driver, Keeper, Shim};
use liveupdate_host::bundle::{Built, Inputs, build};
use liveupdate_node_core::GateResult;

use super::text::Lines;
use super::{keygen, sign};
use crate::cli::BuildArgs;
use crate::error::Error;

/// Carries out `bundle build`; answers what is printed.
///
/// # Errors
/// When an input cannot be used, or a node would refuse the bundle.
pub fn run(args: &BuildArgs) -> Result<String, Error> {
    // Before anything is written.
    let key = args.key.as_deref().map(keygen::private).transpose()?;
    let inputs = inputs(args)?;
    let built = build(&inputs, &args.output).map_err(|error| Error::Build(Box::new(error)))?;
    let signed = key.map(|key| sign::sign(&built.bundle, &key)).transpose()?;
    Ok(text(&built, signed.as_deref()))
}

fn inputs(args: &BuildArgs) -> Result<Inputs, Error> {
    let mut provenance: BTreeMap<String, String> =
        [("builder".to_owned(), format!("kubectl-liveupdate {}", env!("CARGO_PKG_VERSION")))].into();
    for note in &args.note {
        let (name, text) = note
            .split_once('=')
            .ok_or_else(|| Error::Usage(format!("--note {note:?}: want NAME=TEXT, such as build=1234")))?;
        provenance.insert(name.to_owned(), text.to_owned());
    }
    let config = args.config.as_deref().map(read).transpose()?;
    Ok(Inputs {
        image: args.image.clone(),
        initrd: args.initrd.clone(),
        modules: args.modules.clone(),
        shim: shim(args)?,
        command_line: args.command_line.trim().to_owned(),
        config: config.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        release: args.release.clone(),
        provenance,
        force: args.force,
    })
}

fn shim(args: &BuildArgs) -> Result<Option<Shim>, Error> {
    let Some(init) = &args.shim else { return Ok(None) };
    let mut drivers = Vec::new();
    for driver in &args.driver {
        let (path, parameters) = driver.split_once(' ').unwrap_or((driver, ""));
        let path = Path::new(path);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // The list is read line by line, and a path ends at a blank.
        if name.contains(char::is_whitespace) || parameters.contains(char::is_control) {
            return Err(Error::Usage(format!(
                "--driver {driver:?}: no blanks in its name, and one line alone"
            )));
        }
        drivers.push(Driver { name, module: read(path)?, parameters: parameters.trim().to_owned() });
    }
    let keeper = match &args.keeper {
        Some(path) => Some(Keeper { program: read(path)?, arguments: args.keeper_argument.clone() }),
        None => None,
    };
    if args.keeper_argument.iter().any(|word| word.contains('\n')) {
        return Err(Error::Usage("--keeper-argument: no line breaks".into()));
    }
    Ok(Some(Shim { init: read(init)?, drivers, keeper }))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })
}

fn text(built: &Built, signed: Option<&str>) -> String {
    let mut lines = Lines::default();
    lines.line("Bundle:", &built.bundle.path().display().to_string());
    lines.line("Digest:", &built.bundle.digest().to_string());
    lines.manifest(&built.bundle);
    match &built.gate {
        Some(gate) if gate.result == GateResult::Pass => {
            lines.line("TargetKernel:", "Pass, on a node whose kernel has the same formats");
        }
        Some(gate) => {
            lines.line("TargetKernel:", gate.result.as_str());
            for evidence in gate.evidence.split("; ") {
                lines.line("", evidence);
            }
            for remedy in gate.remedy.split("; ").filter(|remedy| !remedy.is_empty()) {
                lines.line("", &format!("→ {remedy}"));
            }
        }
        None => lines.line("TargetKernel:", "the image cannot be read"),
    }
    lines.line("Signed by:", signed.unwrap_or("nobody: kubectl liveupdate bundle sign"));
    lines.finish()
}
