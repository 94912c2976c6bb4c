//! Targets that must not be jumped into: the node is blocked, says why, and nothing in it notices.

use liveupdate_lab::vm::{Kit, KitBundle, Variant};

use crate::bed::{Bed, Wanted};
use crate::matrix::{self, Row};

/// A bundle with another variant's image under the release that it really has.
fn variant(kit: &Kit, variant: Variant) -> KitBundle {
    kit.bundle(variant).unwrap()
}

/// A bundle with a spoilt image.
fn spoilt(kit: &Kit, name: &str, spoil: impl FnOnce(Vec<u8>) -> Vec<u8>) -> KitBundle {
    let kernel = kit.kernels().kernel(Variant::Lu2).unwrap();
    let image = std::fs::read(kernel.image()).unwrap();
    kit.bundle_of(name, &kernel.release, &spoil(image)).unwrap()
}

/// Each target with the gate that refuses it, or what staging says of it, and what the node says of it.
const REFUSED: [(&str, &str, &[&str]); 8] = [
    ("noluo", "TargetKernel", &["CONFIG_LIVEUPDATE is not set"]),
    ("nokho", "TargetKernel", &["CONFIG_KEXEC_HANDOVER is not set"]),
    ("otherabi", "TargetKernel", &["luo-v"]),
    ("truncated", "TargetKernel", &["truncated"]),
    ("32-bits", "TargetKernel", &["64"]),
    ("other-architecture", "TargetKernel", &["aarch64"]),
    ("no-kernel", "TargetKernel", &["not a kernel image"]),
    ("changed", "the bundle is malformed", &["image was changed"]),
];

fn bundles(kit: &Kit) -> Vec<KitBundle> {
    let half = |image: Vec<u8>| image[..image.len() / 2].to_vec();
    // The header's word for it: 64 bits (XLF_KERNEL_64) no more.
    let narrow = |mut image: Vec<u8>| {
        image[0x236] &= !1;
        image
    };
    let other = |_| include_bytes!("../../../fuzz/corpus/image/arm64").to_vec();
    let changed = spoilt(kit, "changed", |image| image);
    // After it was signed.
    let image = kit.disk_folder().join("liveupdate/bundles/changed/image");
    let mut bytes = std::fs::read(&image).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&image, bytes).unwrap();
    vec![
        variant(kit, Variant::NoLuo),
        variant(kit, Variant::NoKho),
        variant(kit, Variant::OtherAbi),
        spoilt(kit, "truncated", half),
        spoilt(kit, "32-bits", narrow),
        spoilt(kit, "other-architecture", other),
        spoilt(kit, "no-kernel", |_| b"this is no kernel".repeat(4096)),
        changed,
    ]
}

#[tokio::test]
async fn targets_that_cannot_take_over_are_refused_by_name_and_the_holder_never_stops() {
    let bed = Bed::start(Wanted::holder(), bundles).await;
    let before = bed.release();
    let mut refusals = Vec::new();
    for (target, (what, gate, says)) in bed.targets.iter().zip(REFUSED) {
        assert!(target.name.ends_with(what), "{what}: {target:?}");
        let name = format!("to-{}", target.name.replace('.', "-"));
        bed.apply(&name, target).await;
        let record = bed
            .await_node(&format!("a refusal of {}", target.name), |status| {
                status.update_name == bed.update_name(&name)
                    && (status.state == "Blocked" || status.aborts >= 1)
            })
            .await;
        println!("{}: {} {}: {}", target.name, record.state, record.reason, record.message);
        for word in [&[gate], says].concat() {
            assert!(record.message.contains(word), "{what}: {word:?} is not in {record:#?}");
        }
        bed.assert_undisturbed().await;
        assert_eq!(bed.said_times("quiesced"), 0, "{}: {:?}", target.name, bed.said());
        bed.delete(&name).await;
        let by = record.message.split_whitespace().nth(1).unwrap_or_default();
        refusals.push((target.release.clone(), format!("refused by `{by}`")));
    }
    // The images of the others have a fault and no other release.
    let rows: Vec<Row<'_>> = refusals[..3]
        .iter()
        .map(|(release, best)| Row { kernels: [&before, release], iommu: "any", held: "anything", best })
        .collect();
    matrix::shows(&rows);
}
