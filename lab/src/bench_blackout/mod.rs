//! The blackout of our whole path against a bare kexec.
//!
//! ```text
//!  ours:  a LiveUpdate on the lab's control plane    Quiesce sent ──► the holder's successor has resumed
//!  bare:  kexec_file_load, then reboot(2), by init   reboot call ───► init's first line on the next kernel
//!
//!  one guest:  ours to lu2 │ bare to lu1 │ bare to lu2 │ ours to lu1 │ and again        (two pairs)
//! ```
//! Each pair goes to the same kernel, with the same initrd and command line, and each way goes first as often as
//! second, so that what drifts on this machine is in neither. Times are this machine's stamps of the guest's console
//! lines. A guest is emulated: only ratios mean something.

mod machine;
mod report;

use liveupdate_proto::causes::chain;

use crate::testbed::{Testbed, TestbedOptions};
use crate::vm::{Kit, Programs, Variant, updates};
use crate::{Result, RunDir, binaries};

use machine::Machine;
use report::Sized;

/// Memory of memfds in folios as large as there are, whoever asks.
const HUGE: &str = "transparent_hugepage_shmem=always";

/// What to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Pairs of jumps for each size; two belong together, so that an odd number is raised by one.
    pub pairs: usize,
    /// What the holder has, in GiB, one guest for each.
    pub gib: Vec<u32>,
    /// By the guest's own instructions.
    pub counted: bool,
    /// The memory is made of folios of 2 MiB, as far as the kernel finds them, and not of 4 KiB.
    pub huge: bool,
}

/// Measures, and prints the figures.
///
/// # Errors
/// When something does not start, or a jump does not come to its end.
pub async fn run(settings: &Settings) -> Result<()> {
    eprintln!("building kernels and programs, if they are not (minutes, once) ...");
    binaries::fresh("liveupdate-controller", "liveupdate-controller")?;
    let folder = RunDir::create()?;
    let mut kit = Kit::new(folder.path(), Programs::InInitrd)?;
    if settings.huge {
        kit = kit.parameter(HUGE);
    }
    let targets = [kit.bundle(Variant::Lu2)?, kit.bundle(Variant::Lu1)?];
    let mut bed = Testbed::start(TestbedOptions::default(), Vec::new()).await?;
    bed.start_controller().await?;
    bed.apply_policy(updates::policy()).await?;
    let rounds = settings.pairs.div_ceil(2);
    let mut all = Vec::new();
    for (index, gib) in settings.gib.iter().enumerate() {
        let mut sized = Sized::new(*gib, settings.huge);
        let machine =
            Machine::start(&bed, &kit, u8::try_from(index).unwrap_or(u8::MAX), *gib, settings.counted)
                .await?;
        for round in 0..rounds {
            match machine.round(&targets).await {
                Ok(pairs) => sized.pairs.extend(pairs),
                // What was measured until then is not thrown away.
                Err(error) => {
                    println!("{}", report::text(&all));
                    println!("{}", report::text(std::slice::from_ref(&sized)));
                    return Err(error);
                }
            }
            eprintln!("{gib} GiB, {} of {} pairs: {}", 2 * (round + 1), 2 * rounds, sized.line());
        }
        if let Err(error) = machine.end().await {
            eprintln!("{}", chain(&error));
        }
        all.push(sized);
    }
    println!("{}", report::text(&all));
    Ok(())
}
