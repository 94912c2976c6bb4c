//! iommufd: the memory that devices reach. Structures as in `include/uapi/linux/iommufd.h` of Linux 7.3.

#![allow(unsafe_code, reason = "ioctl(2) on /dev/iommu")]

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use rustix::ioctl::Opcode;

use super::error::VfioError;
use super::ioctl::{code, update};
use super::map::Map;

/// Where the kernel offers it.
const DEVICE: &str = "/dev/iommu";
const DESTROY: Opcode = code(0x80);
const IOAS_ALLOC: Opcode = code(0x81);
const IOAS_MAP: Opcode = code(0x85);
const IOAS_NOIOMMU_GET_PA: Opcode = code(0x95);

/// `IOMMU_IOAS_MAP_FIXED_IOVA | _WRITEABLE | _READABLE`.
const FIXED_READ_WRITE: u32 = 0b111;

/// An open iommufd. What devices were bound to it stays so until both are closed.
#[derive(Clone, Debug)]
pub struct Iommufd(Arc<File>);

impl Iommufd {
    /// Opens one.
    ///
    /// # Errors
    /// The kernel lacks CONFIG_IOMMUFD, or the caller may not.
    pub fn open() -> Result<Self, VfioError> {
        let file = OpenOptions::new().read(true).write(true).open(DEVICE);
        file.map(|file| Self(Arc::new(file))).map_err(|error| VfioError::new("open", DEVICE, error))
    }

    /// An address space without anything in it.
    ///
    /// # Errors
    /// [`VfioError`].
    pub fn space(&self) -> Result<Space, VfioError> {
        let mut argument = Alloc { size: size_of::<Alloc>() as u32, flags: 0, out_ioas_id: 0 };
        // SAFETY: IOAS_ALLOC takes this structure (`struct iommu_ioas_alloc`).
        unsafe { update::<IOAS_ALLOC, _>(self.0.as_fd(), &mut argument) }
            .map_err(|errno| VfioError::new("IOMMU_IOAS_ALLOC", DEVICE, errno))?;
        Ok(Space { iommufd: self.clone(), id: argument.out_ioas_id, maps: Vec::new() })
    }

    pub(super) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What devices that are attached to it can reach, and the maps that make it up.
#[derive(Debug)]
pub struct Space {
    iommufd: Iommufd,
    id: u32,
    /// Whenever a device is attached, the kernel pins what it finds at their addresses.
    maps: Vec<(u64, Arc<Map>)>,
}

impl Space {
    /// Lets devices read and write all of a map, from `iova` on.
    ///
    /// # Errors
    /// [`VfioError`]; nothing of it can be reached then.
    pub fn map(&mut self, iova: u64, map: Arc<Map>) -> Result<(), VfioError> {
        let mut argument = MapArgument {
            size: size_of::<MapArgument>() as u32,
            flags: FIXED_READ_WRITE,
            ioas_id: self.id,
            reserved: 0,
            user_va: map.address(),
            length: map.len() as u64,
            iova,
        };
        // SAFETY: IOAS_MAP takes this structure (`struct iommu_ioas_map`); the user range that it names is a whole map,
        // kept for as long as the space, and nobody has a reference into it that a device's writes could break.
        unsafe { update::<IOAS_MAP, _>(self.iommufd.0.as_fd(), &mut argument) }.map_err(|errno| {
            VfioError::new("IOMMU_IOAS_MAP", format!("{} bytes at {iova:#x}", map.len()), errno)
        })?;
        self.maps.push((iova, map));
        Ok(())
    }

    /// The physical address behind `iova`: what a device without an IOMMU has to be told.
    ///
    /// # Errors
    /// [`VfioError`]: nothing is mapped there, or no device without an IOMMU is attached.
    pub fn physical(&self, iova: u64) -> Result<u64, VfioError> {
        let mut argument = PhysicalArgument {
            size: size_of::<PhysicalArgument>() as u32,
            flags: 0,
            ioas_id: self.id,
            reserved: 0,
            iova,
            length: 1,
            out_phys: 0,
        };
        // SAFETY: IOAS_NOIOMMU_GET_PA takes this structure (`struct iommu_ioas_noiommu_get_pa`).
        unsafe { update::<IOAS_NOIOMMU_GET_PA, _>(self.iommufd.0.as_fd(), &mut argument) }
            .map_err(|errno| VfioError::new("IOMMU_IOAS_NOIOMMU_GET_PA", format!("{iova:#x}"), errno))?;
        Ok(argument.out_phys)
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let mut argument = Destroy { size: size_of::<Destroy>() as u32, id: self.id };
        // In use by a device it stays, until the iommufd goes.
        // SAFETY: DESTROY takes this structure (`struct iommu_destroy`).
        let _ = unsafe { update::<DESTROY, _>(self.iommufd.0.as_fd(), &mut argument) };
    }
}

#[repr(C)]
struct Destroy {
    size: u32,
    id: u32,
}

#[repr(C)]
struct Alloc {
    size: u32,
    flags: u32,
    out_ioas_id: u32,
}

#[repr(C)]
struct MapArgument {
    size: u32,
    flags: u32,
    ioas_id: u32,
    reserved: u32,
    user_va: u64,
    length: u64,
    iova: u64,
}

#[repr(C)]
struct PhysicalArgument {
    size: u32,
    flags: u32,
    ioas_id: u32,
    reserved: u32,
    iova: u64,
    length: u64,
    out_phys: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_layouts_are_those_of_the_header() {
        assert_eq!([DESTROY, IOAS_ALLOC, IOAS_MAP, IOAS_NOIOMMU_GET_PA], [0x3b80, 0x3b81, 0x3b85, 0x3b95]);
        assert_eq!((size_of::<Destroy>(), size_of::<Alloc>()), (8, 12));
        assert_eq!((size_of::<MapArgument>(), size_of::<PhysicalArgument>()), (40, 40));
        assert_eq!(std::mem::offset_of!(MapArgument, iova), 32);
        assert_eq!(std::mem::offset_of!(PhysicalArgument, out_phys), 32);
    }
}
