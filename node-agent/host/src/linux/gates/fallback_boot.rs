use liveupdate_node_core::gate::{Gate, GateId};

use super::Findings;
use crate::image::Config;
use crate::linux::boot_parameters::BootParameters;
use crate::linux::fallback::Fallback;

/// A next kernel that dies makes room for the old one: it starts again after a panic, something bites when it
/// hangs, and what firmware starts then is not the kernel that failed. `next` and `config` are the target's;
/// `release` is the release that must not be the default entry.
pub fn fallback_boot(
    fallback: &Fallback,
    next: Option<&BootParameters>,
    config: Option<&Config>,
    release: &str,
) -> Gate {
    let mut found = Findings::of(GateId::FallbackBoot, "");
    panics(&mut found, next, config);
    hangs(&mut found, fallback);
    match &fallback.default_entry {
        Ok(Some((entry, file))) if !release.is_empty() && entry.contains(release) => found.bad(
            format!("{file}: {entry}: the target is the default entry already"),
            "make the running kernel the default entry; the update changes it after verification (persist)",
        ),
        Ok(Some((entry, file))) => found.good(format!("{file}: {entry}")),
        Ok(None) => found.unknown(
            "no boot loader's default entry was found (loader.conf, grubenv, EFI variable)",
            "see to it that the firmware starts the running kernel",
        ),
        Err(error) => found.unknown(error.to_string(), "mount efivarfs and /boot"),
    }
    if let Some(why) = &fallback.not_the_running {
        found.bad(
            format!("a power cut does not start the running kernel: it could not be made the default: {why}"),
            "mend that and update again, or make it the default by hand",
        );
    }
    found.gate()
}

fn panics(found: &mut Findings, next: Option<&BootParameters>, config: Option<&Config>) {
    let given = next
        .and_then(|parameters| parameters.last("panic"))
        .map(|value| (value, "target's command line: panic"));
    let built = config.and_then(|config| config.get("CONFIG_PANIC_TIMEOUT"));
    let timeout = given.or(built.map(|value| (value, "target's configuration: CONFIG_PANIC_TIMEOUT")));
    match timeout.map(|(text, source)| (text.parse::<i64>(), text, source)) {
        Some((Ok(0) | Err(_), text, source)) => found.bad(
            format!("{source}={text}: a panic stays on the screen"),
            "append panic=10 to the target's command line",
        ),
        Some((Ok(_), text, source)) => found.good(format!("{source}={text}")),
        // The kernel's own default is to stay.
        None if next.is_some() => found.bad(
            "target's command line: no panic=, and no CONFIG_PANIC_TIMEOUT is known",
            "append panic=10 to the target's command line",
        ),
        None => found.unknown("the target's command line is not known", "name a target"),
    }
}

fn hangs(found: &mut Findings, fallback: &Fallback) {
    match &fallback.watchdogs {
        Ok(watchdogs) => {
            let armed = watchdogs.iter().find(|watchdog| watchdog.active);
            match (armed, watchdogs.first()) {
                (Some(dog), _) if dog.no_way_out => {
                    found.good(format!(
                        "/sys/class/watchdog/{}: {}, active, nowayout",
                        dog.name, dog.identity
                    ));
                }
                (Some(dog), _) => found.unknown(
                    format!(
                        "/sys/class/watchdog/{}: {}, active: its driver may stop it at the jump",
                        dog.name, dog.identity
                    ),
                    "load the watchdog's driver with nowayout=1",
                ),
                (None, Some(dog)) => found.bad(
                    format!(
                        "/sys/class/watchdog/{}: {}, not active: a kernel that hangs stays so",
                        dog.name, dog.identity
                    ),
                    "set RuntimeWatchdogSec= for systemd",
                ),
                (None, None) => found.bad(
                    "/sys/class/watchdog: none: a kernel that hangs stays so",
                    "load the driver of the machine's watchdog",
                ),
            }
        }
        Err(error) => found.unknown(error.to_string(), "mount /sys"),
    }
}
