//! MSI-X of a VFIO device: armed with an eventfd for each vector, and off.

#![allow(unsafe_code, reason = "ioctl(2) on VFIO devices")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::ioctl::Opcode;

use super::device::Device;
use super::error::VfioError;
use super::ioctl::{code, tell};

const SET_IRQS: Opcode = code(110);
/// `VFIO_PCI_MSIX_IRQ_INDEX`.
const MSIX: u32 = 2;
/// `VFIO_IRQ_SET_DATA_NONE`.
const NO_DATA: u32 = 1;
/// `VFIO_IRQ_SET_DATA_EVENTFD`.
const EVENTFDS: u32 = 1 << 2;
/// `VFIO_IRQ_SET_ACTION_TRIGGER`.
const TRIGGER: u32 = 1 << 5;
/// Words of `struct vfio_irq_set` before its data.
const HEAD: usize = 5;

impl Device {
    /// Switches MSI-X on: each vector from the first on signals its eventfd.
    ///
    /// # Errors
    /// [`VfioError`]: the device has fewer vectors, or none.
    pub fn arm(&self, vectors: &[BorrowedFd<'_>]) -> Result<(), VfioError> {
        let descriptors: Vec<u32> = vectors.iter().map(|event| event.as_raw_fd().cast_unsigned()).collect();
        self.set_irqs(EVENTFDS | TRIGGER, vectors.len() as u32, &descriptors)
    }

    /// Switches MSI-X off; no eventfd is signalled any more.
    ///
    /// # Errors
    /// [`VfioError`].
    pub fn disarm(&self) -> Result<(), VfioError> {
        self.set_irqs(NO_DATA | TRIGGER, 0, &[])
    }

    /// Signals the first vectors as if the device had. What came while they were off is not signalled by anybody else.
    ///
    /// # Errors
    /// [`VfioError`]: they are not armed.
    pub fn kick(&self, vectors: u32) -> Result<(), VfioError> {
        self.set_irqs(NO_DATA | TRIGGER, vectors, &[])
    }

    fn set_irqs(&self, flags: u32, count: u32, data: &[u32]) -> Result<(), VfioError> {
        let words = argument(flags, count, data);
        // SAFETY: SET_IRQS reads a `struct vfio_irq_set` of as many bytes as its first word says.
        unsafe { tell::<SET_IRQS>(self.as_fd(), &words) }
            .map_err(|errno| self.failed("VFIO_DEVICE_SET_IRQS", errno))
    }
}

/// `struct vfio_irq_set`: argsz, flags, index, start, count, data.
fn argument(flags: u32, count: u32, data: &[u32]) -> Vec<u32> {
    let bytes = (HEAD + data.len()) * size_of::<u32>();
    let mut words = vec![bytes as u32, flags, MSIX, 0, count];
    words.extend(data);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_layout_are_those_of_the_header() {
        assert_eq!(SET_IRQS, 0x3b6e);
        assert_eq!(argument(EVENTFDS | TRIGGER, 2, &[7, 9]), [28, 0x24, 2, 0, 2, 7, 9]);
        assert_eq!(argument(NO_DATA | TRIGGER, 0, &[]), [20, 0x21, 2, 0, 0]);
    }
}
