//! Processes that hold what a live update is about: VFIO devices, iommufds, the orchestrator and its sessions.

use super::cgroup::{self, Owner};
use super::driver;
use super::pci::{self, Openable};
use super::root::{ReadError, Root, optional};

/// What an open file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// A VFIO device, opened by its own node.
    VfioDevice {
        /// Its name (`vfio0`).
        name: String,
        /// Its PCI address, as the kernel tells with the file; none for other devices and older kernels.
        address: Option<String>,
    },
    /// A VFIO device that was opened through its group: cannot be handed over.
    VfioGroupDevice {
        /// As above.
        address: Option<String>,
    },
    /// A VFIO group (`/dev/vfio/12`).
    VfioGroup(String),
    /// A container of VFIO groups, the old way to map memory.
    VfioContainer,
    /// An iommufd.
    Iommufd,
    /// `/dev/liveupdate` itself.
    Orchestrator,
    /// A session of the orchestrator, by its name.
    Session(String),
    /// A memfd, by its name.
    Memfd(String),
}

/// A process with what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command's name.
    pub command: String,
    /// Path of its control group; empty when it could not be read.
    pub cgroup: String,
    /// Whom it belongs to.
    pub owner: Owner,
    /// Its files: descriptor and what it is.
    pub files: Vec<(u32, Held)>,
}

impl Process {
    /// PCI addresses of the devices that it holds, however it opened them.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter_map(|(_, held)| match held {
            Held::VfioDevice { address, .. } | Held::VfioGroupDevice { address } => address.as_deref(),
            _ => None,
        })
    }

    /// It holds this device. Older kernels do not tell the address with the file: there it is the device of that name, or
    /// any of a group that it has open beside a device.
    pub fn has(&self, device: &Openable) -> bool {
        let has = |fits: &dyn Fn(&Held) -> bool| self.files.iter().any(|(_, held)| fits(held));
        let own = |held: &Held| match held {
            Held::VfioDevice { address: Some(address), .. }
            | Held::VfioGroupDevice { address: Some(address) } => *address == device.address,
            Held::VfioDevice { name, address: None } => Some(name) == device.vfio.as_ref(),
            _ => false,
        };
        let nameless = |held: &Held| matches!(held, Held::VfioGroupDevice { address: None });
        let of_group = |held: &Held| match held {
            Held::VfioGroup(name) => {
                Some(name.strip_prefix("noiommu-").unwrap_or(name)) == device.group.as_deref()
            }
            _ => false,
        };
        has(&own) || has(&nameless) && has(&of_group)
    }
}

/// All processes that hold something of interest, memfds alone apart: every other daemon has one.
#[derive(Clone, Debug, Default)]
pub struct Processes {
    /// By id.
    pub holding: Vec<Process>,
    /// Processes whose files could not be looked at: what they hold is unknown.
    pub unreadable: Vec<ReadError>,
}

impl Processes {
    /// Looks at every process. Those that end meanwhile hold nothing.
    ///
    /// # Errors
    /// [`ReadError`] when processes cannot even be listed.
    pub fn read(root: &Root) -> Result<Self, ReadError> {
        let mut all = Self::default();
        let mut ids: Vec<u32> = root.names("/proc")?.iter().filter_map(|name| name.parse().ok()).collect();
        ids.sort_unstable();
        for pid in ids {
            match process(root, pid) {
                Ok(Some(process)) => all.holding.push(process),
                Ok(None) => {}
                // One that ends in the middle of a question answers that it may not be asked.
                Err(error) if error.is_absent() || !root.exists(&format!("/proc/{pid}")) => {}
                Err(error) => all.unreadable.push(error),
            }
        }
        Ok(all)
    }
}

fn process(root: &Root, pid: u32) -> Result<Option<Process>, ReadError> {
    let folder = format!("/proc/{pid}/fd");
    let mut files = Vec::new();
    for name in root.names(&folder)? {
        let Ok(fd) = name.parse() else { continue };
        let Some(target) = target(root, &format!("{folder}/{name}"))? else { continue };
        let address = || {
            let info = optional(root.text(&format!("/proc/{pid}/fdinfo/{name}")))?.unwrap_or_default();
            let path = info.lines().find_map(|line| line.strip_prefix("vfio-device-syspath:"));
            Ok(path.and_then(|path| pci::address_in(path.trim())).map(str::to_owned))
        };
        files.extend(held(root, &target, address)?.map(|held| (fd, held)));
    }
    if files.iter().all(|(_, held)| matches!(held, Held::Memfd(_))) {
        return Ok(None);
    }
    files.sort_unstable_by_key(|(fd, _)| *fd);
    let cgroup = cgroup::path_of(root, pid).unwrap_or_default();
    let command = root.line(&format!("/proc/{pid}/comm"))?;
    Ok(Some(Process { pid, command, owner: Owner::of(&cgroup), cgroup, files }))
}

/// Where an open file of a process leads to. None: it was closed meanwhile, or lies deeper in folders than the kernel can
/// say, where nothing of interest is. That it may not be asked is an error, and no file that is not there.
pub(super) fn target(root: &Root, file: &str) -> Result<Option<String>, ReadError> {
    match root.link(file) {
        Err(ReadError::NameTooLong { .. }) => Ok(None),
        link => optional(link),
    }
}

fn held(
    root: &Root,
    target: &str,
    address: impl FnOnce() -> Result<Option<String>, ReadError>,
) -> Result<Option<Held>, ReadError> {
    // What came through a live update has no name any more, not even a memfd's.
    if target == "/ (deleted)" {
        return Ok(Some(Held::Memfd(String::new())));
    }
    // A file whose node has gone is still the same file.
    let path = target.strip_suffix(" (deleted)").unwrap_or(target);
    if let Some(name) = path.strip_prefix("/dev/vfio/devices/") {
        return Ok(Some(Held::VfioDevice { name: name.to_owned(), address: address()? }));
    }
    if let Some(name) = path.strip_prefix("/dev/vfio/") {
        return Ok(Some(if name == "vfio" { Held::VfioContainer } else { Held::VfioGroup(name.to_owned()) }));
    }
    if let Some(name) = path.strip_prefix("/memfd:") {
        return Ok(Some(Held::Memfd(name.to_owned())));
    }
    if let Some(name) = path.strip_prefix("anon_inode:[luo_session]") {
        return Ok(Some(Held::Session(name.trim_start().to_owned())));
    }
    Ok(match path {
        "/dev/iommu" => Some(Held::Iommufd),
        "/dev/liveupdate" => Some(Held::Orchestrator),
        driver::NAMELESS => {
            let address = address()?;
            Some(if driver::opened_by_group(root, path, address.as_deref()) {
                Held::VfioGroupDevice { address }
            } else {
                Held::VfioDevice { name: "handed over".into(), address }
            })
        }
        _ => None,
    })
}
