use liveupdate_node_core::gate::{Gate, GateId};

use super::Findings;
use crate::linux::kernel::{CONFIG, Kernel};
use crate::linux::kexec_state::{KexecState, Lockdown, at};

/// What we know of what is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// We loaded nothing: if something is loaded, it is somebody else's.
    NothingOfOurs,
    /// We loaded it, by kexec_file_load(2).
    Ours,
}

/// Sysctl, lockdown and signature policy let this kernel be replaced, and nothing is loaded, or can be loaded
/// by kexec_load(2), that would take what is preserved with it.
pub fn kexec_allowed(state: &KexecState, kernel: &Kernel, loaded: Loaded) -> Gate {
    let mut found = Findings::of(GateId::KexecAllowed, "");
    match &state.disabled {
        Ok(false) => found.good(format!("{}: 0", at::DISABLED)),
        Ok(true) => found.bad(
            format!("{}: 1", at::DISABLED),
            "boot without kernel.kexec_load_disabled=1; it cannot be taken back at run time",
        ),
        Err(error) if error.is_absent() => {
            found.bad(format!("{error}: this kernel has no kexec"), "boot a kernel with CONFIG_KEXEC_FILE=y");
        }
        Err(error) => found.unknown(error.to_string(), "mount /proc"),
    }
    if let Ok(0) = state.limit {
        found.bad(
            format!("{}: 0 loads left", at::LIMIT),
            "boot again without a limit; it cannot be raised at run time",
        );
    }
    loaded_by(&mut found, state, loaded);
    built(&mut found, kernel);
    locked_down(&mut found, state, kernel);
    found.gate()
}

fn loaded_by(found: &mut Findings, state: &KexecState, loaded: Loaded) {
    match (&state.loaded, loaded) {
        (Ok(false), Loaded::NothingOfOurs) => found.good(format!("{}: 0", at::LOADED)),
        (Ok(true), Loaded::Ours) => found.good(format!("{}: 1, loaded by the keeper", at::LOADED)),
        (Ok(true), Loaded::NothingOfOurs) => found.bad(
            format!(
                "{}: 1, and the keeper did not load it: a kernel that knows nothing of what is preserved",
                at::LOADED
            ),
            "unload it with kexec -u, and find out who loaded it",
        ),
        (Ok(false), Loaded::Ours) => found.bad(
            format!("{}: 0: what the keeper loaded was unloaded by somebody", at::LOADED),
            "find out who unloaded it; the next attempt loads it again",
        ),
        // Without the file there is no kexec, which the sysctl's absence has told already.
        (Err(error), _) if error.is_absent() => {}
        (Err(error), _) => found.unknown(error.to_string(), "mount /sys"),
    }
}

fn built(found: &mut Findings, kernel: &Kernel) {
    let Ok(config) = &kernel.config else { return };
    if !config.built_in("CONFIG_KEXEC_FILE") {
        found.bad(
            format!("{CONFIG}: {}", config.line("CONFIG_KEXEC_FILE")),
            "boot a kernel with CONFIG_KEXEC_FILE=y",
        );
    }
    // Without an orchestrator the old call can lose nothing: such a node preserves nothing.
    if config.built_in("CONFIG_LIVEUPDATE") && config.built_in("CONFIG_KEXEC") {
        found.bad(
            format!("{CONFIG}: CONFIG_KEXEC=y beside CONFIG_LIVEUPDATE=y: what kexec_load(2) loads loses all that is preserved"),
            "boot a kernel without CONFIG_KEXEC",
        );
    }
}

fn locked_down(found: &mut Findings, state: &KexecState, kernel: &Kernel) {
    let signatures = kernel
        .config
        .as_ref()
        .ok()
        .map(|config| (config.built_in("CONFIG_KEXEC_SIG"), config.built_in("CONFIG_KEXEC_SIG_FORCE")));
    let signed = "sign the bundle's image with a key that the running kernel trusts";
    match (&state.lockdown, signatures) {
        (Ok(Lockdown::None), Some((_, true))) => found.unknown(
            format!("{CONFIG}: CONFIG_KEXEC_SIG_FORCE=y: only an image that this kernel trusts can be loaded; loading it will tell"),
            signed,
        ),
        (Ok(Lockdown::None), _) => found.good(format!("{}: none", at::LOCKDOWN)),
        (Ok(_), Some((false, _))) => found.bad(
            format!("{}: locked down; {CONFIG}: CONFIG_KEXEC_SIG is not set: no image can be loaded", at::LOCKDOWN),
            "boot without lockdown, or a kernel with CONFIG_KEXEC_SIG=y",
        ),
        (Ok(_), _) => found.unknown(
            format!("{}: locked down: only an image that this kernel trusts can be loaded; loading it will tell", at::LOCKDOWN),
            signed,
        ),
        (Err(error), _) if error.is_absent() => found.good(format!("{error}: no lockdown")),
        (Err(error), _) => found.unknown(error.to_string(), "mount securityfs on /sys/kernel/security"),
    }
}
