//! A QEMU machine: started, spoken to, and gone with its value.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;

use liveupdate_lab_guest::{Outcome, PORT};

use super::PATIENCE;
use super::control::{Boot, Control};
use super::monitor;
use super::options::{GUEST_ADDRESS, GuestOptions, Reset};
use super::qmp::Qmp;
use super::serial::Serial;
use crate::process::{Process, Spec};
use crate::{Error, Result};

const QEMU: &str = "qemu-system-x86_64";
/// Ending of the name of its monitor's socket.
const MONITOR: &str = "monitor";
/// All that QEMU emulates but wide vectors: whatever asks for those (systemd's string functions) takes half as long again with them.
const PROCESSOR: &str = "max,-avx,-avx2";

/// A running guest. It is ended at once, as by a power cut, when this value goes.
#[derive(Debug)]
pub struct Guest {
    options: GuestOptions,
    control: Arc<Control>,
    serial: Serial,
    qmp: Mutex<Qmp>,
    monitor: PathBuf,
    // Last, so that it is dropped last: what talks to QEMU goes first.
    process: Process,
}

impl Guest {
    /// Starts the machine. Its files (sockets, QEMU's log) are made in the folder. The kernel is only
    /// beginning to boot when this returns: wait for [`Guest::boot`] 1.
    ///
    /// # Errors
    /// When QEMU cannot be started or ends at once, with what it said.
    pub async fn start(options: GuestOptions, folder: &Path) -> Result<Guest> {
        let serial = Socket::listen(folder, &options.name, "serial")?;
        let control = Socket::listen(folder, &options.name, "control")?;
        let qmp = Socket::listen(folder, &options.name, "qmp")?;
        let sockets = [&serial, &control, &qmp].map(|socket| socket.path.clone());
        let spec = Spec::new(options.name.clone(), QEMU, folder).args(arguments(&options, &sockets));
        let mut process = Process::start(spec)?;
        let serial = serial.accept(&mut process).await?;
        let control = control.accept(&mut process).await?;
        let monitor = qmp.path.with_extension(MONITOR);
        let qmp = qmp.accept(&mut process).await?;
        let plain = serial.into_std().and_then(|stream| stream.set_nonblocking(false).map(|()| stream));
        let plain = plain.map_err(Error::file("use", Path::new("the serial console")))?;
        let serial = Serial::read(&options.name, plain)?;
        let control = Arc::new(Control::new(control, serial.clone()));
        let qmp = Qmp::open(&options.name, qmp).await?;
        Ok(Guest { options, control, serial, qmp: Mutex::new(qmp), monitor, process })
    }

    /// What it was started with.
    pub fn options(&self) -> &GuestOptions {
        &self.options
    }

    /// Its console.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// All that its console said, and where its processor is now: a failure's message.
    pub fn transcript(&self) -> String {
        format!("{}\n{}", self.serial.transcript(), monitor::look(&self.monitor))
    }

    /// Its first process.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Its first process, for somebody who asks beside the guest's owner.
    pub(super) fn shared_control(&self) -> Arc<Control> {
        Arc::clone(&self.control)
    }

    /// The kernel that comes up as the given one, counted from 1.
    ///
    /// # Errors
    /// As [`Control::boot`].
    pub async fn boot(&self, number: usize) -> Result<Boot> {
        self.control.boot(number, PATIENCE).await
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub async fn run(&self, program: &str, args: &[&str]) -> Result<Outcome> {
        self.control.run(program, args, PATIENCE).await
    }

    /// Asks QEMU itself.
    ///
    /// # Errors
    /// [`Error::Qmp`].
    pub async fn qmp(&self, command: &str, arguments: Value) -> Result<Value> {
        self.qmp.lock().await.execute(command, arguments).await
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// [`Error::Qmp`].
    pub async fn reset(&self) -> Result<()> {
        self.qmp("system_reset", json!({})).await.map(drop)
    }

    /// Presses the power button; only a guest that listens for it does something.
    ///
    /// # Errors
    /// [`Error::Qmp`].
    pub async fn press_power(&self) -> Result<()> {
        self.qmp("system_powerdown", json!({})).await.map(drop)
    }

    /// Lets the guest sync and turn itself off, and waits for QEMU's end.
    ///
    /// # Errors
    /// When it does not, with the end of its console.
    pub async fn power_off(mut self) -> Result<ExitStatus> {
        self.control.power_off().await?;
        self.wait(PATIENCE).await
    }

    /// Cuts the power.
    ///
    /// # Errors
    /// When this machine's kernel refuses.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Waits until QEMU ends by itself.
    ///
    /// # Errors
    /// When it does not, with the end of the console.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        match self.process.wait(deadline).await {
            Err(Error::Deadline { waited, .. }) => Err(Error::Deadline {
                what: format!("the end of guest {}", self.options.name),
                waited,
                detail: format!("; the end of its console:\n{}", self.serial.tail()),
            }),
            other => other,
        }
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// A socket that QEMU connects to. We listen first, so that no byte of the guest is missed.
#[derive(Debug)]
struct Socket {
    path: PathBuf,
    listener: UnixListener,
}

impl Socket {
    fn listen(folder: &Path, guest: &str, end: &str) -> Result<Socket> {
        let path = folder.join(format!("{guest}.{end}"));
        let listener = UnixListener::bind(&path).map_err(Error::file("listen on", &path))?;
        Ok(Socket { path, listener })
    }

    async fn accept(self, process: &mut Process) -> Result<UnixStream> {
        let begun = std::time::Instant::now();
        loop {
            let turn = tokio::time::timeout(Duration::from_millis(50), self.listener.accept()).await;
            match turn {
                Ok(Ok((stream, _))) => return Ok(stream),
                Ok(Err(source)) => return Err(Error::File { action: "listen on", path: self.path, source }),
                Err(_) => process.check_running()?,
            }
            if begun.elapsed() > PATIENCE {
                let detail = format!("; it should connect to {}", self.path.display());
                return Err(Error::Deadline { what: "QEMU's start".into(), waited: PATIENCE, detail });
            }
        }
    }
}

/// QEMU's arguments. Always emulated: the same machine everywhere, with or without virtualisation.
fn arguments(options: &GuestOptions, [serial, control, qmp]: &[PathBuf; 3]) -> Vec<OsString> {
    let mut args = Vec::new();
    let mut add = |words: &[&str]| args.extend(words.iter().map(OsString::from));
    add(&["-name", &options.name, "-nodefaults", "-no-user-config", "-display", "none"]);
    add(&["-machine", "q35", "-accel", "tcg", "-cpu", PROCESSOR]);
    add(&["-smp", &options.processors.to_string(), "-m", &format!("{}M", options.memory)]);
    if options.reset == Reset::Ends {
        add(&["-no-reboot"]);
    }
    if let Some(firmware) = &options.firmware {
        let flash = "if=pflash,format=raw,unit";
        add(&["-drive", &format!("{flash}=0,readonly=on,file={}", comma(&firmware.code))]);
        add(&["-drive", &format!("{flash}=1,file={}", comma(&firmware.variables))]);
    } else {
        add(&["-kernel", &options.kernel.to_string_lossy(), "-initrd", &options.initrd.to_string_lossy()]);
        add(&["-append", &options.command_line()]);
    }
    for (id, path) in [("serial", serial), ("control", control), ("qmp", qmp)] {
        add(&["-chardev", &format!("socket,id={id},path={}{}", comma(path), log(id, path))]);
    }
    add(&["-serial", "chardev:serial", "-mon", "chardev=qmp,mode=control"]);
    add(&["-monitor", &format!("unix:{},server=on,wait=off", comma(&qmp.with_extension(MONITOR)))]);
    add(&["-device", "virtio-serial-pci"]);
    add(&["-device", &format!("virtserialport,chardev=control,name={PORT}")]);
    let forwards = options.forwards.iter().map(|forward| {
        let (ip, port) = (forward.host.ip(), forward.host.port());
        format!(",hostfwd=tcp:{ip}:{port}-{GUEST_ADDRESS}:{}", forward.guest_port)
    });
    add(&["-netdev", &format!("user,id=net{}", forwards.collect::<String>())]);
    // No option ROM: nothing boots from the network.
    add(&["-device", "virtio-net-pci,netdev=net,romfile="]);
    for (number, disk) in options.disks.iter().enumerate() {
        add(&["-drive", &format!("if=none,id=disk{number},format=raw,file={}", comma(disk))]);
        add(&["-device", &format!("virtio-blk-pci,drive=disk{number}")]);
    }
    args.extend(options.qemu.iter().cloned());
    args
}

/// The console is also kept in a file, for whoever looks on.
fn log(id: &str, path: &Path) -> String {
    if id == "serial" {
        format!(",logfile={}", comma(&path.with_extension("console")))
    } else {
        String::new()
    }
}

/// QEMU's options end at a comma; two stand for one.
fn comma(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}
