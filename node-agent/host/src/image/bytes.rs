//! Numbers at offsets that may be anywhere.

/// The `N` bytes at an offset, if they are all there.
pub(super) fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

pub(super) fn u16_le(bytes: &[u8], offset: usize) -> Option<u16> {
    array(bytes, offset).map(u16::from_le_bytes)
}

pub(super) fn u32_le(bytes: &[u8], offset: usize) -> Option<u32> {
    array(bytes, offset).map(u32::from_le_bytes)
}

pub(super) fn u64_le(bytes: &[u8], offset: usize) -> Option<u64> {
    array(bytes, offset).map(u64::from_le_bytes)
}

pub(super) fn u32_be(bytes: &[u8], offset: usize) -> Option<u32> {
    array(bytes, offset).map(u32::from_be_bytes)
}

/// The bytes up to the first zero, at most `limit` of them; none when there is no zero so early.
pub(super) fn c_string(bytes: &[u8], offset: usize, limit: usize) -> Option<&[u8]> {
    let from = bytes.get(offset..)?;
    let window = &from[..from.len().min(limit)];
    let end = memchr::memchr(0, window)?;
    Some(&window[..end])
}

/// A part of the file, by offsets as files have them.
pub(super) fn part(bytes: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(length)?).ok()?;
    bytes.get(start..end)
}
