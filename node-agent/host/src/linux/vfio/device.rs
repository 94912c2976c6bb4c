//! A VFIO device by its own file. Structures as in `include/uapi/linux/vfio.h` of Linux 7.3.

#![allow(unsafe_code, reason = "ioctl(2) on VFIO devices")]

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::ioctl::Opcode;

use super::error::VfioError;
use super::ioctl::{code, plain, update};
use super::iommufd::{Iommufd, Space};
use super::map::Map;

const GET_INFO: Opcode = code(107);
const GET_REGION_INFO: Opcode = code(108);
const RESET: Opcode = code(111);
const BIND_IOMMUFD: Opcode = code(118);
const ATTACH_IOMMUFD_PT: Opcode = code(119);

/// Base address register 0, as a region.
pub const BAR0: u32 = 0;
/// `VFIO_PCI_CONFIG_REGION_INDEX`.
const CONFIG: u32 = 7;
/// Where the list of capabilities begins in configuration space.
const CAPABILITIES: u8 = 0x34;
/// As many capabilities as fit: should the list bite its tail.
const MOST_CAPABILITIES: u32 = 48;
/// `VFIO_REGION_INFO_FLAG_MMAP`.
const CAN_BE_MAPPED: u32 = 1 << 2;
/// `VFIO_DEVICE_FLAGS_RESET`.
const CAN_BE_RESET: u32 = 1;
/// What the kernel calls devices whose DMA nothing confines.
const UNCONFINED: &str = "noiommu-";

/// A PCI device that is open through VFIO.
#[derive(Debug)]
pub struct Device {
    file: File,
    address: String,
    confined: bool,
}

/// A part of a device: a BAR, or its configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Region {
    flags: u32,
    size: u64,
    offset: u64,
}

impl Device {
    /// Opens a device by its PCI address.
    ///
    /// # Errors
    /// It is not bound to a VFIO driver, held by others, or came through a jump.
    pub fn open(address: &str) -> Result<Self, VfioError> {
        let name = name_of(address)?;
        let path = Path::new("/dev/vfio/devices").join(&name);
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| VfioError::new("open", named(address), error))?;
        Ok(Self { file, address: address.into(), confined: !name.starts_with(UNCONFINED) })
    }

    /// A device's file that was passed on, or came through a jump.
    ///
    /// # Errors
    /// No VFIO driver has a device at this address.
    pub fn from_file(file: OwnedFd, address: &str) -> Result<Self, VfioError> {
        let confined = !name_of(address)?.starts_with(UNCONFINED);
        Ok(Self { file: file.into(), address: address.into(), confined })
    }

    /// Its PCI address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// An IOMMU stands between it and memory: it is told addresses of its space, and not physical ones.
    pub fn confined(&self) -> bool {
        self.confined
    }

    /// Another descriptor of the same open file.
    ///
    /// # Errors
    /// As dup(2).
    pub fn file(&self) -> std::io::Result<OwnedFd> {
        self.file.try_clone().map(Into::into)
    }

    /// Binds it to an iommufd: before that, nothing can be done with it.
    ///
    /// # Errors
    /// [`VfioError`].
    pub fn bind(&self, iommufd: &Iommufd) -> Result<(), VfioError> {
        let size = size_of::<BindArgument>() as u32;
        let mut argument =
            BindArgument { argsz: size, flags: 0, iommufd: iommufd.raw(), out_devid: 0, token_uuid_ptr: 0 };
        // SAFETY: BIND_IOMMUFD takes this structure (`struct vfio_device_bind_iommufd`), and follows the pointer under a
        // flag that is not set.
        unsafe { update::<BIND_IOMMUFD, _>(self.file.as_fd(), &mut argument) }
            .map_err(|errno| self.failed("VFIO_DEVICE_BIND_IOMMUFD", errno))
    }

    /// Lets it reach what is in a space, now and later.
    ///
    /// # Errors
    /// [`VfioError`].
    pub fn attach(&self, space: &Space) -> Result<(), VfioError> {
        let size = size_of::<AttachArgument>() as u32;
        let mut argument = AttachArgument { argsz: size, flags: 0, pt_id: space.id(), pasid: 0 };
        // SAFETY: ATTACH_IOMMUFD_PT takes this structure (`struct vfio_device_attach_iommufd_pt`).
        unsafe { update::<ATTACH_IOMMUFD_PT, _>(self.file.as_fd(), &mut argument) }
            .map_err(|errno| self.failed("VFIO_DEVICE_ATTACH_IOMMUFD_PT", errno))
    }

    /// The kernel would reset it when asked.
    ///
    /// # Errors
    /// [`VfioError`].
    pub fn can_be_reset(&self) -> Result<bool, VfioError> {
        let size = size_of::<InfoArgument>() as u32;
        let mut argument = InfoArgument { argsz: size, ..InfoArgument::default() };
        // SAFETY: GET_INFO takes this structure (`struct vfio_device_info`).
        unsafe { update::<GET_INFO, _>(self.file.as_fd(), &mut argument) }
            .map_err(|errno| self.failed("VFIO_DEVICE_GET_INFO", errno))?;
        Ok(argument.flags & CAN_BE_RESET != 0)
    }

    /// Resets it.
    ///
    /// # Errors
    /// [`VfioError`]; between retrieval and the end of its session a device's driver refuses.
    pub fn reset(&self) -> Result<(), VfioError> {
        // SAFETY: RESET takes no argument.
        unsafe { plain::<RESET>(self.file.as_fd()) }.map_err(|errno| self.failed("VFIO_DEVICE_RESET", errno))
    }

    /// Maps a BAR.
    ///
    /// # Errors
    /// [`VfioError`]: it has none, or one that cannot be mapped.
    pub fn map(&self, bar: u32) -> Result<Map, VfioError> {
        let region = self.region(bar)?;
        let length = usize::try_from(region.size).unwrap_or_default();
        if region.flags & CAN_BE_MAPPED == 0 || length == 0 {
            return Err(self.failed("mmap", Errno::NXIO));
        }
        Map::shared(&self.file, region.offset, length).map_err(|error| self.failed("mmap", error))
    }

    /// Reads configuration space, as VFIO shows it.
    ///
    /// # Errors
    /// [`VfioError`].
    pub fn read_config16(&self, at: u8) -> Result<u16, VfioError> {
        let mut bytes = [0; 2];
        let offset = self.region(CONFIG)?.offset + u64::from(at);
        let read = self.file.read_exact_at(&mut bytes, offset);
        read.map(|()| u16::from_le_bytes(bytes)).map_err(|error| self.failed("pread", error))
    }

    /// Writes configuration space, as far as VFIO lets it through.
    ///
    /// # Errors
    /// [`VfioError`].
    pub fn write_config16(&self, at: u8, value: u16) -> Result<(), VfioError> {
        let offset = self.region(CONFIG)?.offset + u64::from(at);
        let written = self.file.write_all_at(&value.to_le_bytes(), offset);
        written.map_err(|error| self.failed("pwrite", error))
    }

    /// Where the capabilities of this id (PCI Local Bus Specification 3.0, appendix H) are in configuration space, in the
    /// order of its list.
    ///
    /// # Errors
    /// [`VfioError`].
    pub fn capabilities(&self, id: u8) -> Result<Vec<u8>, VfioError> {
        let mut all = Vec::new();
        let [mut at, _] = self.read_config16(CAPABILITIES)?.to_le_bytes();
        for _ in 0..MOST_CAPABILITIES {
            // The lowest two bits are reserved.
            at &= !0b11;
            if at == 0 {
                break;
            }
            let [found, next] = self.read_config16(at)?.to_le_bytes();
            if found == id {
                all.push(at);
            }
            at = next;
        }
        Ok(all)
    }

    /// The first of them, when there is one.
    ///
    /// # Errors
    /// [`VfioError`].
    pub fn capability(&self, id: u8) -> Result<Option<u8>, VfioError> {
        self.capabilities(id).map(|all| all.first().copied())
    }

    fn region(&self, index: u32) -> Result<Region, VfioError> {
        let size = size_of::<RegionArgument>() as u32;
        let mut argument = RegionArgument { argsz: size, index, ..RegionArgument::default() };
        // SAFETY: GET_REGION_INFO takes this structure (`struct vfio_region_info`), and writes no more than `argsz` says.
        unsafe { update::<GET_REGION_INFO, _>(self.file.as_fd(), &mut argument) }
            .map_err(|errno| self.failed("VFIO_DEVICE_GET_REGION_INFO", errno))?;
        let RegionArgument { flags, size, offset, .. } = argument;
        Ok(Region { flags, size, offset })
    }

    pub(super) fn failed(&self, call: &'static str, error: impl Into<std::io::Error>) -> VfioError {
        VfioError::new(call, named(&self.address), error)
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn named(address: &str) -> String {
    format!("device {address}")
}

/// As the kernel called it under its PCI device.
fn name_of(address: &str) -> Result<String, VfioError> {
    let folder = Path::new("/sys/bus/pci/devices").join(address).join("vfio-dev");
    let first = folder
        .read_dir()
        .and_then(|mut entries| entries.next().transpose()?.ok_or_else(|| Errno::NOENT.into()));
    let first = first.map_err(|error| VfioError::new("open", named(address), error))?;
    Ok(first.file_name().to_string_lossy().into_owned())
}

#[derive(Default)]
#[repr(C)]
struct InfoArgument {
    argsz: u32,
    flags: u32,
    num_regions: u32,
    num_irqs: u32,
    cap_offset: u32,
    pad: u32,
}

#[derive(Default)]
#[repr(C)]
struct RegionArgument {
    argsz: u32,
    flags: u32,
    index: u32,
    cap_offset: u32,
    size: u64,
    offset: u64,
}

#[repr(C)]
struct BindArgument {
    argsz: u32,
    flags: u32,
    iommufd: i32,
    out_devid: u32,
    token_uuid_ptr: u64,
}

#[repr(C)]
struct AttachArgument {
    argsz: u32,
    flags: u32,
    pt_id: u32,
    pasid: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_layouts_are_those_of_the_header() {
        assert_eq!([GET_INFO, GET_REGION_INFO, RESET], [0x3b6b, 0x3b6c, 0x3b6f]);
        assert_eq!([BIND_IOMMUFD, ATTACH_IOMMUFD_PT], [0x3b76, 0x3b77]);
        assert_eq!((size_of::<InfoArgument>(), size_of::<RegionArgument>()), (24, 32));
        assert_eq!((size_of::<BindArgument>(), size_of::<AttachArgument>()), (24, 16));
        assert_eq!(std::mem::offset_of!(RegionArgument, offset), 24);
    }

    #[test]
    fn a_device_that_no_driver_gives_out_is_refused_by_its_address() {
        let error = Device::open("ffff:ff:1f.7").unwrap_err();
        assert_eq!(error.errno(), Some(Errno::NOENT));
        assert!(
            error.to_string().contains("ffff:ff:1f.7") && error.to_string().contains("bind it"),
            "{error}"
        );
    }
}
