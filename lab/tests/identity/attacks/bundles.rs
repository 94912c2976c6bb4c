//! At an agent's port, with a registry behind it: bundles that somebody has tampered with.

use std::fs;
use std::path::Path;

use liveupdate_host::bundle::cpio::Archive;
use liveupdate_host::bundle::{Digest, MANIFEST, Part, SIGNATURES};
use liveupdate_proto::common::v1::{GateResult, Target};
use liveupdate_proto::refusal::Refusal;

use super::images;
use super::yard::{RELEASE, Yard, parts};
use crate::bed::run;
use crate::logs::Log;
use crate::wire::refused;

fn spoil(path: &Path) -> (Vec<u8>, Digest) {
    let good = fs::read(path).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    fs::write(path, &bad).unwrap();
    (good, Digest::of(&bad))
}

/// By whoever has the registry, or is on the way to it.
#[test]
fn a_changed_byte_in_any_part_of_a_bundle_is_found() {
    run(async |bed| {
        let mut yard = Yard::new(bed).await;
        for (number, name) in
            [MANIFEST, SIGNATURES, "image", "initrd", "modules.cpio", "shim.cpio"].into_iter().enumerate()
        {
            let pushed = yard.good(&format!("part-{number}")).await;
            let wanted = Digest::of(&fs::read(pushed.folder.join(name)).unwrap());
            let place = yard.registry.blob(&wanted.to_string());
            let (good, found) = spoil(&place);
            let why = format!(
                "the bundle is malformed: {name} was changed: its digest is {found}, the manifest says {wanted}; copy \
                 the bundle again"
            );
            yard.refuses(&pushed.target, "the bundle was not fetched", &why).await;
            fs::write(&place, good).unwrap();
            yard.takes(&pushed.target).await;
        }
    });
}

/// By whoever may name a target: digests fit, as he has made them anew. The signature does not.
#[test]
fn a_changed_byte_of_what_was_signed_is_found_though_all_digests_fit() {
    run(async |bed| {
        let mut yard = Yard::new(bed).await;
        for (name, what, by) in [
            ("line", "quiet kho=on", "quiet kho=of"),
            ("signature", "\"signature\": \"", "\"signature\": \"0"),
        ] {
            let twin = yard.good(&format!("{name}-twin")).await;
            let folder = yard.write(name, &parts(name));
            let file = folder.join(if name == "line" { MANIFEST } else { SIGNATURES });
            let text = fs::read_to_string(&file).unwrap();
            let mut changed = text.replacen(what, by, 1);
            if name == "signature" {
                // One digit more in front, and the last one away: 128 as before.
                let end = changed.rfind('"').unwrap();
                changed.remove(end - 1);
            }
            assert_ne!(changed, text);
            fs::write(&file, changed).unwrap();
            let digest = Digest::of(&fs::read(folder.join(MANIFEST)).unwrap());
            let pushed = yard.push(&folder).await;
            let why = format!(
                "bundle {digest} is not fetched: manifest {digest}: the signature of release is of other bytes"
            );
            yard.refuses(&pushed.target, "the bundle was not fetched", &why).await;
            yard.takes(&twin.target).await;
        }
    });
}

#[test]
fn no_path_of_a_bundle_climbs_out() {
    run(async |bed| {
        let mut yard = Yard::new(bed).await;
        let good = yard.good("climbs").await;

        // In the name under which other tools would unpack it.
        let title = "../../../../etc/liveupdate/signers/evil.pub";
        let named = |title: &str| format!("\"org.opencontainers.image.title\": \"{title}\"");
        let hostile = yard.remade(&good, &named("image"), &named(title)).await;
        let why = format!(
            "the bundle is malformed: the artifact {} is no bundle that can be used: image has the title {title:?}, \
             which climbs out",
            hostile.digest
        );
        yard.refuses(&hostile, "the bundle was not fetched", &why).await;

        // In the bundle's own name.
        let log = Log::of_agents();
        let hostile = Target { bundle: "../../etc/liveupdate".into(), ..good.target.clone() };
        refused(yard.stage(&hostile).await, Refusal::Malformed);
        let refusal =
            ["refused a call", "call=\"Stage\"", "reason=\"Malformed\"", "target.bundle", "../../etc"];
        log.line(&refusal).await;

        // In the archive of modules, signed by a key that was stolen.
        let mut archive = Archive::new();
        let path = "lib/modules/../../etc/liveupdate/signers/evil.pub";
        archive.file(path, 0o644, b"mine");
        let mut hostile = parts("modules");
        hostile.insert(Part::Modules, archive.finish());
        let pushed = yard.push(&yard.write("modules", &hostile)).await;
        let log = Log::of_agents();
        let status = yard.stage(&pushed.target).await.unwrap_err();
        let why = format!("{path:?} does not belong under lib/modules/{RELEASE}");
        assert!(status.message().contains(&why), "{status:?}");
        log.line(&["the bundle was not staged", &why, &pushed.target.digest]).await;
        refused(Err::<(), _>(status), Refusal::BundleUnusable);

        assert!(!yard.machine.path("/etc/liveupdate/signers/evil.pub").exists());
        yard.takes(&good.target).await;
    });
}

#[test]
fn what_unpacks_to_more_than_it_may_is_not_unpacked() {
    run(async |bed| {
        let mut yard = Yard::new(bed).await;
        let good = yard.good("unpacks").await;

        // A layer that is said to be packed.
        let mut bomb = parts("layer");
        bomb.insert(Part::Image, images::gzip(&vec![0; 64 << 20]));
        let bomb = yard.push(&yard.write("layer", &bomb)).await;
        let kind = "application/vnd.liveupdate.bundle.image.v1";
        let hostile = yard.remade(&bomb, &format!("\"{kind}\""), &format!("\"{kind}+gzip\"")).await;
        let why = format!(
            "the bundle is malformed: the artifact {} is no bundle that can be used: a layer is of kind \
             \"{kind}+gzip\": layers are not packed, want {kind}",
            hostile.digest
        );
        yard.refuses(&hostile, "the bundle was not fetched", &why).await;

        // The configuration in a kernel that somebody trusted has signed.
        let mut bomb = parts("configuration");
        let text = images::CONFIG.to_owned() + &"CONFIG_X=y\n".repeat(800_000);
        let image = images::kernel(RELEASE, &text);
        assert!(text.len() > (8 << 20) && image.len() < (1 << 20), "{} in {}", text.len(), image.len());
        bomb.insert(Part::Image, image);
        let bomb = yard.push(&yard.write("configuration", &bomb)).await;
        let why = "image: no configuration: the embedded configuration cannot be unpacked: it is larger than any \
                   configuration";
        let log = Log::of_agents();
        let reply = yard.preflight(&bomb.target).await;
        let gate = reply.gates.iter().find(|gate| gate.id == "TargetKernel").unwrap();
        assert!(gate.result() == GateResult::Unknown && gate.evidence.contains(why), "{gate:?}");
        log.line(&["the bundle does not pass", &bomb.target.digest, "TargetKernel: ", why]).await;

        let reply = yard.preflight(&good.target).await;
        let gate = |id: &str| reply.gates.iter().find(|gate| gate.id == id).unwrap();
        assert_eq!(gate("TargetKernel").result(), GateResult::Pass, "{reply:#?}");
        assert!(gate("TargetKernel").evidence.contains("embedded configuration: CONFIG_"), "{reply:#?}");
        let id = yard.key.public().id();
        let evidence = &gate("TargetTrusted").evidence;
        assert!(evidence.ends_with(&format!("signed by release (key {id})")), "{evidence}");
        yard.takes(&good.target).await;
    });
}
