//! What the kernel refused of a device or of its memory.

use std::io;

use rustix::io::Errno;

/// A call failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} of {thing} failed: {meaning}")]
pub struct VfioError {
    /// The call's name in the kernel's headers.
    pub call: &'static str,
    /// Of what.
    pub thing: String,
    /// What this errno says of this call, and what to do.
    pub meaning: &'static str,
    /// The kernel's word.
    #[source]
    pub source: io::Error,
}

impl VfioError {
    pub(super) fn new(call: &'static str, thing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let meaning = Errno::from_io_error(&source).map_or("see its source", |errno| meaning(call, errno));
        Self { call, thing: thing.into(), meaning, source }
    }

    /// The errno, for decisions; none when it was not the kernel that refused.
    pub fn errno(&self) -> Option<Errno> {
        Errno::from_io_error(&self.source)
    }
}

fn meaning(call: &str, errno: Errno) -> &'static str {
    match (call, errno) {
        ("open", Errno::NOENT) => {
            "it has no node of its own: bind it to a VFIO driver, on a kernel with CONFIG_VFIO_DEVICE_CDEV"
        }
        ("open", Errno::PERM | Errno::ACCESS) => {
            "only its owner may; without an IOMMU that takes CAP_SYS_RAWIO"
        }
        ("open", Errno::BUSY) => "it came through a jump, and only who retrieves it gets it",
        ("VFIO_DEVICE_BIND_IOMMUFD", Errno::INVAL) => {
            "it is bound already, or its group is used by others or not viable"
        }
        ("VFIO_DEVICE_ATTACH_IOMMUFD_PT", Errno::INVAL) => {
            "what is mapped does not fit what the device can reach"
        }
        ("VFIO_DEVICE_RESET", Errno::BUSY) => {
            "its driver refuses, as from retrieval until its session has ended: finish the session first"
        }
        ("VFIO_DEVICE_RESET", Errno::INVAL | Errno::NOTTY) => "it knows no way to be reset",
        ("IOMMU_IOAS_MAP", Errno::EXIST | Errno::ADDRINUSE) => "something is mapped there already",
        ("IOMMU_IOAS_MAP", Errno::INVAL) => "the place is reserved, or not in whole pages",
        ("IOMMU_IOAS_NOIOMMU_GET_PA", Errno::NOTTY | Errno::OPNOTSUPP) => {
            "this kernel does not tell physical addresses: it lacks CONFIG_IOMMUFD_NOIOMMU"
        }
        (_, Errno::NODEV) => "the device is gone",
        (_, Errno::NOTTY) => "the file is none of this kind, or its kernel does not know this call",
        (_, Errno::NOMEM) => "out of memory, or out of what may be locked: raise LimitMEMLOCK",
        (_, Errno::FAULT) => "the memory is not mapped in this process",
        _ => "see the kernel log",
    }
}
