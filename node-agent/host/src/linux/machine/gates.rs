//! All gates with what they ask for, read now.

use liveupdate_node_core::gate::{Gate, GateId};
use liveupdate_node_core::{GateResult, Target};

use super::LinuxHost;
use super::bundle::{Looked, Sighted};
use super::custody_safe::custody_safe;
use super::devices::Holders;
use super::gate;
use super::holder_gates;
use crate::HostError;
use crate::linux::boot_parameters::BootParameters;
use crate::linux::cgroup;
use crate::linux::clock::Clock;
use crate::linux::custody;
use crate::linux::driver::{self, Driver};
use crate::linux::gates::{self, Bundle, Formats, NextKernel, Ours, Room, Running, Wanted};
use crate::linux::kernel::Kernel;
use crate::linux::kexec_state::KexecState;
use crate::linux::kho::{self, Kho};
use crate::linux::memory::Memory;
use crate::linux::pci::PciDevices;
use crate::linux::processes::{Held, Processes};
use crate::linux::root::ReadError;
use crate::linux::storage;

/// Everything that the gates look at, read once.
struct Sight {
    kernel: Kernel,
    kho: Kho,
    memory: Result<Memory, ReadError>,
    pci: Result<PciDevices, ReadError>,
    processes: Result<Processes, ReadError>,
    holders: Holders,
    driver: Driver,
}

impl Sight {
    /// Somebody holds a device.
    fn held(&self) -> bool {
        !self.holders.held(self.processes.as_ref().ok()).is_empty()
    }
}

impl LinuxHost {
    /// See [`crate::Host::gates`].
    pub(super) fn read_gates(&self, target: Option<&Target>) -> Result<Vec<Gate>, HostError> {
        let processes = Processes::read(&self.root);
        let none = Processes::default();
        let sight = Sight {
            kernel: Kernel::read(&self.root),
            kho: Kho::read(&self.root),
            memory: Memory::read(&self.root),
            pci: PciDevices::read(&self.root),
            holders: Holders::of(self.known()?, processes.as_ref().unwrap_or(&none)),
            processes,
            driver: Driver::read(&self.root),
        };
        let sighted = target.map(|target| self.bundles.look(target)).transpose()?;
        let bundle = sighted.as_ref().and_then(|sighted| sighted.bundle.as_ref().ok());
        let mut gates = self.node_gates(&sight, target, bundle)?;
        if let (Some(target), Some(sighted)) = (target, &sighted) {
            gates.extend(self.target_gates(&sight, target, sighted));
            gates.push(sighted.trusted.clone());
        }
        let parameters = bundle.map(|bundle| BootParameters::parse(&bundle.command_line));
        let next = target.zip(bundle).zip(parameters.as_ref());
        let next = next.map(|((target, bundle), parameters)| next_kernel(target, bundle, parameters));
        gates.extend(self.held_gates(&sight, next));
        Ok(gates)
    }

    fn node_gates(
        &self,
        sight: &Sight,
        target: Option<&Target>,
        bundle: Option<&Looked>,
    ) -> Result<Vec<Gate>, HostError> {
        let kexec = KexecState::read(&self.root);
        let next = bundle.map(|bundle| BootParameters::parse(&bundle.command_line));
        let image = bundle.and_then(|bundle| bundle.image.as_ref().ok());
        let config = image.and_then(|image| image.config.as_ref().ok());
        let boot = image.and_then(|image| image.boot.as_ref());
        let to_load = bundle.zip(boot).map(|(bundle, boot)| Bundle {
            init_size: boot.init_size.into(),
            alignment: boot.alignment.into(),
            initrd: bundle.initrd,
        });
        let (memory, encrypted) = (sight.memory.as_ref(), storage::encrypted(&self.root));
        let room = Room {
            folder: self.options.bundles.clone(),
            free: storage::free(&self.root, &self.options.bundles),
            to_fetch: bundle.map_or(0, |bundle| bundle.to_fetch),
            to_load: bundle
                .map_or(0, |bundle| bundle.bytes * 2 + to_load.map_or(0, |to_load| to_load.init_size)),
            to_hold: bundle.map_or(0, |bundle| bundle.bytes),
            left: cgroup::left(&self.root, std::process::id()),
        };
        let release = target.map_or("", |target| target.release.as_str());
        let keeper = self.keeper_pid();
        let sessions = our_sessions(sight.processes.as_ref().ok());
        Ok(vec![
            gates::experimental_opt_in(sight.held(), &sight.driver),
            custody_safe(&self.root, self.read_keeper()),
            gates::live_update_kernel(&sight.kernel, &sight.kho),
            gates::kexec_handover(&sight.kernel, &sight.kho, memory.ok().copied(), to_load),
            gates::kexec_allowed(&kexec, &sight.kernel, self.whose()?),
            gates::driver_ready(sight.held(), &sight.driver),
            gates::foreign_sessions(sight.processes.as_ref(), Ours { keeper, sessions: &sessions }),
            gates::crash_dump(&kexec, &sight.kho, next.as_ref()),
            gates::clock_source(&Clock::read(&self.root)),
            gates::fallback_boot(&self.fallback(), next.as_ref(), config, release),
            gates::unattended_boot(encrypted.as_deref()),
            gates::disk_and_memory(&room, memory),
        ])
    }

    fn target_gates(&self, sight: &Sight, target: &Target, sighted: &Sighted) -> Vec<Gate> {
        let bundle = match &sighted.bundle {
            Ok(bundle) => bundle,
            Err(error) => {
                let all = [GateId::TargetKernel, GateId::ModuleLoadable];
                let remedy = "copy the bundle to the node's bundle root, or correct target.bundle";
                return all.map(|id| gate(id, GateResult::Fail, error.to_string(), remedy)).into();
            }
        };
        let next = BootParameters::parse(&bundle.command_line);
        let wanted = Wanted { release: &target.release, parameters: Some(&next) };
        let running = self.running(sight);
        let held = sight.holders.held(sight.processes.as_ref().ok());
        let held: Vec<&str> = held.iter().map(String::as_str).collect();
        vec![
            gates::target_kernel(bundle.image.as_deref(), bundle.manifest.as_ref(), wanted, &running),
            gates::module_loadable(sight.held(), next_kernel(target, bundle, &next)),
            gates::pci_enumeration_stable(
                sight.kernel.parameters.as_ref(),
                Some(&next),
                sight.pci.as_ref(),
                &held,
            ),
        ]
    }

    /// `next`: without a target it is not asked which driver of it comes first.
    fn held_gates(&self, sight: &Sight, next: Option<NextKernel<'_>>) -> Vec<Gate> {
        let held = sight.holders.held(sight.processes.as_ref().ok());
        let pci = sight.pci.as_ref();
        let devices = held.iter().flat_map(|address| {
            let device = pci.ok().and_then(|pci| pci.get(address));
            let told = driver::told(&self.root, address);
            let known = sight.holders.known_holder_of(address);
            let quiesces = known.is_some_and(|known| known.quiesces_dma);
            let mut gates = vec![
                gates::device_eligible(address, pci, sight.processes.as_ref()),
                gates::vfio_state_preserved(address, &sight.driver, &told),
                gates::pci_state_preserved(address, &sight.driver, &told, next, quiesces),
                gates::iommu_state_preserved(address, device),
                gates::iommufd_preserved(address, device, &told),
                gates::dma_targets_preserved(address, device, known.map(|known| known.dma_targets)),
            ];
            gates.extend(next.map(|next| gates::native_driver_race(address, device, next)));
            gates
        });
        let holders =
            holder_gates::all(&self.root, &self.kubelet, &sight.holders, sight.processes.as_ref().ok());
        devices.chain(holders).collect()
    }

    /// The running kernel's formats: those that it shows, and the rest from its own image where that is here.
    fn running(&self, sight: &Sight) -> Running {
        let shown = |format: &Result<String, ReadError>| format.as_ref().ok().cloned();
        let mut formats =
            Formats { kho: shown(&sight.kho.kho_format), luo: shown(&sight.kho.luo_format), memfd: None };
        let mut source = kho::OUT.to_owned();
        let mut among = self.bundles.images();
        if let Ok(release) = &sight.kernel.release {
            among.extend(
                ["vmlinuz", "bzImage"].map(|name| self.root.path(&format!("/boot/{name}-{release}"))),
            );
        }
        match self.images.running(&self.root, &among) {
            Some((image, named)) => {
                formats.kho = formats.kho.or(image.kho);
                formats.luo = formats.luo.or(image.luo);
                formats.memfd = image.memfd;
                source = format!("{source}; {named}");
            }
            None => source = format!("{source}; its image is neither a bundle's nor in /boot"),
        }
        let architecture = sight.kernel.architecture.clone();
        Running {
            architecture: architecture.unwrap_or_else(|_| std::env::consts::ARCH.into()),
            formats,
            source,
        }
    }
}

/// What of a target decides about devices.
fn next_kernel<'a>(target: &'a Target, bundle: &'a Looked, parameters: &'a BootParameters) -> NextKernel<'a> {
    NextKernel {
        release: &target.release,
        image: bundle.image.as_deref(),
        contents: bundle.contents.as_deref().map_err(String::as_str),
        parameters,
    }
}

/// Names of our sessions among those that somebody holds: the service manager keeps copies of their files, and
/// holders have what was granted to them.
fn our_sessions(processes: Option<&Processes>) -> Vec<&str> {
    let files = processes.into_iter().flat_map(|all| &all.holding).flat_map(|process| &process.files);
    let names = files.filter_map(|(_, held)| match held {
        Held::Session(name) => Some(name.as_str()),
        _ => None,
    });
    let ours = |name: &&str| {
        *name == custody::SESSION
            || name.strip_prefix(custody::SESSION).is_some_and(|rest| rest.starts_with('.'))
    };
    names.filter(ours).collect()
}
