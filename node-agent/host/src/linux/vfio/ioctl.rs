//! ioctls whose argument is a structure that says its own size.

#![allow(unsafe_code, reason = "ioctl(2)")]

use std::ffi::c_void;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Updater, ioctl, opcode};

/// `VFIO_TYPE` and `IOMMUFD_TYPE`, the same.
const TYPE: u8 = b';';

/// The code of a call of either subsystem: all are `_IO`, whichever way their arguments go.
pub(super) const fn code(number: u8) -> Opcode {
    opcode::none(TYPE, number)
}

/// # Safety
/// The code must be one that reads and writes at most a `T`, and nothing beyond that which a field of it names.
pub(super) unsafe fn update<const CODE: Opcode, T>(
    file: BorrowedFd<'_>,
    argument: &mut T,
) -> Result<(), Errno> {
    // SAFETY: the caller's promise; `argument` is a live, exclusive reference for the whole call.
    unsafe { ioctl(file, Updater::<CODE, T>::new(argument)) }
}

/// # Safety
/// The code must be one that only reads, as many words as the first of them says in bytes.
pub(super) unsafe fn tell<const CODE: Opcode>(file: BorrowedFd<'_>, words: &[u32]) -> Result<(), Errno> {
    // SAFETY: the caller's promise; the words live for the whole call.
    unsafe { ioctl(file, Words::<CODE>(words)) }
}

/// # Safety
/// The code must be one that takes no argument.
pub(super) unsafe fn plain<const CODE: Opcode>(file: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { ioctl(file, Words::<CODE>(&[])) }
}

struct Words<'a, const CODE: Opcode>(&'a [u32]);

// SAFETY: the pointer is to words that outlive the call and that it only reads; the output is not used.
unsafe impl<const CODE: Opcode> Ioctl for Words<'_, CODE> {
    type Output = ();

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        CODE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        if self.0.is_empty() { std::ptr::null_mut() } else { self.0.as_ptr().cast_mut().cast() }
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}
