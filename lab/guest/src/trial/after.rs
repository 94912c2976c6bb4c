//! The next kernel: what was handed over is taken back, or given up, or refused.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use liveupdate_host::linux::luo::{IncomingSession, Orchestrator};
use liveupdate_host::linux::vfio::Device;
use liveupdate_proto::causes::chain;
use rustix::io::Errno;

use super::machine::{self, DRIVER};
use super::pool::{Walk, Walked};
use super::sessions::{self, Home, TOKEN, refused};
use super::{Trial, faults, leaving, refusals, saw};

/// A driver that takes any device.
const NATIVE: &str = "vfio-pci";
/// For what another thread does.
const PATIENCE: Duration = Duration::from_secs(10);

/// A device, its session, and its file when that could be had.
struct Arrived<'a> {
    address: &'a str,
    session: IncomingSession,
    file: Option<Device>,
}

pub(super) fn run(trial: &Trial) -> Result<(), String> {
    faults::prepare()?;
    let [pool @ .., late, gone, taken, used, orphan] = trial.devices.as_slice() else {
        return Err("too few devices".into());
    };
    comes_to_waiting_devices(&trial.module, late)?;
    let orchestrator = sessions::orchestrator()?;
    let home = Home::new()?;
    // One that the module found when it came.
    let first = pool.iter().find(|address| machine::driver(address).is_some()).ok_or("none was bound")?;

    let mut arrived = Vec::new();
    let mut walk = Walk::new("RETRIEVE_FD")?;
    for address in pool.iter().chain([late]) {
        let session = sessions::retrieve(&orchestrator, address)?;
        if address == first {
            refusals::of_incoming(address, &session)?;
        }
        let file = walk.step(|| session.retrieve(TOKEN).map_err(|error| chain(&error)))?;
        let file = match file {
            Walked::Through(file) => Some(Device::from_file(file, address).map_err(|error| chain(&error))?),
            Walked::Lost => None,
        };
        arrived.push(Arrived { address, session, file });
    }
    if !walk.end() {
        return Err("there are too few devices to refuse each request of RETRIEVE_FD once".into());
    }

    given_up_with_its_file_out(&mut arrived)?;
    let Arrived { address, session, file } = retrieved(&mut arrived)?;
    let device = file.ok_or("no file")?;
    leaving::in_use(&home, address, &session, device)?;
    goes_on(&orchestrator, &home, &arrived)?;
    if let (Some(waits), Some(neighbour)) = (&trial.plain, &trial.beside) {
        leaving::beside(&home, waits, neighbour)?;
    }
    trial.plain.iter().try_for_each(|address| plain_goes_on(&orchestrator, &home, address))?;
    gives_up(&arrived)?;
    are_not_there(&orchestrator, &home, [gone, taken, used, orphan])?;
    drop(arrived);
    drop(orchestrator);
    comes_again(trial)
}

/// Loads it while devices wait for it, each time with one request more refused. One device is away meanwhile.
fn comes_to_waiting_devices(module: &Path, late: &str) -> Result<(), String> {
    machine::pull(late)?;
    let mut walk = Walk::new("finit_module with devices that wait")?;
    walk.through(|| {
        machine::load(module, "enable=1").map_err(|errno| format!("finit_module failed: {errno}"))
    })?;
    walk.end();
    machine::rescan()?;
    match machine::driver(late) {
        None => Ok(()),
        Some(driver) => Err(format!("{late} came late, but {driver} has it already")),
    }
}

/// The right way, for each that could be retrieved.
fn goes_on(orchestrator: &Orchestrator, home: &Home, arrived: &[Arrived<'_>]) -> Result<(), String> {
    let mut bind = Walk::new("BIND_IOMMUFD in the next kernel")?;
    let mut attach = Walk::new("ATTACH in the next kernel")?;
    let mut finish = Walk::new("FINISH")?;
    let mut count = 0;
    let mut went = |address: &str, session: &IncomingSession, device: &Device| {
        let first = count == 0;
        let with = |walk: &mut Walk, call: &dyn Fn() -> Result<(), String>| {
            // With nothing refused: what others report of that may silence the watchers for those that follow.
            if first { call() } else { walk.through(call) }
        };
        machine::is(address, "retrieved")?;
        refused("FINISH before it is bound", session.finish(), Errno::BUSY)?;
        let runs = machine::command(address)? & machine::BUS_MASTER;
        with(&mut bind, &|| device.bind(&home.iommufd).map_err(|error| chain(&error)))?;
        // What VFIO takes back when it lacks memory half-way must not stop it.
        if machine::command(address)? & machine::BUS_MASTER != runs {
            return Err(format!("{address} was stopped, or let go, by a BIND_IOMMUFD that lacked memory"));
        }
        refused("FINISH before it is attached", session.finish(), Errno::BUSY)?;
        with(&mut attach, &|| device.attach(&home.space).map_err(|error| chain(&error)))?;
        refusals::of_attached(orchestrator, device)?;
        with(&mut finish, &|| session.finish().map_err(|error| chain(&error)))?;
        machine::is(address, "idle")?;
        if !device.can_be_reset().map_err(|error| chain(&error))? {
            return Err(format!("{address} offers no reset once it is finished"));
        }
        device.reset().map_err(|error| chain(&error))?;
        count += 1;
        Ok(())
    };
    for Arrived { address, session, file } in arrived {
        if let Some(device) = file {
            went(address, session, device)?;
        }
    }
    if count == 0 {
        return Err("no device went on".into());
    }
    bind.end();
    attach.end();
    finish.end();
    saw(count, "devices retrieved, bound, attached and finished");
    Ok(())
}

/// The right way, for what has nothing that a modern device has.
fn plain_goes_on(orchestrator: &Orchestrator, home: &Home, address: &str) -> Result<(), String> {
    let session = sessions::retrieve(orchestrator, address)?;
    // Whoever has the session: no right is asked that a plain open would ask, since a refusal would be for good.
    let file = machine::without_raw_access(|| session.retrieve(TOKEN).map_err(|error| chain(&error)))?;
    let device = Device::from_file(file, address).map_err(|error| chain(&error))?;
    device.bind(&home.iommufd).map_err(|error| chain(&error))?;
    device.attach(&home.space).map_err(|error| chain(&error))?;
    machine::is(address, "attached")?;
    refused("a reset before FINISH", device.reset(), Errno::BUSY)?;
    session.finish().map_err(|error| chain(&error))?;
    machine::is(address, "idle")?;
    saw(1, "devices of conventional PCI retrieved, bound, attached and finished");
    Ok(())
}

/// Those whose retrieval failed for good: unbound, they are stopped, and their memory is free.
fn gives_up(arrived: &[Arrived<'_>]) -> Result<(), String> {
    let mut count = 0;
    for Arrived { address, session, file } in arrived {
        if file.is_some() {
            continue;
        }
        machine::take(address)?;
        machine::is(address, "incoming")?;
        refused("FINISH of a device that nobody has", session.finish(), Errno::BUSY)?;
        give_up(address)?;
        session.finish().map_err(|error| chain(&error))?;
        machine::bind(address, DRIVER)?;
        machine::is(address, "idle")?;
        count += 1;
    }
    saw(count, "devices given up");
    Ok(())
}

/// One of those whose file could be had.
fn retrieved<'a>(arrived: &mut Vec<Arrived<'a>>) -> Result<Arrived<'a>, String> {
    let at = arrived.iter().position(|one| one.file.is_some()).ok_or("no device was retrieved")?;
    Ok(arrived.remove(at))
}

/// One whose holder ended before it was back at it: the session has its file still, and unbinding waits for that.
fn given_up_with_its_file_out(arrived: &mut Vec<Arrived<'_>>) -> Result<(), String> {
    let Arrived { address, session, file } = retrieved(arrived)?;
    drop(file);
    refused("FINISH of a device that nobody is back at", session.finish(), Errno::BUSY)?;
    let unbinding = {
        let address = address.to_owned();
        thread::spawn(move || machine::unbind(&address))
    };
    let began = Instant::now();
    // Until then it is not at rest, or nobody has said so yet.
    while let Err(error) = session.finish() {
        if unbinding.is_finished() {
            return Err(format!("{address} was unbound while its file was out"));
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("{address} cannot be given up with its file out: {}", chain(&error)));
        }
        thread::sleep(Duration::from_millis(20));
    }
    unbinding.join().map_err(|_| "the thread that unbinds has panicked".to_owned())??;
    if machine::command(address)? & machine::BUS_MASTER != 0 {
        return Err(format!("{address} masters the bus, given up with its file out"));
    }
    machine::bind(address, DRIVER)?;
    machine::is(address, "idle")?;
    saw(1, "devices given up whose files were out");
    Ok(())
}

fn give_up(address: &str) -> Result<(), String> {
    machine::unbind(address)?;
    let command = machine::command(address)?;
    if command & machine::BUS_MASTER == 0 {
        Ok(())
    } else {
        Err(format!("{address} masters the bus, given up"))
    }
}

/// Devices that are not where they were when somebody asks for them: pulled, another driver's, somebody else's, nobody's.
fn are_not_there(
    orchestrator: &Orchestrator,
    home: &Home,
    [gone, taken, used, orphan]: [&String; 4],
) -> Result<(), String> {
    machine::pull(gone)?;
    ends(orchestrator, gone, "RETRIEVE_FD of a device that was pulled", Errno::NODEV)?;
    machine::rescan()?;

    give_up(taken)?;
    machine::meant_for(taken, NATIVE)?;
    machine::bind(taken, NATIVE)?;
    ends(orchestrator, taken, "RETRIEVE_FD of another driver's device", Errno::BUSY)?;
    machine::unbind(taken)?;
    machine::meant_for(taken, DRIVER)?;

    give_up(used)?;
    machine::bind(used, DRIVER)?;
    let device = home.open(used)?;
    ends(orchestrator, used, "RETRIEVE_FD of a device in use", Errno::BUSY)?;
    drop(device);

    give_up(orphan)?;
    ends(orchestrator, orphan, "RETRIEVE_FD of nobody's device", Errno::NODEV)?;
    saw(4, "devices refused that were not where they had been");
    Ok(())
}

/// Its file is refused, by its own word and for good; its session can be finished.
fn ends(orchestrator: &Orchestrator, address: &str, what: &str, errno: Errno) -> Result<(), String> {
    let session = sessions::retrieve(orchestrator, address)?;
    refused(what, session.retrieve(TOKEN), errno)?;
    refused(what, session.retrieve(TOKEN), errno)?;
    session.finish().map_err(|error| format!("{what}: {}", chain(&error)))
}

/// When all is finished the module can go, and comes to devices like any other.
fn comes_again(trial: &Trial) -> Result<(), String> {
    for _ in 0..3 {
        machine::unloaded()?;
        machine::loaded(&trial.module, "enable=1")?;
    }
    for address in &trial.devices {
        machine::take(address)?;
        machine::is(address, "idle")?;
    }
    saw(3, "loads and unloads after all was finished");
    Ok(())
}
