//! The gate over the image of the kernel to update to.

use std::collections::BTreeSet;

use liveupdate_host::image::{
    Abi, BootHeader, Compression, Config, Format, ImageError, KernelImage, Payload,
};
use liveupdate_host::linux::boot_parameters::BootParameters;
use liveupdate_host::linux::gates::{Formats, Manifest, Running, Wanted, target_image, target_kernel};
use liveupdate_node_core::gate::Gate;

use crate::machine::{fail, pass, unknown};

const CONFIG: &str = "CONFIG_KEXEC_HANDOVER=y\nCONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT=y\nCONFIG_LIVEUPDATE=y\n\
    CONFIG_LIVEUPDATE_MEMFD=y\nCONFIG_KEXEC_FILE=y\n";
const RELEASE: &str = "7.3.5-lu2";

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(crate) fn image() -> KernelImage {
    KernelImage {
        format: Format::BzImage,
        architecture: "x86_64".into(),
        release: Some(RELEASE.into()),
        other_release: None,
        banner: None,
        vermagic: None,
        boot: Some(BootHeader {
            protocol: "2.15".into(),
            setup_sectors: 4,
            loaded_high: true,
            relocatable: true,
            flags: vec!["KERNEL_64", "CAN_BE_LOADED_ABOVE_4G"],
            init_size: 32 << 20,
            alignment: 2 << 20,
            preferred_address: 16 << 20,
            command_line_limit: 2047,
            kexec_problems: Vec::new(),
        }),
        payload: Some(Payload {
            compression: Compression::Gzip,
            packed: 1,
            unpacked: Some(2),
            problem: None,
        }),
        config: Ok(Config::parse(CONFIG)),
        abi: Abi {
            kho: set(&["kho-v4"]),
            luo: set(&["luo-v5"]),
            memfd: set(&["memfd-v2"]),
            others: set(&[]),
            driver: set(&[]),
            patches: set(&[]),
        },
    }
}

fn formats() -> Formats {
    let some = |text: &str| Some(text.to_owned());
    Formats { kho: some("kho-v4"), luo: some("luo-v5"), memfd: some("memfd-v2") }
}

fn running() -> Running {
    Running { architecture: "x86_64".into(), formats: formats(), source: "its bundle's image".into() }
}

fn judge(image: &KernelImage, manifest: Option<&Manifest>) -> Gate {
    judge_with(image, manifest, "kho=on liveupdate=on", &running())
}

fn judge_with(image: &KernelImage, manifest: Option<&Manifest>, line: &str, running: &Running) -> Gate {
    let parameters = BootParameters::parse(line);
    target_kernel(Ok(image), manifest, Wanted { release: RELEASE, parameters: Some(&parameters) }, running)
}

fn signed(config: &str, formats: Formats) -> Manifest {
    Manifest { config: Some(Config::parse(config)), formats }
}

#[test]
fn an_image_that_says_all_and_fits_passes() {
    let gate = judge(&image(), None);
    pass(&gate, "image and running kernel: luo-v5");
    assert!(gate.evidence.contains("embedded configuration: CONFIG_KEXEC_HANDOVER=y"), "{}", gate.evidence);
    pass(&judge(&image(), Some(&signed(CONFIG, formats()))), "release 7.3.5-lu2");
}

#[test]
fn what_is_no_whole_image_of_this_machine_and_release_fails() {
    let wanted = Wanted { release: RELEASE, parameters: None };
    let error = ImageError::NotAKernel { what: "a script".into() };
    fail(&target_kernel(Err(&error), None, wanted, &running()), "not a kernel image: a script");
    let arm = KernelImage { architecture: "aarch64".into(), ..image() };
    fail(&judge(&arm, None), "of architecture aarch64, this machine is x86_64");
    fail(
        &judge(&KernelImage { release: Some("7.3.4".into()), ..image() }, None),
        "release 7.3.4, wanted 7.3.5-lu2",
    );
    unknown(&judge(&KernelImage { release: None, ..image() }, None), "tells no release");
    fail(
        &judge(&KernelImage { other_release: Some("7.0".into()), ..image() }, None),
        "disagree about the release",
    );
    fail(
        &judge(&KernelImage { boot: None, format: Format::Vmlinux, ..image() }, None),
        "cannot be loaded by kexec_file_load",
    );
    let mut fixed = image();
    fixed.boot.as_mut().unwrap().kexec_problems.push("it cannot be loaded above 4 GiB".into());
    fail(&judge(&fixed, None), "it cannot be loaded above 4 GiB");
}

#[test]
fn a_stock_kernel_fails_by_its_missing_strings_whatever_a_manifest_says() {
    let stock = KernelImage { config: Err("the image embeds none".into()), abi: Abi::default(), ..image() };
    fail(&judge(&stock, None), "its kernel has no kho-v*, no luo-v*, no memfd-v*");
    fail(&judge(&stock, Some(&signed(CONFIG, formats()))), "it can take over nothing");
    // Built in by its own account, and not there.
    let liar = KernelImage { abi: Abi { luo: set(&[]), ..image().abi }, ..image() };
    fail(&judge(&liar, None), "no luo-v*");
}

#[test]
fn strings_alone_leave_it_unknown_until_a_signed_manifest_speaks() {
    let silent =
        KernelImage { config: Err("the image embeds none (CONFIG_IKCONFIG is not set)".into()), ..image() };
    unknown(&judge(&silent, None), "no configuration: the image embeds none");
    pass(
        &judge(&silent, Some(&signed(CONFIG, Formats::default()))),
        "signed manifest: CONFIG_KEXEC_HANDOVER=y",
    );
    fail(
        &judge(&silent, Some(&signed("CONFIG_KEXEC_HANDOVER=y\n", Formats::default()))),
        "# CONFIG_LIVEUPDATE is not set",
    );
}

#[test]
fn a_kernel_that_cannot_be_unpacked_is_unknown_and_a_signed_manifest_can_speak_for_it() {
    let payload = Payload {
        compression: Compression::Unknown,
        packed: 1,
        unpacked: None,
        problem: Some("damaged".into()),
    };
    let closed =
        KernelImage { payload: Some(payload), config: Err("unread".into()), abi: Abi::default(), ..image() };
    unknown(&judge(&closed, None), "its kernel cannot be read: damaged");
    // Still unknown: nobody has seen that the image is what the manifest describes.
    unknown(&judge(&closed, Some(&signed(CONFIG, formats()))), "its kernel cannot be read");
    let other = Formats { luo: Some("luo-v6".into()), ..formats() };
    fail(&judge(&closed, Some(&signed(CONFIG, other))), "luo-v6, running kernel: luo-v5");
}

#[test]
fn image_and_manifest_must_agree() {
    let other = Formats { memfd: Some("memfd-v3".into()), ..formats() };
    fail(&judge(&image(), Some(&signed(CONFIG, other))), "image has memfd-v2, its manifest says memfd-v3");
    let config = CONFIG.replace("CONFIG_LIVEUPDATE_MEMFD=y", "CONFIG_LIVEUPDATE_MEMFD=m");
    fail(&judge(&image(), Some(&signed(&config, formats()))), "its manifest says CONFIG_LIVEUPDATE_MEMFD=m");
}

#[test]
fn formats_must_be_the_running_kernels() {
    for (field, word) in [("kho", "kho-v3"), ("luo", "luo-v4"), ("memfd", "memfd-v1")] {
        let mut formats = formats();
        match field {
            "kho" => formats.kho = Some(word.into()),
            "luo" => formats.luo = Some(word.into()),
            _ => formats.memfd = Some(word.into()),
        }
        let now = Running { formats, ..running() };
        fail(&judge_with(&image(), None, "liveupdate=on", &now), &format!("running kernel: {word}"));
    }
    let now = Running { formats: Formats { memfd: None, ..formats() }, ..running() };
    unknown(
        &judge_with(&image(), None, "liveupdate=on", &now),
        "which version of memfd the running kernel writes",
    );
    let two = KernelImage { abi: Abi { luo: set(&["luo-v5", "luo-v6"]), ..image().abi }, ..image() };
    unknown(&judge(&two, None), "several versions of luo: luo-v5, luo-v6");
}

#[test]
fn the_command_line_must_switch_it_on() {
    fail(&judge_with(&image(), None, "kho=on", &running()), "no liveupdate=on");
    fail(&judge_with(&image(), None, "kho=off liveupdate=on", &running()), "no kho=on");
    pass(&judge_with(&image(), None, "liveupdate=on", &running()), "liveupdate=on");
    let plain = Config::parse(&CONFIG.replace("CONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT=y\n", ""));
    let plain = KernelImage { config: Ok(plain), ..image() };
    fail(&judge_with(&plain, None, "liveupdate=on", &running()), "no kho=on");
    let gate = target_kernel(Ok(&image()), None, Wanted { release: RELEASE, parameters: None }, &running());
    unknown(&gate, "the target's command line is not known");
}

#[test]
fn an_image_alone_tells_what_speaks_against_it() {
    pass(&target_image(&image()), "image: luo-v5");
    let stock = KernelImage { config: Err("the image embeds none".into()), abi: Abi::default(), ..image() };
    fail(&target_image(&stock), "no luo-v*");
    unknown(&target_image(&KernelImage { config: stock.config, ..image() }), "no configuration");
    fail(&target_image(&KernelImage { boot: None, ..image() }), "cannot be loaded");
    fail(&target_image(&KernelImage { other_release: Some("7.0".into()), ..image() }), "disagree");
}
