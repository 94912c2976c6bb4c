//! `simulate`: one run of planner and node core against an imagined fleet, without any cluster.
//!
//! ```text
//!  manifest ─► spec ─┐
//!  seed ─► fleet ────┤► planner's world ─ virtual time ─► run ──► report
//!           └ course ┘  (the planner of the controller)    └ again with a kernel that never comes up
//!             (the node's machine of the keeper)
//! ```
//! Nothing is read but the manifest, and no clock: the same file, nodes and seed give the same bytes.

pub mod course;
pub mod fleet;
pub mod manifest;
pub mod report;
pub mod run;

use std::io::Read;
use std::path::Path;

use crate::cli::{SimulateArgs, SimulateOutput};
use crate::error::Error;
use crate::output::{self, Terminal};
use crate::render::Canvas;

/// A manifest is cut off beyond this; the largest LiveUpdate is far smaller.
const LARGEST: u64 = 4 << 20;

/// Carries out `simulate`.
///
/// # Errors
/// When the manifest cannot be read or used.
pub fn run(args: &SimulateArgs, terminal: Terminal) -> Result<(), Error> {
    let text = read(&args.filename)?;
    let said = simulate(&text, args.nodes, args.seed, args.output, terminal.canvas())
        .map_err(|error| Error::Manifest(format!("{}: {error}", args.filename.display())))?;
    output::print(&said)
}

/// The whole simulation. Pure.
///
/// # Errors
/// What is wrong with the manifest, with line or field.
pub fn simulate(
    text: &str,
    nodes: u32,
    seed: u64,
    format: SimulateOutput,
    canvas: Canvas,
) -> Result<String, String> {
    let asked = manifest::read(text)?;
    let fleet = fleet::Fleet::draw(&asked, nodes, seed);
    let (good, bad) = std::thread::scope(|scope| {
        let bad = scope.spawn(|| run::run(&asked, &fleet, run::Kernel::Bad));
        (run::run(&asked, &fleet, run::Kernel::Good), bad.join())
    });
    let bad = bad.map_err(|_| "the run with a bad kernel broke off".to_owned())?;
    let report = report::Report::new(&asked, &fleet, seed, &good, &bad);
    match format {
        SimulateOutput::Table => Ok(report.text(canvas)),
        SimulateOutput::Json => output::json(&report).map_err(|error| error.to_string()),
    }
}

fn read(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().take(LARGEST).read_to_string(&mut text).map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(LARGEST).read_to_string(&mut text).map_err(failed)?;
    }
    Ok(text)
}
