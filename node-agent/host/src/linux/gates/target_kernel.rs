use std::collections::BTreeSet;

use liveupdate_node_core::gate::{Gate, GateId};

use super::kexec_handover::switched_on;
use super::{Findings, named};
use crate::image::{Config, ImageError, KernelImage};
use crate::linux::boot_parameters::BootParameters;

/// Versions of the formats of one kernel; none: not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formats {
    /// `kho-v4`
    pub kho: Option<String>,
    /// `luo-v5`
    pub luo: Option<String>,
    /// `memfd-v2`
    pub memfd: Option<String>,
}

impl Formats {
    /// Those of an image that has exactly one version of each.
    pub fn of(image: &KernelImage) -> Self {
        let only = |set: &BTreeSet<String>| set.first().filter(|_| set.len() == 1).cloned();
        Self { kho: only(&image.abi.kho), luo: only(&image.abi.luo), memfd: only(&image.abi.memfd) }
    }
}

/// The kernel that runs now.
#[derive(Clone, Debug)]
pub struct Running {
    /// `uname -m`
    pub architecture: String,
    /// What it writes.
    pub formats: Formats,
    /// Where that is known from.
    pub source: String,
}

/// What a signed manifest says of the image. Only a manifest whose signature was checked may be passed: a file
/// beside the image proves nothing.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// The configuration that it was built with.
    pub config: Option<Config>,
    /// Its formats.
    pub formats: Formats,
}

/// What the target has to be.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// What `uname -r` must say.
    pub release: &'a str,
    /// Its command line; none: not known yet.
    pub parameters: Option<&'a BootParameters>,
}

const NEEDED: [&str; 4] =
    ["CONFIG_KEXEC_HANDOVER", "CONFIG_LIVEUPDATE", "CONFIG_LIVEUPDATE_MEMFD", "CONFIG_KEXEC_FILE"];

/// The target's configuration and formats fit the running kernel's. The image itself outranks a signed
/// manifest; where both speak they must agree; formats that are not in an image that was read whole are
/// absent.
pub fn target_kernel(
    image: Result<&KernelImage, &ImageError>,
    manifest: Option<&Manifest>,
    wanted: Wanted<'_>,
    running: &Running,
) -> Gate {
    let mut found = Findings::of(GateId::TargetKernel, "");
    let image = match image {
        Ok(image) => image,
        Err(error) => {
            found.bad(format!("image: {error}"), "put a whole bzImage into the bundle");
            return found.gate();
        }
    };
    identity(&mut found, image, wanted, running);
    loadable(&mut found, image);
    let handover_default = configuration(&mut found, image, manifest);
    command_line(&mut found, wanted, handover_default);
    let embedded = formats(&mut found, image);
    agree(&mut found, image, &embedded, manifest);
    fit(&mut found, image, &embedded, manifest, running);
    found.gate()
}

/// As much of [`target_kernel`] as the image alone can answer, on no machine in particular. A pass says that
/// nothing in the image speaks against it; what it is to replace, and how it is started, is not asked.
pub fn target_image(image: &KernelImage) -> Gate {
    let mut found = Findings::of(GateId::TargetKernel, "");
    loadable(&mut found, image);
    let _ = configuration(&mut found, image, None);
    let embedded = formats(&mut found, image);
    for format in [embedded.kho, embedded.luo, embedded.memfd].into_iter().flatten() {
        found.good(format!("image: {format}"));
    }
    if let Some(other) = &image.other_release {
        disagreement(&mut found, other);
    }
    found.gate()
}

fn disagreement(found: &mut Findings, other: &str) {
    found.bad(
        format!("image: its header and its kernel disagree about the release; the kernel says {other}"),
        "build the image anew: its header was changed",
    );
}

fn identity(found: &mut Findings, image: &KernelImage, wanted: Wanted<'_>, running: &Running) {
    if image.architecture != running.architecture {
        found.bad(
            format!(
                "image: of architecture {}, this machine is {}",
                image.architecture, running.architecture
            ),
            "put an image of this machine's architecture into the bundle",
        );
    }
    match &image.release {
        Some(release) if release == wanted.release => found.good(format!("image: release {release}")),
        Some(release) => found.bad(
            format!("image: release {release}, wanted {}", wanted.release),
            "correct target.release, or name the bundle of that release",
        ),
        None => found.unknown("image: tells no release", "build the image anew"),
    }
    if let Some(other) = &image.other_release {
        disagreement(found, other);
    }
}

/// Whether kexec_file_load(2) takes it.
fn loadable(found: &mut Findings, image: &KernelImage) {
    match &image.boot {
        Some(boot) => {
            for problem in &boot.kexec_problems {
                found.bad(format!("image: {problem}"), "build a kernel that kexec_file_load(2) takes");
            }
        }
        None => found.bad(
            format!("image: {} cannot be loaded by kexec_file_load(2) here", image.format.as_str()),
            "put the bzImage of the same build into the bundle",
        ),
    }
}

/// Whether handover is on by default, where the configuration is known.
fn configuration(found: &mut Findings, image: &KernelImage, manifest: Option<&Manifest>) -> Option<bool> {
    let signed = manifest.and_then(|manifest| manifest.config.as_ref());
    let (config, source) = match (&image.config, signed) {
        (Ok(config), _) => (config, "embedded configuration"),
        (Err(_), Some(config)) => (config, "signed manifest"),
        (Err(reason), None) => {
            found.unknown(
                format!("image: no configuration: {reason}"),
                "build with CONFIG_IKCONFIG=y, or give the configuration in the signed manifest",
            );
            return None;
        }
    };
    let missing: Vec<String> =
        NEEDED.iter().filter(|option| !config.built_in(option)).map(|option| config.line(option)).collect();
    if missing.is_empty() {
        found.good(format!("{source}: {}", NEEDED.map(|option| config.line(option)).join(", ")));
    } else {
        found.bad(
            format!("{source}: {}", missing.join(", ")),
            "build the target with CONFIG_LIVEUPDATE=y and all that it needs",
        );
    }
    Some(config.built_in("CONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT"))
}

/// The orchestrator is off unless the command line switches it on, and sessions are out of reach then.
fn command_line(found: &mut Findings, wanted: Wanted<'_>, handover_default: Option<bool>) {
    let Some(parameters) = wanted.parameters else {
        found.unknown("the target's command line is not known", "name a bundle with a manifest");
        return;
    };
    match parameters.switch("liveupdate") {
        Some(true) => found.good("target's command line: liveupdate=on"),
        _ => found.bad("target's command line: no liveupdate=on", "append liveupdate=on to it"),
    }
    match switched_on(parameters, handover_default) {
        Some(true) => {}
        Some(false) => found.bad("target's command line: no kho=on", "append kho=on to it"),
        None => found
            .unknown("target's command line: no kho=on, and its default is not known", "append kho=on to it"),
    }
}

/// The image's formats; what is not in it is bad when it was read whole.
fn formats(found: &mut Findings, image: &KernelImage) -> Formats {
    if !image.scanned() {
        let problem =
            image.payload.as_ref().and_then(|payload| payload.problem.as_deref()).unwrap_or_default();
        found.unknown(
            format!("image: its kernel cannot be read: {problem}"),
            "build the image anew, with a compression that is known",
        );
        return Formats::default();
    }
    let all = [("kho", &image.abi.kho), ("luo", &image.abi.luo), ("memfd", &image.abi.memfd)];
    let absent: Vec<&str> = all.iter().filter(|(_, set)| set.is_empty()).map(|(name, _)| *name).collect();
    if !absent.is_empty() {
        let strings: Vec<String> = absent.iter().map(|name| format!("{name}-v*")).collect();
        found.bad(
            format!("image: its kernel has no {}: it can take over nothing", strings.join(", no ")),
            "build the target with CONFIG_KEXEC_HANDOVER, CONFIG_LIVEUPDATE and CONFIG_LIVEUPDATE_MEMFD (a distribution's stock kernel has none of them)",
        );
    }
    for (name, set) in all.iter().filter(|(_, set)| set.len() > 1) {
        let several: Vec<&str> = set.iter().map(String::as_str).collect();
        found.unknown(
            format!("image: several versions of {name}: {}", named(&several)),
            "say in the signed manifest which of them it writes",
        );
    }
    Formats::of(image)
}

fn agree(found: &mut Findings, image: &KernelImage, embedded: &Formats, manifest: Option<&Manifest>) {
    let Some(manifest) = manifest else { return };
    let remedy = "make the manifest from the image that it describes";
    for (ours, theirs) in pairs(embedded, &manifest.formats) {
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours != theirs
        {
            found.bad(format!("image has {ours}, its manifest says {theirs}"), remedy);
        }
    }
    if let (Ok(embedded), Some(signed)) = (&image.config, &manifest.config) {
        let differ = NEEDED.iter().find(|option| embedded.get(option) != signed.get(option));
        if let Some(option) = differ {
            found.bad(
                format!("image has {}, its manifest says {}", embedded.line(option), signed.line(option)),
                remedy,
            );
        }
    }
}

fn fit(
    found: &mut Findings,
    image: &KernelImage,
    embedded: &Formats,
    manifest: Option<&Manifest>,
    running: &Running,
) {
    // What is known to be absent has been told, and a manifest does not make it appear.
    let signed =
        manifest.filter(|_| !image.scanned() || !image.abi.luo.is_empty()).map(|m| m.formats.clone());
    let signed = signed.unwrap_or_default();
    let names = ["kho", "luo", "memfd"];
    for ((target, now), (name, signed)) in pairs(embedded, &running.formats)
        .into_iter()
        .zip(names.into_iter().zip([&signed.kho, &signed.luo, &signed.memfd]))
    {
        match (target.as_ref().or(signed.as_ref()), now) {
            (Some(target), Some(now)) if target == now => {
                found.good(format!("image and running kernel: {now}"));
            }
            (Some(target), Some(now)) => found.bad(
                format!(
                    "image: {target}, running kernel: {now} ({}): the one cannot read what the other writes",
                    running.source
                ),
                "build the target with the running kernel's formats",
            ),
            (Some(_), None) => found.unknown(
                format!("which version of {name} the running kernel writes ({})", running.source),
                "boot the running kernel from a bundle, so that its image is known",
            ),
            // Told above: absent, several, or not read.
            (None, _) => {}
        }
    }
}

fn pairs<'a>(one: &'a Formats, other: &'a Formats) -> [(&'a Option<String>, &'a Option<String>); 3] {
    [(&one.kho, &other.kho), (&one.luo, &other.luo), (&one.memfd, &other.memfd)]
}
