//! What the tests share: an attempt, its gates, and leave to jump.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(missing_docs, unreachable_pub, clippy::expect_used, clippy::unwrap_used)]

use std::time::Duration;

use liveupdate_node_core::gate::{Gate, GateId, Scope};
use liveupdate_node_core::node::{Attempt, Evidence, Go, Nonce, Permission, Plan, Receipt, ScopedDevice};
use liveupdate_node_core::outcome::{Config, Dma, Facts, Interrupts, Reset, State};
use liveupdate_node_core::{Continuity, GateResult, Monotonic, Target};

pub const BOOT: &str = "boot-a";
pub const NEXT_BOOT: &str = "boot-b";
pub const GPU: &str = "0000:01:00.0";
pub const NIC: &str = "0000:02:00.0";

pub fn at(ms: u64) -> Monotonic {
    Monotonic::from_millis(ms)
}

pub fn device(address: &str, holder: &str, plan: Plan) -> ScopedDevice {
    ScopedDevice { address: address.into(), model: "10de:2330".into(), holder: holder.into(), plan }
}

pub fn attempt() -> Attempt {
    Attempt {
        id: "7f3c-0a1b2c3d-1".into(),
        update: "kernels 2026".into(),
        revision: "7f3c".into(),
        target: Target { release: "7.3.5".into(), bundle: "b".into(), digest: "sha256:00".into() },
        nonce: Nonce(42),
        boot_id: BOOT.into(),
        devices: vec![
            device(GPU, "vm-a", Plan::Preserve(Continuity::Paused)),
            device(NIC, "vm-b", Plan::Preserve(Continuity::Reinitialised)),
            device("0000:03:00.0", "db", Plan::Stop),
            device("0000:04:00.0", "", Plan::Leave),
        ],
        ..Attempt::default()
    }
}

pub fn gate(id: GateId, subject: &str, result: GateResult) -> Gate {
    Gate { id, subject: subject.into(), result, evidence: "read".into(), remedy: String::new() }
}

/// Every gate of these devices and holders, all passing.
pub fn passing(devices: &[&str], holders: &[&str]) -> Vec<Gate> {
    let mut gates = Vec::new();
    for &id in GateId::ALL {
        match id.scope() {
            Scope::Node | Scope::Target => gates.push(gate(id, "", GateResult::Pass)),
            Scope::Device => gates.extend(devices.iter().map(|d| gate(id, d, GateResult::Pass))),
            Scope::Holder => gates.extend(holders.iter().map(|h| gate(id, h, GateResult::Pass))),
        }
    }
    gates
}

pub fn gates() -> Vec<Gate> {
    passing(&[GPU, NIC], &["vm-a", "vm-b"])
}

pub fn go(attempt: &Attempt, received: Monotonic) -> Go {
    let receipt = Receipt::check(attempt, &attempt.boot_id, &gates()).unwrap();
    let (id, boot) = (receipt.id().to_owned(), attempt.boot_id.clone());
    let permission =
        Permission::grant(&receipt, &attempt.id, &id, &boot, received, Duration::from_secs(30)).unwrap();
    Go { receipt, permission }
}

pub fn arrived() -> Evidence {
    let from = Some(BOOT.into());
    Evidence { boot_id: NEXT_BOOT.into(), release: "7.3.5".into(), nonce: Some(Nonce(42)), from }
}

pub fn still_here() -> Evidence {
    Evidence { boot_id: BOOT.into(), release: "7.3.4".into(), ..Evidence::default() }
}

/// The best facts there are.
pub fn best() -> Facts {
    Facts {
        reset: Reset::None,
        dma: Dma::Continuous,
        interrupts: Interrupts::Relatched(Duration::from_millis(12)),
        config: Config::Same,
        state: State::Probed,
        quiescent: false,
        returned: true,
    }
}
