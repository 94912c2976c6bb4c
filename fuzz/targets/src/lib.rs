//! What is fuzzed: every reader of bytes that somebody else may have written. Each target takes any bytes, must
//! neither panic nor take memory without bound, and checks what must hold of what it accepts.
//!
//! Each has a folder of its name under `fuzz/corpus/`. The ordinary tests run all files there and mutations of them
//! (`tests/short.rs`); `make fuzz` looks for new ones with libFuzzer.

use liveupdate_holder::frame::Sequence;
use liveupdate_host::bundle::{Manifest, PublicKey, Signatures, Signers, SigningKey, Trust};
use liveupdate_host::image;
use liveupdate_node_core::codec::checksum;
use liveupdate_node_core::fence::Fence;
use liveupdate_node_core::node::Node;

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Answers whether the bytes were accepted.
    pub run: fn(&[u8]) -> bool,
}

/// All targets.
pub const TARGETS: [Target; 5] = [
    Target { name: "handover", run: handover },
    Target { name: "image", run: image },
    Target { name: "journal", run: journal },
    Target { name: "manifest", run: manifest },
    Target { name: "record", run: liveupdate_host::linux::machine::fuzz_record },
];

/// Packets of the handover socket, one after the other on one connection: each begins with its length (two bytes,
/// little endian) and the number of its files (one byte). Accepted: at least one message came out.
pub fn handover(bytes: &[u8]) -> bool {
    let (mut receiver, mut again, mut sender) = <(Sequence, Sequence, Sequence)>::default();
    let (mut rest, mut accepted) = (bytes, false);
    while let [low, high, files, tail @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (packet, behind) = tail.split_at(length);
        rest = behind;
        // The connection ends with the first packet that is wrong.
        let Ok((attempt, message)) = receiver.decode(packet, usize::from(*files)) else { break };
        accepted = true;
        if let Ok(packet) = sender.encode(&attempt, message.clone(), usize::from(*files)) {
            let read = again.decode(&packet, usize::from(*files));
            assert_eq!(read, Ok((attempt, message)), "what was accepted reads back");
        }
    }
    accepted
}

/// A kernel's image, and each of its parts by itself. Accepted: it is one.
pub fn image(bytes: &[u8]) -> bool {
    image::fuzz_one(bytes);
    image::inspect(bytes, image::Limits { unpacked: 1 << 20 }).is_ok()
}

/// The texts in the keeper's journal: as they are, and with the end line that fits, which no mutation would find.
/// Accepted: a state, or an epoch.
pub fn journal(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let lines: String =
        text.lines().filter(|line| !line.starts_with("end ")).flat_map(|line| [line, "\n"]).collect();
    let whole = format!("{lines}end {:016x}\n", checksum(lines.as_bytes()));
    let read = [text.as_ref(), &whole].map(|text| {
        let node = Node::decode(text);
        if let Ok(node) = &node {
            assert_eq!(Node::decode(&node.encode()).as_ref(), Ok(node), "what was accepted reads back");
        }
        let fence = Fence::decode(text);
        if let Ok(fence) = &fence {
            assert_eq!(Fence::decode(&fence.encode()).as_ref(), Ok(fence), "what was accepted reads back");
        }
        node.is_ok() || fence.is_ok()
    });
    read.contains(&true)
}

/// A bundle's manifest, the signatures beside it, and a key. Accepted: a manifest, or signatures.
pub fn manifest(bytes: &[u8]) -> bool {
    let manifest = Manifest::parse(bytes);
    if let Ok(manifest) = &manifest {
        let written = manifest.to_bytes();
        // Written anew it may be longer than was read, and then too long.
        if let Ok(written) = written {
            assert_eq!(Manifest::parse(&written).as_ref(), Ok(manifest), "what was accepted reads back");
        }
        assert!(manifest.parts().all(|(part, file)| file.size > 0 && file.size <= part.largest()));
    }
    let trust = Trust::judge(b"a manifest", Some(bytes), &Signers::default());
    assert!(
        !matches!(trust, Trust::Signed { .. } | Trust::OtherBytes { .. }),
        "nobody is trusted: {trust:?}"
    );
    if let Ok(key) = PublicKey::from_pem(bytes) {
        assert_eq!(PublicKey::from_pem(key.to_pem().as_bytes()), Ok(key));
    }
    if let Ok(key) = SigningKey::from_pem(bytes) {
        assert_eq!(
            SigningKey::from_pem(key.to_pem().as_bytes()).map(|again| again.public()),
            Ok(key.public())
        );
    }
    manifest.is_ok() || Signatures::parse(bytes).is_ok()
}
