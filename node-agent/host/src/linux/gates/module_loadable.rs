use liveupdate_node_core::gate::{Gate, GateId};

use super::next_kernel::Placed;
use super::{Findings, NextKernel};
use crate::bundle::DriverModule;
use crate::linux::driver::{ABI, ENABLE, MODULE};

/// The target has the driver, of our ABI, before anything can open `/dev/liveupdate`; and its kernel takes it.
pub fn module_loadable(held: bool, next: NextKernel<'_>) -> Gate {
    let mut found = Findings::of(GateId::ModuleLoadable, "");
    if !held {
        found.good("nobody holds a VFIO device: the target needs no driver for one");
        return found.gate();
    }
    let put_in = format!("build the bundle with --driver '{MODULE}.ko', which the shim loads first");
    let contents = match next.contents {
        Ok(contents) => contents,
        Err(error) => {
            found.unknown(error, "build the bundle anew");
            return found.gate();
        }
    };
    match next.driver() {
        Placed::BuiltIn => found.good(format!("target's image: {ABI} is built in")),
        Placed::First => {
            if let Some((module, parameters)) = &contents.shim {
                loadable(&mut found, module, next);
                if parameters.split_whitespace().any(|word| word == format!("{ENABLE}=0")) {
                    found.bad(
                        format!("drivers.list: {MODULE} {parameters}: nothing would be taken over"),
                        format!("leave {ENABLE} out: the running kernel's opt-in goes with the jump"),
                    );
                }
            }
        }
        Placed::AmongModules => {
            if let Some(module) = &contents.modules {
                loadable(&mut found, module, next);
                found.unknown(
                    format!(
                        "{}: whether it is loaded before /dev/liveupdate is opened does not show",
                        module.path
                    ),
                    put_in,
                );
            }
        }
        Placed::Nowhere => {
            let others = next.image.map(|image| image.abi.driver.iter().cloned().collect::<Vec<_>>());
            match others.unwrap_or_default().as_slice() {
                [] => found
                    .bad(format!("the target has no {MODULE}, neither built in nor in its bundle"), put_in),
                others => found.bad(
                    format!("target's image: {}, wanted {ABI}", others.join(", ")),
                    "build the target with the driver of this release of liveupdate",
                ),
            }
        }
        Placed::Unknown => {
            found.unknown("target's image: whether the driver is built in cannot be read", put_in);
        }
    }
    // Ours goes along, but what the bundle says comes after it and counts.
    if next.opt_in() == Some(false) {
        found.bad(
            format!("target's command line: {MODULE}.{ENABLE} is off: nothing would be taken over"),
            format!("leave {MODULE}.{ENABLE} out of it"),
        );
    }
    found.gate()
}

fn loadable(found: &mut Findings, module: &DriverModule, next: NextKernel<'_>) {
    let path = &module.path;
    let anew = "build the driver for the target's kernel";
    let file = match &module.file {
        Ok(file) => file,
        Err(error) => {
            found.bad(format!("{path}: {error}"), anew);
            return;
        }
    };
    let abi: Vec<&str> = module.abi.iter().map(String::as_str).collect();
    if module.abi.contains(ABI) {
        found.good(format!("{path}: {ABI}"));
    } else {
        found.bad(
            format!(
                "{path}: {}, wanted {ABI}",
                if abi.is_empty() { "no ABI".into() } else { abi.join(", ") }
            ),
            "put the driver of this release of liveupdate into the bundle",
        );
    }
    let image = next.image.ok();
    match (&file.vermagic, image.and_then(|image| image.vermagic.as_ref())) {
        (None, _) => found.bad(format!("{path}: no vermagic"), anew),
        (Some(module), Some(kernel)) if module.trim_end() == kernel.trim_end() => {
            found.good(format!("{path} and target's image: vermagic {}", module.trim_end()));
        }
        (Some(module), Some(kernel)) => found.bad(
            format!("{path}: vermagic {}, target's image: {}", module.trim_end(), kernel.trim_end()),
            anew,
        ),
        (Some(module), None) if file.release() != Some(next.release) => {
            found.bad(format!("{path}: vermagic {}, wanted {}", module.trim_end(), next.release), anew);
        }
        (Some(module), None) => found.unknown(
            format!("{path}: vermagic {}; the image does not tell its own", module.trim_end()),
            "build the driver into the target's kernel",
        ),
    }
    let config = image.and_then(|image| image.config.as_ref().ok());
    match config {
        None => found.unknown(
            "target's image: whether it takes unsigned modules cannot be read",
            "build with CONFIG_IKCONFIG=y",
        ),
        Some(config) if config.built_in("CONFIG_MODULE_SIG_FORCE") && !file.signed => found.bad(
            format!("{path}: not signed, and the target has CONFIG_MODULE_SIG_FORCE=y"),
            "sign the driver with a key that the target's kernel trusts",
        ),
        Some(config) if config.built_in("CONFIG_MODULE_SIG_FORCE") => found.unknown(
            format!("{path}: signed; whether the target's kernel trusts that key does not show"),
            "build the driver into the target's kernel",
        ),
        Some(_) => {
            found.good(format!("{path}: {}", if file.signed { "signed" } else { "needs no signature" }))
        }
    }
    if config.is_some_and(|config| config.built_in("CONFIG_MODVERSIONS")) {
        found.unknown(
            format!("{path}: CONFIG_MODVERSIONS=y, and the kernel's symbol versions are not in the bundle"),
            "build the driver into the target's kernel",
        );
    }
}
