//! What is needed to commit, and the proof of the jump. Each can be made by its check alone.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::{Attempt, Nonce};
use crate::gate::{self, Gate, Shortfall};
use crate::{GateResult, Monotonic};

/// Longest permission.
pub const MAX_PERMISSION: Duration = Duration::from_secs(30);

/// That every required gate was read at the end of Settling, on this boot, and passed (invariant 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    id: String,
    attempt: String,
    boot_id: String,
}

/// Why there is no receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoReceipt {
    /// The gates were read on another boot than the attempt's.
    OtherBoot {
        /// The attempt's.
        attempt: String,
        /// Where they were read.
        read: String,
    },
    /// Required gates do not pass; never empty.
    Gates(Vec<Shortfall>),
}

impl fmt::Display for NoReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherBoot { attempt, read } => {
                write!(
                    f,
                    "gates were read on boot {read:?}, but the attempt began on boot {attempt:?}: begin again"
                )
            }
            Self::Gates(shortfalls) => {
                f.write_str("required gates do not pass: ")?;
                for (i, shortfall) in shortfalls.iter().enumerate() {
                    write!(f, "{}{shortfall}", if i == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
        }
    }
}

impl core::error::Error for NoReceipt {}

impl Receipt {
    /// Checks that the gates are all that the attempt needs, read on this boot, and that all pass. A gate
    /// that is not among them is unknown, which is not a pass.
    ///
    /// # Errors
    /// Another boot, or the required gates that do not pass.
    pub fn check(attempt: &Attempt, boot_id: &str, gates: &[Gate]) -> Result<Self, NoReceipt> {
        if attempt.boot_id != boot_id {
            return Err(NoReceipt::OtherBoot { attempt: attempt.boot_id.clone(), read: boot_id.into() });
        }
        let acknowledged: Vec<&str> = attempt.acknowledged.iter().map(String::as_str).collect();
        let mut short = gate::node_shortfalls(gates, attempt.continuity(), &acknowledged);
        for (device, minimum) in attempt.preserved() {
            short.extend(gate::device_shortfalls(
                gates,
                &device.address,
                &device.holder,
                minimum,
                &acknowledged,
            ));
        }
        for holder in &attempt.holders {
            short.extend(gate::holder_shortfalls(gates, holder));
        }
        short.sort_by(|a, b| (a.id, &a.subject).cmp(&(b.id, &b.subject)));
        short.dedup();
        if !short.is_empty() {
            return Err(NoReceipt::Gates(short));
        }
        Ok(Self { id: receipt_id(attempt, gates), attempt: attempt.id.clone(), boot_id: boot_id.into() })
    }

    /// Names it: equal for equal attempt, boot, target and gates. Not a secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn is_for(&self, attempt: &Attempt) -> bool {
        self.attempt == attempt.id && self.boot_id == attempt.boot_id
    }
}

/// FNV-1a over 128 bits: names a receipt; that it is genuine is a matter of who sent it.
fn receipt_id(attempt: &Attempt, gates: &[Gate]) -> String {
    let mut gates: Vec<_> = gates.iter().map(|g| (g.id, g.subject.as_str(), g.result)).collect();
    gates.sort_unstable();
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let mut add = |word: &str| {
        for byte in word.bytes().chain([0]) {
            hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    };
    for word in [&attempt.id, &attempt.boot_id, &attempt.target.release, &attempt.target.digest] {
        add(word);
    }
    for (id, subject, result) in gates {
        add(id.as_str());
        add(subject);
        add(GateResult::as_str(result));
    }
    alloc::format!("{hash:032x}")
}

/// Leave to jump: for one attempt, one receipt, one boot, until an end on the node's monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    receipt: String,
    boot_id: String,
    until: Monotonic,
}

/// Why there is no permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPermission {
    /// It is for another attempt.
    OtherAttempt(String),
    /// It answers another receipt.
    OtherReceipt(String),
    /// It is for another boot.
    OtherBoot(String),
    /// Longer than 30 s.
    TooLong(Duration),
    /// It has run out.
    RanOut,
}

impl fmt::Display for NoPermission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherAttempt(attempt) => {
                write!(f, "the permission is for attempt {attempt:?}, not this one")
            }
            Self::OtherReceipt(receipt) => {
                write!(f, "the permission answers receipt {receipt:?}, not this one")
            }
            Self::OtherBoot(boot) => write!(f, "the permission is for boot {boot:?}, which is over"),
            Self::TooLong(asked) => {
                write!(f, "the permission is for {} s; 30 s is the longest", asked.as_secs())
            }
            Self::RanOut => f.write_str("the permission has run out: ask for another"),
        }
    }
}

impl core::error::Error for NoPermission {}

impl Permission {
    /// Takes a permission as it was received `received` on the node's clock.
    ///
    /// # Errors
    /// It is for another attempt, receipt or boot, or too long.
    pub fn grant(
        receipt: &Receipt,
        attempt: &str,
        receipt_id: &str,
        boot_id: &str,
        received: Monotonic,
        duration: Duration,
    ) -> Result<Self, NoPermission> {
        if attempt != receipt.attempt {
            return Err(NoPermission::OtherAttempt(attempt.into()));
        }
        if receipt_id != receipt.id {
            return Err(NoPermission::OtherReceipt(receipt_id.into()));
        }
        if boot_id != receipt.boot_id {
            return Err(NoPermission::OtherBoot(boot_id.into()));
        }
        if duration > MAX_PERMISSION {
            return Err(NoPermission::TooLong(duration));
        }
        Ok(Self { receipt: receipt_id.into(), boot_id: boot_id.into(), until: received.after(duration) })
    }

    /// When it ends.
    pub fn until(&self) -> Monotonic {
        self.until
    }

    /// Whether it still holds.
    ///
    /// # Errors
    /// Another boot, or it has run out.
    pub fn check(&self, now: Monotonic, boot_id: &str) -> Result<(), NoPermission> {
        if self.boot_id != boot_id {
            return Err(NoPermission::OtherBoot(self.boot_id.clone()));
        }
        if now >= self.until {
            return Err(NoPermission::RanOut);
        }
        Ok(())
    }

    pub(super) fn answers(&self, receipt: &Receipt) -> bool {
        self.receipt == receipt.id && self.boot_id == receipt.boot_id
    }
}

/// Receipt and permission together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Go {
    /// See [`Receipt`].
    pub receipt: Receipt,
    /// See [`Permission`].
    pub permission: Permission,
}

/// What a starting keeper finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Of the running boot.
    pub boot_id: String,
    /// What `uname -r` says.
    pub release: String,
    /// What the preserved index holds, if there is one.
    pub nonce: Option<Nonce>,
    /// Boot id of the kernel that jumped into this one, by the machine's own word. None: this boot was not jumped into.
    pub from: Option<String>,
}

/// That the node jumped to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    boot_id: String,
    release: String,
    nonce_returned: bool,
}

/// Why there is no proof; the jump went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoProof {
    /// Still the boot of before.
    SameBoot,
    /// Another kernel came up.
    Release {
        /// The target's.
        expected: String,
        /// What runs.
        found: String,
    },
    /// The nonce did not come back: the node went down and up by another way, or nothing can be taken out of its kernel.
    Nonce,
    /// Nothing could carry a nonce, and the machine says that no jump of the attempt's boot led here.
    NotJumped {
        /// The boot that it says it came from.
        from: Option<String>,
    },
}

impl fmt::Display for NoProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameBoot => f.write_str("the boot id is still the one from before"),
            Self::Release { expected, found } => write!(f, "kernel {found:?} came up instead of {expected:?}"),
            Self::Nonce => f.write_str(
                "the attempt's nonce did not come back: the node went down and up by another way than the jump, or its kernel \
                 gives out nothing of what was handed over (the keeper's log says which)",
            ),
            Self::NotJumped { from: None } => f.write_str(
                "the target's release runs, but nothing jumped into it: the node went down and was started in another way \
                 (look at its console: the kernel that was jumped to may have died)",
            ),
            Self::NotJumped { from: Some(from) } => {
                write!(f, "the target's release runs, but was jumped into by boot {from:?}, which is not the attempt's")
            }
        }
    }
}

impl core::error::Error for NoProof {}

impl Proof {
    /// Boot id changed, release is the target's, and the nonce came back. Where nothing was handed over nothing could carry
    /// it: then the machine has to say itself that it was jumped into, and by which boot. The same release alone may be an
    /// older kernel of that name, which firmware started after the jump had failed.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn check(attempt: &Attempt, evidence: &Evidence) -> Result<Self, NoProof> {
        if evidence.boot_id == attempt.boot_id || evidence.boot_id.is_empty() {
            return Err(NoProof::SameBoot);
        }
        if evidence.release != attempt.target.release {
            let (expected, found) = (attempt.target.release.clone(), evidence.release.clone());
            return Err(NoProof::Release { expected, found });
        }
        let nonce_returned = evidence.nonce == Some(attempt.nonce);
        if attempt.carries_nonce() && !nonce_returned {
            return Err(NoProof::Nonce);
        }
        if !nonce_returned && evidence.from.as_ref() != Some(&attempt.boot_id) {
            return Err(NoProof::NotJumped { from: evidence.from.clone() });
        }
        Ok(Self { boot_id: evidence.boot_id.clone(), release: evidence.release.clone(), nonce_returned })
    }

    /// From the journal, which was written after the check.
    pub(super) fn recorded(boot_id: String, release: String, nonce_returned: bool) -> Self {
        Self { boot_id, release, nonce_returned }
    }

    /// The boot that the jump led to.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// The kernel that runs.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The nonce came back; false where nothing was handed over, so that nothing could carry it and the machine's own word
    /// for the jump had to do.
    pub fn nonce_returned(&self) -> bool {
        self.nonce_returned
    }
}
