//! Devices in use, and their sessions: one of its own for each, so that what is refused to one is refused to it alone.

use std::path::Path;

use liveupdate_host::linux::kexec::KexecError;
use liveupdate_host::linux::luo::{
    DEVICE, IncomingSession, LuoError, Orchestrator, OutgoingSession, SessionName, Token,
};
use liveupdate_host::linux::vfio::{Device, Iommufd, Space, VfioError};
use liveupdate_proto::causes::chain;
use rustix::io::Errno;

use super::machine::BUS_MASTER;

/// The token of a device in its session.
pub(super) const TOKEN: Token = Token(1);
/// PCI_COMMAND, and its bit Memory Space.
const COMMAND: u8 = 4;
const MEMORY: u16 = 2;

pub(super) fn orchestrator() -> Result<Orchestrator, String> {
    Orchestrator::open(Path::new(DEVICE)).map_err(|error| chain(&error))
}

fn name(address: &str) -> Result<SessionName, String> {
    SessionName::new(format!("trial-{address}")).map_err(|error| chain(&error))
}

pub(super) fn create(orchestrator: &Orchestrator, address: &str) -> Result<OutgoingSession, String> {
    orchestrator.create_session(&name(address)?).map_err(|error| chain(&error))
}

pub(super) fn retrieve(orchestrator: &Orchestrator, address: &str) -> Result<IncomingSession, String> {
    orchestrator.retrieve_session(&name(address)?).map_err(|error| chain(&error))
}

/// A session with this device in it.
pub(super) fn preserve(orchestrator: &Orchestrator, device: &Device) -> Result<OutgoingSession, String> {
    let session = create(orchestrator, device.address())?;
    session.preserve(TOKEN, device).map_err(|error| chain(&error))?;
    Ok(session)
}

/// Where devices are bound to, and what they reach: nothing.
pub(super) struct Home {
    pub(super) iommufd: Iommufd,
    pub(super) space: Space,
}

impl Home {
    pub(super) fn new() -> Result<Home, String> {
        let iommufd = Iommufd::open().map_err(|error| chain(&error))?;
        let space = iommufd.space().map_err(|error| chain(&error))?;
        Ok(Home { iommufd, space })
    }

    /// Opens a device and takes it into use.
    pub(super) fn open(&self, address: &str) -> Result<Device, String> {
        let device = Device::open(address).map_err(|error| chain(&error))?;
        device.bind(&self.iommufd).map_err(|error| chain(&error))?;
        device.attach(&self.space).map_err(|error| chain(&error))?;
        Ok(device)
    }
}

/// Lets it master the bus, as in use; it was told to do nothing.
pub(super) fn let_master(device: &Device) -> Result<(), String> {
    let command = device.read_config16(COMMAND).map_err(|error| chain(&error))?;
    device.write_config16(COMMAND, command | MEMORY | BUS_MASTER).map_err(|error| chain(&error))
}

/// What says of itself which errno it is.
pub(super) trait Refusal {
    fn refusal(&self) -> Option<Errno>;
}

impl Refusal for LuoError {
    fn refusal(&self) -> Option<Errno> {
        self.errno()
    }
}

impl Refusal for VfioError {
    fn refusal(&self) -> Option<Errno> {
        self.errno()
    }
}

impl Refusal for KexecError {
    fn refusal(&self) -> Option<Errno> {
        self.errno()
    }
}

impl Refusal for Errno {
    fn refusal(&self) -> Option<Errno> {
        Some(*self)
    }
}

/// It has to be refused, and for this reason.
pub(super) fn refused<T, E: Refusal>(what: &str, outcome: Result<T, E>, errno: Errno) -> Result<(), String> {
    match outcome {
        Ok(_) => Err(format!("{what} went through, and should be refused with {errno:?}")),
        Err(error) if error.refusal() == Some(errno) => Ok(()),
        Err(error) => Err(format!("{what} was refused with {:?} and not with {errno:?}", error.refusal())),
    }
}
