//! What goes through the jump beside the files: whose they are, and what proves the jump.
//!
//! ```text
//!  0      8        12       16           24        32
//!  magic | version | length | generation | checksum | JSON of that length | whatever was there before
//! ```
//! Two slots of one size, written in turn: whoever dies while writing one leaves the other. Their size is fixed when the
//! index is made: each of its pages is handed over by the kernel, and that is blackout.

use liveupdate_node_core::outcome::Facts;
use serde::{Deserialize, Serialize};

const MAGIC: [u8; 8] = *b"LUINDEX\0";
const VERSION: u32 = 1;
/// Bytes before the content.
pub(super) const HEADER: usize = 32;

/// Bytes of the largest slot: far more than the largest index that is allowed needs.
pub const SLOT: usize = 1 << 20;
/// A slot is a number of these.
const PAGE: usize = 4096;
/// What an index grows by until its end: itself, for each holder, and for each device with what was seen of it.
const GROWTH: (usize, usize, usize) = (1024, 256, 16 << 10);
/// Most holders that are taken into custody at once.
pub const MAX_HOLDERS: usize = 64;

/// Why an index cannot be used. What it stands for is kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// It does not begin as one.
    #[error("it is no index of ours")]
    NotThis,
    /// Of a version that this build cannot read.
    #[error("it is of version {0}, this build reads {VERSION}: start the keeper that wrote it")]
    Version(u32),
    /// It was cut or changed.
    #[error("it was cut or changed: its checksum does not fit")]
    Torn,
    /// Its content makes no sense.
    #[error("its content makes no sense: {0}")]
    Content(String),
    /// It does not fit into its slot.
    #[error("it has {bytes} bytes, at most {fit} fit")]
    TooLarge {
        /// Its own.
        bytes: usize,
        /// The slot's.
        fit: usize,
    },
}

/// All that the next kernel's keeper has to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Index {
    /// For which attempt.
    pub attempt: String,
    /// What proves the jump; none before the commit.
    pub nonce: Option<String>,
    /// Of the kernel that jumps.
    pub boot_id: String,
    /// Frequency of the counter by that kernel.
    pub counter_khz: Option<u64>,
    /// The counter (ticks) at the commit.
    pub committed: Option<u64>,
    /// By name, in the order in which they were taken.
    pub holders: Vec<Entry>,
}

/// What is kept for one holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Whom it belongs to: nobody else gets its files.
    pub owner: String,
    /// Its session's name.
    pub session: String,
    /// Its files.
    pub objects: Vec<Object>,
    /// The counter (ticks) when its first vCPU stopped.
    pub quiesced: Option<u64>,
    /// It attested that its devices do no DMA.
    pub dma_quiescent: bool,
    /// How far it is.
    pub claim: Claim,
    /// The counter (ticks) when it went on.
    pub resumed: Option<u64>,
    /// Its devices as they were seen then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<Sighting>,
}

/// What was seen of a device when its holder went on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sighting {
    /// Its PCI address.
    pub address: String,
    /// The core's facts, as it writes them.
    pub facts: String,
    /// What made them worse than the best; empty where nothing did.
    pub evidence: String,
}

/// A kept file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Object {
    /// Within its holder's session.
    pub token: u64,
    /// The holder's own word for it.
    pub label: String,
    /// What it is.
    pub kind: Kind,
}

/// What a kept file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Kind {
    /// A memfd of that many bytes.
    Memory(u64),
    /// A VFIO device of that PCI address.
    Device(String),
}

/// How far a holder is with what is kept for it: the core's word, for a keeper that dies after the jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Claim {
    /// It has not come.
    Awaited,
    /// It was given its session.
    Granted,
    /// It goes on.
    Resumed,
}

impl Entry {
    /// Bytes of memory that its successor is charged with.
    pub fn memory_bytes(&self) -> u64 {
        self.objects.iter().fold(0, |sum, object| match object.kind {
            Kind::Memory(bytes) => sum.saturating_add(bytes),
            Kind::Device(_) => sum,
        })
    }

    /// Addresses of its devices.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.objects.iter().filter_map(|object| match &object.kind {
            Kind::Device(address) => Some(address.as_str()),
            Kind::Memory(_) => None,
        })
    }
}

impl Index {
    /// Bytes of a slot in which it has room until its end.
    ///
    /// # Errors
    /// [`IndexError::TooLarge`].
    pub(super) fn slot(&self) -> Result<usize, IndexError> {
        let devices = self.holders.iter().flat_map(Entry::devices).count();
        let (own, holder, device) = GROWTH;
        let grown = self.encode(0)?.len() + own + self.holders.len() * holder + devices * device;
        Ok(grown.next_multiple_of(PAGE).min(SLOT))
    }

    /// A slot's bytes up to the end of the content.
    ///
    /// # Errors
    /// [`IndexError::TooLarge`].
    pub fn encode(&self, generation: u64) -> Result<Vec<u8>, IndexError> {
        let content = serde_json::to_vec(self).map_err(|error| IndexError::Content(error.to_string()))?;
        let length = u32::try_from(content.len()).ok().filter(|_| content.len() <= SLOT - HEADER);
        let length = length.ok_or(IndexError::TooLarge { bytes: content.len(), fit: SLOT - HEADER })?;
        let mut bytes = Vec::with_capacity(HEADER + content.len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(generation.to_le_bytes());
        bytes.extend(checksum(&bytes, &content).to_le_bytes());
        bytes.extend(content);
        Ok(bytes)
    }

    /// What a slot holds, with its generation.
    ///
    /// # Errors
    /// [`IndexError`]. Never reads beyond the slot.
    pub fn decode(slot: &[u8]) -> Result<(u64, Self), IndexError> {
        let (header, rest) = slot.split_at_checked(HEADER).ok_or(IndexError::NotThis)?;
        let word = |at: usize| -> [u8; 4] { std::array::from_fn(|i| header[at + i]) };
        let long = |at: usize| -> [u8; 8] { std::array::from_fn(|i| header[at + i]) };
        if long(0) != MAGIC {
            return Err(IndexError::NotThis);
        }
        let version = u32::from_le_bytes(word(8));
        if version != VERSION {
            return Err(IndexError::Version(version));
        }
        let length = usize::try_from(u32::from_le_bytes(word(12))).map_err(|_| IndexError::Torn)?;
        let content = rest.get(..length).ok_or(IndexError::Torn)?;
        let fits = checksum(&header[..24], content) == u64::from_le_bytes(long(24));
        if !fits {
            return Err(IndexError::Torn);
        }
        let index: Self =
            serde_json::from_slice(content).map_err(|error| IndexError::Content(error.to_string()))?;
        index.check()?;
        Ok((u64::from_le_bytes(long(16)), index))
    }

    /// Of two slots the one that counts: the newest that can be read.
    ///
    /// # Errors
    /// That of the first slot, when none can be read.
    pub fn newest(first: &[u8], second: &[u8]) -> Result<(u64, Self), IndexError> {
        match (Self::decode(first), Self::decode(second)) {
            (Ok(first), Ok(second)) => Ok(if first.0 >= second.0 { first } else { second }),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
            (Err(error), Err(_)) => Err(error),
        }
    }

    /// How many bytes of a slot that begins so have to be read. A lie is found out by [`Index::decode`].
    pub(super) fn length(header: &[u8; HEADER]) -> usize {
        let length = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
        usize::try_from(length).map_or(SLOT, |length| SLOT.min(HEADER.saturating_add(length)))
    }

    fn check(&self) -> Result<(), IndexError> {
        let wrong = |why: &str| Err(IndexError::Content(why.to_owned()));
        if self.holders.len() > MAX_HOLDERS {
            return wrong("more holders than are ever taken");
        }
        for (i, entry) in self.holders.iter().enumerate() {
            let others = &self.holders[..i];
            if others.iter().any(|other| other.name == entry.name || other.session == entry.session) {
                return wrong("two holders of one name or one session");
            }
            let mut tokens: Vec<u64> = entry.objects.iter().map(|object| object.token).collect();
            tokens.sort_unstable();
            if tokens.windows(2).any(|pair| pair[0] == pair[1]) {
                return wrong("two files under one token");
            }
            if entry.seen.iter().any(|seen| seen.facts.parse::<Facts>().is_err()) {
                return wrong("facts of a device that are none");
            }
        }
        Ok(())
    }
}

/// FNV-1a: any single byte that changes changes it.
fn checksum(header: &[u8], content: &[u8]) -> u64 {
    header
        .iter()
        .chain(content)
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
