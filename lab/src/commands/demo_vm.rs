//! `liveupdate-lab demo-vm`.

use clap::Args;

use crate::{Result, demo_vm};

/// Show three QEMU guests being updated in canary order, with real kernels and real jumps
#[derive(Debug, Args)]
pub(super) struct DemoVm {}

impl DemoVm {
    pub(super) async fn run(self) -> Result<()> {
        demo_vm::run().await
    }
}
