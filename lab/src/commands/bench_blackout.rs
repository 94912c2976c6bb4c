//! `liveupdate-lab bench-blackout`.

use clap::Args;

use crate::{Result, bench_blackout};

/// Measure the blackout of a LiveUpdate against a bare kexec of the same kernels in the same guest
#[derive(Debug, Args)]
pub(super) struct BenchBlackout {
    /// How many pairs of jumps for each size, one by a LiveUpdate and one bare
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pairs: u16,
    /// GiB of memory that the guest's holder has, one size after the other; 0 stands for two pages, the least that
    /// it can have
    #[arg(long, default_value = "0,1,4", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(0..=64))]
    gib: Vec<u32>,
    /// Count the guest's instructions instead of time (one processor, QEMU's -icount): slower, and nearly the same each
    /// time
    #[arg(long)]
    counted: bool,
    /// Hold the memory in folios of 2 MiB instead of pages of 4 KiB: what is handed over is counted in folios
    #[arg(long)]
    huge: bool,
}

impl BenchBlackout {
    pub(super) async fn run(self) -> Result<()> {
        let BenchBlackout { gib, counted, huge, .. } = self;
        let pairs = usize::from(self.pairs);
        bench_blackout::run(&bench_blackout::Settings { pairs, gib, counted, huge }).await
    }
}
