//! A record on disk: framed, versioned and checked, so that what was torn or changed is noticed and never
//! taken for something that was written.
//!
//! ```text
//!  "lurecord" │ version u32 │ length u64 │ payload │ SHA-256 of all before, and of the key
//! ```
//! The key is part of what is checked: a record under another's name is no record.

use ring::digest::{Context, SHA256};

const MAGIC: &[u8; 8] = b"lurecord";
const VERSION: u32 = 1;
const HEAD: usize = MAGIC.len() + size_of::<u32>() + size_of::<u64>();
const SUM: usize = 32;
/// No payload is larger; the keeper's journal has at most 2 MiB.
pub(super) const LARGEST: usize = 4 << 20;

/// Frames a payload.
pub(super) fn encode(key: &str, payload: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD + payload.len() + SUM);
    record.extend_from_slice(MAGIC);
    record.extend_from_slice(&VERSION.to_le_bytes());
    record.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    record.extend_from_slice(payload);
    let sum = sum(key, &record);
    record.extend_from_slice(&sum);
    record
}

/// The payload, or what is wrong with the record.
pub(super) fn decode(key: &str, record: &[u8]) -> Result<Vec<u8>, String> {
    let number = |from: usize, to: usize| record.get(from..to);
    if number(0, MAGIC.len()) != Some(MAGIC.as_slice()) {
        return Err("it does not begin as a record does".to_owned());
    }
    let version = number(8, 12).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    match version {
        Some(VERSION) => {}
        Some(other) => return Err(format!("it has version {other}, this program reads {VERSION}")),
        None => return Err("it ends within its head".to_owned()),
    }
    let length = number(12, HEAD).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let length = length.and_then(|length| usize::try_from(length).ok()).filter(|length| *length <= LARGEST);
    let whole = length.map(|length| HEAD + length + SUM);
    let (Some(length), true) = (length, whole == Some(record.len())) else {
        return Err(format!("its length is not what it says: it has {} bytes", record.len()));
    };
    let (checked, found) = record.split_at(HEAD + length);
    if sum(key, checked).as_slice() != found {
        return Err("its checksum does not fit: it was changed or torn".to_owned());
    }
    Ok(checked[HEAD..].to_vec())
}

/// One run of a fuzzer over a file that claims to be a record: as it is, and with the sum that fits, which no
/// mutation would find. Answers whether it was one.
pub fn fuzz_one(bytes: &[u8]) -> bool {
    const KEY: &str = "journal";
    let body = &bytes[..bytes.len().saturating_sub(SUM)];
    let mended = [body, sum(KEY, body).as_slice()].concat();
    let read = [bytes, &mended].map(|record| {
        let Ok(payload) = decode(KEY, record) else { return false };
        assert_eq!(encode(KEY, &payload), record, "what was accepted reads back");
        assert!(decode("other", record).is_err(), "a record under another's name is none");
        true
    });
    read.contains(&true)
}

fn sum(key: &str, bytes: &[u8]) -> [u8; SUM] {
    let mut hash = Context::new(&SHA256);
    hash.update(bytes);
    hash.update(key.as_bytes());
    let mut sum = [0; SUM];
    sum.copy_from_slice(hash.finish().as_ref());
    sum
}
