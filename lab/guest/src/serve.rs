//! The server: does what the lab asks, one thread for each request.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use liveupdate_lab_guest::{Action, Message, Outcome, PORT, Request, SERVICES, Service};

use crate::services::Services;

/// The port's driver and the console come up side by side with us.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

type Port = Arc<Mutex<File>>;

/// Serves until the machine goes.
pub(crate) fn serve() -> io::Result<()> {
    // Before the lab is spoken to: holders wait for them.
    let services = Services::default();
    match Services::read(SERVICES).and_then(|all| services.start(all)) {
        Ok(()) => {}
        Err(error) => println!("lab-init: no services from {SERVICES}: {error}"),
    }
    let path = port()?;
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let port: Port = Arc::new(Mutex::new(file.try_clone()?));
    // Ends the line that the kernel before us may have begun.
    port.lock().unwrap_or_else(PoisonError::into_inner).write_all(b"\n")?;
    say(&port, &hello()?)?;
    let mut lines = BufReader::new(file);
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            // The lab is not connected.
            std::thread::sleep(POLL);
            continue;
        }
        match serde_json::from_str::<Request>(&line) {
            Ok(request) => {
                let (port, services) = (Arc::clone(&port), services.clone());
                std::thread::spawn(move || answer(&port, &services, request));
            }
            Err(error) => say(&port, &Message::Failed { id: 0, reason: format!("no request: {error}") })?,
        }
    }
}

fn hello() -> io::Result<Message> {
    Ok(Message::Hello { release: release(), boot_id: boot_id()? })
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Writes a file so that a power cut leaves either the old one or the new one.
fn write(path: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)?;
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
    file.write_all(contents)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

/// For the kernels to come. What is a secret stays one.
fn write_down(services: &[Service]) -> io::Result<()> {
    let plain = |service: &Service| Service { input: String::new(), ..service.clone() };
    let json = serde_json::to_vec(&services.iter().map(plain).collect::<Vec<_>>())?;
    write(Path::new(SERVICES), 0o600, &json)
}

fn answer(port: &Port, services: &Services, Request { id, action }: Request) {
    let message = match action {
        Action::Run { program, args } => {
            let output = Command::new(program).args(args).stdin(Stdio::null()).output();
            output.map(|output| Message::Ended {
                id,
                outcome: Outcome {
                    code: output.status.code(),
                    stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                    stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
                },
            })
        }
        Action::Start { program, args } => {
            let child = Command::new(program).args(args).stdin(Stdio::null()).spawn();
            child.map(|mut child| {
                let pid = child.id();
                std::thread::spawn(move || child.wait());
                Message::Started { id, pid }
            })
        }
        Action::Kernel => boot_id().map(|boot_id| Message::Kernel { id, release: release(), boot_id }),
        Action::Write { path, mode, contents } => {
            write(&path, mode, contents.as_bytes()).map(|()| Message::Done { id })
        }
        Action::Serve { services: all } => {
            write_down(&all).and_then(|()| services.start(all)).map(|()| Message::Done { id })
        }
        Action::Order { service, order } => services.order(&service, order).map(|()| Message::Done { id }),
        Action::PowerOff => {
            rustix::fs::sync();
            rustix::system::reboot(rustix::system::RebootCommand::PowerOff)
                .map_err(io::Error::from)
                .and(Err(io::Error::other("the machine is still on")))
        }
    };
    let message = message.unwrap_or_else(|error| Message::Failed { id, reason: error.to_string() });
    if let Err(error) = say(port, &message) {
        eprintln!("lab-init: cannot answer the lab: {error}");
    }
}

fn say(port: &Port, message: &Message) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    port.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
}

/// The device of the port that has the lab's name.
fn port() -> io::Result<PathBuf> {
    let begun = Instant::now();
    loop {
        for entry in std::fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten() {
            let name = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if name.trim() == PORT {
                return Ok(PathBuf::from("/dev").join(entry.file_name()));
            }
        }
        if begun.elapsed() > PATIENCE {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no virtio-serial port named {PORT}"),
            ));
        }
        std::thread::sleep(POLL);
    }
}
