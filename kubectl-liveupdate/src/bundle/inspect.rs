//! `bundle inspect`: what the gate `TargetKernel` can know of a kernel's image, before any node sees it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use liveupdate_host::image::config::OF_INTEREST;
use liveupdate_host::image::{self, Abi, BootHeader, KernelImage, Limits, Payload};
use liveupdate_host::linux::gates::target_image;
use liveupdate_node_core::gate::Gate;
use serde::Serialize;

use super::size;
use crate::cli::{InspectArgs, SimulateOutput};
use crate::error::Error;
use crate::output;

/// A file is cut off beyond this; a kernel with all its debugging information is smaller.
const LARGEST: u64 = 2 << 30;

/// Carries out `bundle inspect`.
///
/// # Errors
/// When the file cannot be read, or is no kernel image.
pub fn run(args: &InspectArgs) -> Result<(), Error> {
    let file = read(&args.image)?;
    output::print(&inspect(&args.image, &file, args.output)?)
}

/// What is printed of the image that was read from a path. Pure.
///
/// # Errors
/// When it is no kernel image.
pub fn inspect(path: &Path, file: &[u8], format: SimulateOutput) -> Result<String, Error> {
    let unusable = |source| Error::Image { path: path.to_owned(), source: Box::new(source) };
    let image = image::inspect(file, Limits::default()).map_err(unusable)?;
    let gate = target_image(&image);
    match format {
        SimulateOutput::Table => Ok(text(&image, &gate, file.len() as u64)),
        SimulateOutput::Json => {
            let verdict =
                Verdict { result: gate.result.as_str(), evidence: &gate.evidence, remedy: &gate.remedy };
            output::json(&Report { image: &image, target_kernel: verdict })
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    #[serde(flatten)]
    image: &'a KernelImage,
    target_kernel: Verdict<'a>,
}

#[derive(Serialize)]
struct Verdict<'a> {
    result: &'static str,
    evidence: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    remedy: &'a str,
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn text(image: &KernelImage, gate: &Gate, length: u64) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing into a String cannot fail.
        let _ = writeln!(out, "{name:<15}{value}");
    };
    line("Image:", &format!("{}, {}", image.format.as_str(), size(length)));
    line("Release:", image.release.as_deref().unwrap_or("not told"));
    if let Some(other) = &image.other_release {
        line("", &format!("the packed kernel says {other}"));
    }
    line("Architecture:", &image.architecture);
    if let Some(banner) = &image.banner {
        line("Built:", banner.trim_start_matches("Linux version "));
    }
    if let Some(boot) = &image.boot {
        line("Kexec:", &kexec(boot));
        line("Memory:", &memory(boot));
    }
    if let Some(payload) = &image.payload {
        line("Packed:", &packed(payload));
    }
    line("Formats:", &formats(image));
    match &image.config {
        Ok(config) => {
            line("Configuration:", &format!("embedded, {} options", config.len()));
            for option in OF_INTEREST {
                line("", &config.line(option));
            }
        }
        Err(reason) => line("Configuration:", reason),
    }
    line("TargetKernel:", gate.result.as_str());
    for evidence in gate.evidence.split("; ") {
        line("", evidence);
    }
    for remedy in gate.remedy.split("; ").filter(|remedy| !remedy.is_empty()) {
        line("", &format!("→ {remedy}"));
    }
    out
}

fn kexec(boot: &BootHeader) -> String {
    match boot.kexec_problems.as_slice() {
        [] => format!("can be loaded (boot protocol {}, {})", boot.protocol, boot.flags.join(" ")),
        problems => problems.join("; "),
    }
}

fn memory(boot: &BootHeader) -> String {
    format!(
        "{} in one piece at a multiple of {}; command line up to {} bytes",
        size(boot.init_size.into()),
        size(boot.alignment.into()),
        boot.command_line_limit
    )
}

fn packed(payload: &Payload) -> String {
    let name = payload.compression.as_str();
    match (&payload.problem, payload.unpacked) {
        (Some(problem), _) => format!("{name}, {}; {problem}", size(payload.packed)),
        (None, Some(unpacked)) => format!("{name}, {} of {}", size(payload.packed), size(unpacked)),
        (None, None) => name.to_owned(),
    }
}

fn formats(image: &KernelImage) -> String {
    let Abi { kho, luo, memfd, others, driver, patches: _ } = &image.abi;
    let names: Vec<&str> =
        [kho, luo, memfd, others, driver].into_iter().flatten().map(String::as_str).collect();
    match (names.is_empty(), image.scanned()) {
        (false, _) => names.join(", "),
        (true, true) => "none: it can take over nothing".into(),
        (true, false) => "unknown: the kernel could not be unpacked".into(),
    }
}
