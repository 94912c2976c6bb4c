//! `liveupdate-lab bench-fleet`.

use clap::Args;

use crate::{Result, bench};

/// Measure a rollout over simulated nodes that take no time, on the real control plane
#[derive(Debug, Args)]
pub(super) struct BenchFleet {
    /// How many nodes
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    nodes: u16,
}

impl BenchFleet {
    pub(super) async fn run(self) -> Result<()> {
        bench::run(self.nodes).await
    }
}
