//! The receipt: proof for the controller and the keeper that all required gates were read again.

use liveupdate_host::Target;
use liveupdate_proto::common::v1::Gate;
use liveupdate_proto::node::v1::Receipt;
use sha2::{Digest, Sha256};

/// Binds attempt, boot, target and gates together. Each part goes in with its length, so that no two
/// different lists of parts look alike.
pub(super) fn make(attempt: &str, boot_id: &str, target: &Target, gates: Vec<Gate>) -> Receipt {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    for word in [attempt, boot_id, &target.release, &target.bundle, &target.digest] {
        part(word.as_bytes());
    }
    for gate in &gates {
        for word in [&gate.id, &gate.subject, &gate.evidence] {
            part(word.as_bytes());
        }
        part(&gate.result.to_be_bytes());
    }
    let id = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Receipt { id, boot_id: boot_id.to_owned(), gates }
}

#[cfg(test)]
mod tests {
    use super::{Gate, Target, make};

    #[test]
    fn a_receipt_is_of_one_attempt_boot_target_and_set_of_gates() {
        let target = Target { release: "r".into(), bundle: "b".into(), digest: "d".into() };
        let gate = Gate { id: "KexecAllowed".into(), result: 1, ..Gate::default() };
        let base = make("a", "boot", &target, vec![gate.clone()]);
        assert_eq!(base.id, make("a", "boot", &target, vec![gate.clone()]).id);
        let other = Target { release: "rb".into(), bundle: String::new(), digest: "d".into() };
        for different in [
            make("a2", "boot", &target, vec![gate.clone()]),
            make("a", "boot2", &target, vec![gate.clone()]),
            make("a", "boot", &other, vec![gate.clone()]),
            make("a", "boot", &target, vec![]),
            make("a", "boot", &target, vec![Gate { result: 3, ..gate }]),
        ] {
            assert_ne!(base.id, different.id);
        }
    }
}
