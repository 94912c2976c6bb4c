//! What a holder says it has, held against what it really has: a memfd by its inode, a device by its fdinfo.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use liveupdate_node_core::Continuity;
use liveupdate_proto::common::v1 as common;
use liveupdate_proto::handover::v1::{Declare, Object as Said, ObjectKind};

use super::index::{Kind, Object};
use super::peer::{MAX_NAME, Peer};
use super::sessions::Told;
use crate::linux::root::Root;
use crate::linux::{driver, pci};

const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;
/// Of a label, in bytes: the index has room for so many.
const MAX_LABEL: usize = 64;
const MOST: usize = liveupdate_proto::frame::MAX_FILES;

/// What the kernel tells of a file.
pub(super) type Tell<'a> = dyn Fn(BorrowedFd<'_>) -> io::Result<Told> + 'a;

/// A file that its holder really has.
#[derive(Debug)]
pub(super) struct DeclaredFile {
    pub(super) object: Object,
    pub(super) file: OwnedFd,
    /// What tells it from all others.
    pub(super) identity: Identity,
}

/// The same file, however it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// Device and number of a memfd's inode.
    Inode(u64, u64),
    /// A VFIO device's PCI address: the inode is shared by all that came through a jump.
    Device(String),
}

/// All that a holder has.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) files: Vec<DeclaredFile>,
    /// How many of them are all that DMA mappings point into.
    pub(super) dma_targets: usize,
    /// It stops its devices' DMA at Quiesce.
    pub(super) quiesces_dma: bool,
    pub(super) dependencies: Vec<String>,
    pub(super) minimum: Option<Continuity>,
    pub(super) refuses: bool,
}

impl Declared {
    /// Checks it; the sentence says what is wrong, and nothing was taken.
    pub(super) fn check(
        said: &Declare,
        files: Vec<OwnedFd>,
        peer: &Peer,
        root: &Root,
        told: &Tell<'_>,
    ) -> Result<Self, String> {
        if said.objects.len() != files.len() {
            return Err(format!("{} objects are declared beside {} files", said.objects.len(), files.len()));
        }
        if said.dependencies.len() > MOST || said.dependencies.iter().any(|name| name.len() > MAX_NAME) {
            return Err(format!("at most {MOST} dependencies of {MAX_NAME} bytes each"));
        }
        let own = Own::read(peer, root, told)?;
        let mut checked: Vec<DeclaredFile> = Vec::with_capacity(files.len());
        for (said, file) in said.objects.iter().zip(files) {
            let declared = own.check(said, file)?;
            if checked.iter().any(|other| other.object.token == declared.object.token) {
                return Err(format!("token {} is declared twice", said.token));
            }
            if checked.iter().any(|other| other.identity == declared.identity) {
                return Err(format!("token {} is a file that is declared already", said.token));
            }
            checked.push(declared);
        }
        let memory = |token: &u64| {
            checked.iter().any(|f| f.object.token == *token && matches!(f.object.kind, Kind::Memory(_)))
        };
        if let Some(token) = said.dma_targets.iter().find(|token| !memory(token)) {
            return Err(format!("DMA target {token} is none of the memfds that are declared"));
        }
        if !peer.alive() {
            return Err(format!("process {} has ended", peer.pid));
        }
        let minimum = common::Continuity::try_from(said.minimum).unwrap_or_default();
        Ok(Self {
            files: checked,
            dma_targets: said.dma_targets.len(),
            quiesces_dma: said.quiesces_dma,
            dependencies: said.dependencies.clone(),
            minimum: minimum.into(),
            refuses: said.refuses,
        })
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter_map(|declared| match &declared.object.kind {
            Kind::Device(address) => Some(address.as_str()),
            Kind::Memory(_) => None,
        })
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, declared| match declared.object.kind {
            Kind::Memory(bytes) => sum.saturating_add(bytes),
            Kind::Device(_) => sum,
        })
    }
}

/// What the process itself has open.
struct Own<'a> {
    pid: u32,
    root: &'a Root,
    told: &'a Tell<'a>,
    descriptors: Vec<String>,
}

impl<'a> Own<'a> {
    fn read(peer: &Peer, root: &'a Root, told: &'a Tell<'a>) -> Result<Self, String> {
        let folder = format!("/proc/{}/fd", peer.pid);
        let descriptors =
            root.names(&folder).map_err(|error| format!("what you hold cannot be seen: {error}"))?;
        Ok(Self { pid: peer.pid, root, told, descriptors })
    }

    fn check(&self, said: &Said, file: OwnedFd) -> Result<DeclaredFile, String> {
        let wrong = |why: &str| Err(format!("token {}: {why}", said.token));
        if said.label.len() > MAX_LABEL || said.label.chars().any(char::is_control) {
            return wrong("its label is too long, or has control characters");
        }
        let (kind, identity) = match said.kind() {
            ObjectKind::Memfd => match memory(&file) {
                Ok((bytes, identity)) => (Kind::Memory(bytes), identity),
                Err(why) => return wrong(&why),
            },
            ObjectKind::VfioDevice => match self.device(&file) {
                Ok(address) if address == said.label => {
                    (Kind::Device(address.clone()), Identity::Device(address))
                }
                Ok(address) => {
                    return wrong(&format!(
                        "it is device {address}, and its label says {:?}: label a device by its address",
                        said.label
                    ));
                }
                Err(why) => return wrong(&why),
            },
            ObjectKind::Unspecified => return wrong("it is of a kind that this keeper does not know"),
        };
        if !self.holds(&identity) {
            return wrong("you do not hold this file yourself");
        }
        let object = Object { token: said.token, label: said.label.clone(), kind };
        Ok(DeclaredFile { object, file, identity })
    }

    /// The PCI address of a VFIO device, by the kernel's word: a name in a folder can be anybody's.
    fn device(&self, file: &OwnedFd) -> Result<String, String> {
        let told = (self.told)(file.as_fd()).map_err(|error| error.to_string())?;
        let named = named_in(&told.info);
        if driver::opened_by_group(self.root, &told.link, named.as_deref()) {
            return Err("it was opened by its group, which cannot be handed over: open /dev/vfio/devices/<name> and an iommufd instead".into());
        }
        named.ok_or_else(|| {
            "its fdinfo names no PCI device: it is no VFIO device opened by its own node".to_owned()
        })
    }

    /// The process has the same file open, by whatever descriptor.
    fn holds(&self, identity: &Identity) -> bool {
        self.descriptors.iter().any(|name| match identity {
            Identity::Inode(device, inode) => {
                let path = self.root.path(&format!("/proc/{}/fd/{name}", self.pid));
                fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (*device, *inode))
            }
            Identity::Device(address) => {
                let info = self.root.text(&format!("/proc/{}/fdinfo/{name}", self.pid));
                info.is_ok_and(|info| named_in(&info).as_ref() == Some(address))
            }
        })
    }
}

/// Size and inode of what LUO can preserve: memory of ordinary pages that has no name in any folder. What came through a
/// jump is that, too, but no longer called a memfd.
fn memory(file: &OwnedFd) -> Result<(u64, Identity), String> {
    let system = rustix::fs::fstatfs(file).map_err(|error| error.to_string())?;
    let found = rustix::fs::fstat(file.as_fd()).map_err(|error| error.to_string())?;
    let regular = rustix::fs::FileType::from_raw_mode(found.st_mode).is_file();
    if !regular || system.f_type != TMPFS_MAGIC || found.st_nlink > 0 {
        let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
        let what = link.display();
        return Err(format!(
            "{what} is no memfd of ordinary pages, and the kernel can preserve nothing else"
        ));
    }
    match u64::try_from(found.st_size) {
        Ok(bytes) if bytes > 0 => Ok((bytes, Identity::Inode(found.st_dev, found.st_ino))),
        _ => Err("it is empty".into()),
    }
}

fn named_in(info: &str) -> Option<String> {
    let path = info.lines().find_map(|line| line.strip_prefix("vfio-device-syspath:"))?;
    pci::address_in(path.trim()).map(str::to_owned)
}
