//! What one NIC has of the memory: pages at fixed places, so that a successor finds them.
//!
//! ```text
//!  page 0 state | 1 descriptors | 2 available ring | 3 used ring | 4.. two buffers a page
//! ```
//! A part of the queue must be in one piece for the device, and nothing that is longer than a page is so without an IOMMU:
//! that is what bounds the queue.

use crate::memory::PAGE;

/// Places in the queue: a page of descriptors.
pub(crate) const ENTRIES: u16 = 256;
/// Bytes of a buffer: more than the 1526 that a frame may take with its header (5.1.6.3.1).
pub(crate) const BUFFER: usize = 2048;

pub(crate) const DESCRIPTORS: usize = 1;
pub(crate) const AVAILABLE: usize = 2;
pub(crate) const USED: usize = 3;
const BUFFERS: usize = 4;
/// Pages of one NIC.
pub(crate) const PAGES: usize = BUFFERS + ENTRIES as usize * BUFFER / PAGE;

/// Where a page begins in the NIC's memory.
pub(crate) fn at(page: usize) -> usize {
    page * PAGE
}

/// Where a buffer begins in the NIC's memory.
pub(crate) fn buffer(id: u16) -> usize {
    at(BUFFERS) + usize::from(id) * BUFFER
}
