//! A tree of files, and calls that write down what they were asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use liveupdate_node_core::Target;

use super::super::{Calls, Ending, LinuxHost, Options, Role, Said};
use crate::Host;
use crate::bundle;
use crate::linux::custody::published::{self, Published};
use crate::linux::kexec::{CommandLine, KexecError};
use crate::linux::root::Root;

/// The machine; its folder goes with it.
pub(super) struct Machine {
    folder: PathBuf,
    pub(super) calls: Arc<Recorder>,
}

/// What was called, in order.
pub(super) struct Recorder {
    folder: PathBuf,
    log: Mutex<Vec<String>>,
    /// Calls that fail, by what they are logged as, with their errno.
    failing: Mutex<BTreeMap<String, i32>>,
    /// Running units, by type.
    units: Mutex<BTreeMap<String, Vec<String>>>,
    /// What more is known of units, by their names.
    properties: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    /// Processes that do not end when they are asked.
    stubborn: Mutex<Vec<u32>>,
    /// The machine's clock: nothing but what is called takes any time.
    clock: Mutex<Duration>,
    /// Calls that take their time, by what they are logged as.
    slow: Mutex<BTreeMap<String, Duration>>,
}

const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:21 / /proc rw - proc proc rw
24 22 254:16 / /var/lib/liveupdate rw - ext4 /dev/vdb rw
25 22 254:32 / /data rw,noexec - xfs /dev/vdc rw
26 22 254:48 / /boot/efi rw - vfat /dev/vdd rw
27 22 0:40 / /nfs rw - nfs4 server:/export rw
";

impl Machine {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("liveupdate-linux-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/luo-guest"), &folder);
        let calls = Recorder {
            folder: folder.clone(),
            log: Mutex::default(),
            failing: Mutex::default(),
            units: Mutex::default(),
            properties: Mutex::default(),
            stubborn: Mutex::default(),
            clock: Mutex::new(Duration::from_secs(100)),
            slow: Mutex::default(),
        };
        let machine = Self { folder, calls: Arc::new(calls) };
        machine.write("proc/self/mountinfo", MOUNTS);
        machine.write("sys/kernel/kexec_loaded", "0\n");
        machine.write("proc/sys/kernel/bootloader_type", "176\n");
        machine
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.folder.join(path).exists()
    }

    pub(super) fn options(&self) -> Options {
        let grace = Duration::from_millis(200);
        Options { grace, ..Options::at(Root::at(&self.folder)) }
    }

    pub(super) fn host(&self, role: Role) -> LinuxHost {
        self.host_with(self.options(), role)
    }

    fn host_with(&self, options: Options, role: Role) -> LinuxHost {
        LinuxHost::with_calls(options, role, Arc::clone(&self.calls) as Arc<dyn Calls>).unwrap()
    }

    pub(super) fn keeper(&self) -> LinuxHost {
        self.host(Role::Keeper)
    }

    pub(super) fn keeper_with(&self, options: Options) -> LinuxHost {
        self.host_with(options, Role::Keeper)
    }

    /// A bundle that the machine's signer vouches for.
    pub(super) fn bundle(&self, name: &str) -> Target {
        let file = |text: &str| bundle::File {
            size: text.len() as u64,
            digest: bundle::Digest::of(text.as_bytes()),
        };
        let (image, initrd) = ("not really a kernel", "an initrd");
        let manifest = bundle::Manifest {
            version: bundle::VERSION,
            release: "7.3.5-lu2".into(),
            architecture: "x86_64".into(),
            command_line: "quiet".into(),
            image: file(image),
            initrd: Some(file(initrd)),
            modules: None,
            shim: None,
            formats: bundle::Formats::default(),
            configuration: None,
            provenance: BTreeMap::new(),
        };
        let bytes = manifest.to_bytes().unwrap();
        let key = bundle::SigningKey::generate().unwrap();
        let mut signatures = bundle::Signatures::default();
        signatures.sign(&bytes, &key).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let digest = bundle::Digest::of(&bytes).to_string();
        let folder = format!("var/lib/liveupdate/bundles/{name}");
        self.write(&format!("{folder}/{}", bundle::Part::Image.file()), image);
        self.write(&format!("{folder}/{}", bundle::Part::Initrd.file()), initrd);
        self.write(&format!("{folder}/{}", bundle::MANIFEST), &text(bytes));
        self.write(&format!("{folder}/{}", bundle::SIGNATURES), &text(signatures.to_bytes().unwrap()));
        self.write(&format!("etc/liveupdate/signers/{name}.pub"), &key.public().to_pem());
        Target { release: "7.3.5-lu2".into(), bundle: name.into(), digest }
    }

    /// A process: its id, its parent's, its name and its control group.
    pub(super) fn process(&self, pid: u32, parent: u32, name: &str, cgroup: &str, first: bool) {
        let numbers = "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
        self.write(
            &format!("proc/{pid}/stat"),
            &format!("{pid} ({name}) S {parent} 0 {numbers} {pid}00 0\n"),
        );
        self.write(&format!("proc/{pid}/comm"), &format!("{name}\n"));
        self.write(&format!("proc/{pid}/cgroup"), &format!("0::{cgroup}\n"));
        let ids = if first { format!("NSpid:\t{pid}\t1\n") } else { format!("NSpid:\t{pid}\n") };
        self.write(&format!("proc/{pid}/status"), &ids);
        fs::create_dir_all(self.folder.join(format!("proc/{pid}/fd"))).unwrap();
    }

    /// What the keeper tells of its only holder, which has 1 MiB and no devices.
    pub(super) fn publish(&self, name: &str, pid: u32, cgroup: &str) {
        self.publish_with(name, pid, cgroup, &[]);
    }

    /// The same with devices.
    pub(super) fn publish_with(&self, name: &str, pid: u32, cgroup: &str, devices: &[String]) {
        let holder = Published {
            name: name.into(),
            pid,
            cgroup: cgroup.into(),
            state: "Declared".into(),
            devices: devices.to_vec(),
            dma_targets: 0,
            quiesces_dma: false,
            memory_bytes: 1 << 20,
            minimum: None,
            refuses: false,
        };
        let path = self.options().root.path("/run/liveupdate/holders.json");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let boot_id = self.host(Role::Agent).boot_id().unwrap();
        published::write(&path, &boot_id, vec![holder]).unwrap();
    }

    /// Another kernel comes up.
    pub(super) fn boot(&self, boot_id: &str, release: &str, loader: u32) {
        self.write("proc/sys/kernel/random/boot_id", boot_id);
        self.write("proc/sys/kernel/osrelease", release);
        self.write("proc/sys/kernel/bootloader_type", &loader.to_string());
        self.write("sys/kernel/kexec_loaded", "0\n");
        let _ = fs::remove_dir_all(self.folder.join("run"));
        fs::create_dir_all(self.folder.join("run")).unwrap();
    }

    pub(super) fn systemd(&self, units: &[(&str, &[&str])]) {
        fs::create_dir_all(self.folder.join("run/systemd/system")).unwrap();
        let units = units
            .iter()
            .map(|(kind, names)| ((*kind).to_owned(), names.iter().map(|name| (*name).to_owned()).collect()));
        *self.calls.units.lock().unwrap() = units.collect();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Recorder {
    pub(super) fn taken(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    pub(super) fn fail(&self, call: &str, errno: i32) {
        self.failing.lock().unwrap().insert(call.to_owned(), errno);
    }

    /// What systemd knows of a unit.
    pub(super) fn unit(&self, name: &str, properties: &[(&str, &str)]) {
        let mut all = self.properties.lock().unwrap();
        let known = all.entry(name.to_owned()).or_default();
        known.extend(properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    }

    fn property(&self, unit: &str, name: &str) -> String {
        let all = self.properties.lock().unwrap();
        all.get(unit).and_then(|known| known.get(name)).cloned().unwrap_or_default()
    }

    /// A unit runs.
    pub(super) fn runs(&self, name: &str) -> bool {
        self.units.lock().unwrap().values().flatten().any(|unit| unit == name)
    }

    pub(super) fn stubborn(&self, pid: u32) {
        self.stubborn.lock().unwrap().push(pid);
    }

    /// A call takes its time.
    pub(super) fn slow(&self, call: &str, takes: Duration) {
        self.slow.lock().unwrap().insert(call.to_owned(), takes);
    }

    fn called(&self, call: String) -> io::Result<()> {
        self.within(call, Duration::MAX)
    }

    fn within(&self, call: String, limit: Duration) -> io::Result<()> {
        let takes = self.slow.lock().unwrap().get(&call).copied().unwrap_or_default();
        *self.clock.lock().unwrap() += takes.min(limit);
        if takes > limit {
            self.log.lock().unwrap().push(format!("{call}, given up"));
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("not done within {limit:?}")));
        }
        let errno = self.failing.lock().unwrap().get(&call).copied();
        self.log.lock().unwrap().push(call);
        errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    fn on(&self, what: &str, place: &Path, limit: Duration) -> io::Result<()> {
        let place = place.strip_prefix(&self.folder).unwrap().display().to_string();
        self.within(format!("{what} /{place}"), limit)
    }

    fn loaded(&self, loaded: &str) {
        fs::write(self.folder.join("sys/kernel/kexec_loaded"), loaded).unwrap();
    }

    fn refused(call: &'static str, source: io::Error) -> KexecError {
        KexecError::Call { call, thing: "a test".into(), meaning: "as asked", source }
    }
}

impl Calls for Recorder {
    fn clock(&self) -> Duration {
        *self.clock.lock().unwrap()
    }

    fn load(
        &self,
        kernel: BorrowedFd<'_>,
        initrd: Option<BorrowedFd<'_>>,
        line: &CommandLine,
    ) -> Result<(), KexecError> {
        let length = |file: BorrowedFd<'_>| rustix::fs::fstat(file).unwrap().st_size;
        assert_eq!((length(kernel), initrd.map(length)), (19, Some(9)));
        // The bundle's, and the opt-in of the driver that runs.
        assert_eq!(*line, CommandLine::new("quiet vfio_pci_liveupdate.enable=1").unwrap());
        self.called("load".into()).map_err(|error| Self::refused("kexec_file_load", error))?;
        self.loaded("1\n");
        Ok(())
    }

    fn unload(&self) -> Result<(), KexecError> {
        self.called("unload".into()).map_err(|error| Self::refused("kexec_file_load", error))?;
        self.loaded("0\n");
        Ok(())
    }

    fn reboot(&self) -> Result<Infallible, KexecError> {
        let recorded = self.folder.join("var/lib/liveupdate/jump.record").exists();
        let call = if recorded { "reboot, recorded" } else { "reboot" };
        let error = self.called(call.into()).err();
        let error = error.unwrap_or_else(|| io::Error::from_raw_os_error(libc::EBUSY));
        Err(Self::refused("reboot(KEXEC)", error))
    }

    fn sync_all(&self, limit: Duration) -> io::Result<()> {
        self.within("sync all".into(), limit)
    }

    fn sync(&self, place: &Path, limit: Duration) -> io::Result<()> {
        self.on("sync", place, limit)
    }

    fn freeze(&self, place: &Path, limit: Duration) -> io::Result<()> {
        self.on("freeze", place, limit)
    }

    fn thaw(&self, place: &Path, limit: Duration) -> io::Result<()> {
        self.on("thaw", place, limit)
    }

    fn remount(&self, place: &Path, read_only: bool, _: &str, limit: Duration) -> io::Result<()> {
        self.on(if read_only { "read-only" } else { "writable" }, place, limit)
    }

    fn lock_memory(&self) -> io::Result<()> {
        self.called("lock memory".into())
    }

    fn unlock_memory(&self) -> io::Result<()> {
        self.called("unlock memory".into())
    }

    fn end(&self, pid: u32, how: Ending) -> io::Result<()> {
        let asked = how == Ending::Asked;
        self.called(format!("{} {pid}", if asked { "ask" } else { "force" }))?;
        if !(asked && self.stubborn.lock().unwrap().contains(&pid)) {
            fs::remove_dir_all(self.folder.join(format!("proc/{pid}"))).unwrap();
        }
        Ok(())
    }

    fn systemctl(&self, arguments: &[&str]) -> io::Result<Said> {
        let mut units = self.units.lock().unwrap();
        let named = || arguments.iter().skip_while(|word| **word != "--").skip(1);
        let mut output = String::new();
        match arguments[0] {
            "list-units" => {
                let kinds = arguments.iter().find_map(|word| word.strip_prefix("--type=")).unwrap();
                for unit in kinds.split(',').filter_map(|kind| units.get(kind)).flatten() {
                    output += &format!("{unit} loaded active running Something of that name\n");
                }
            }
            "show" => {
                for unit in named() {
                    let active = units.values().flatten().any(|other| other == unit);
                    let state = if active { "active" } else { "inactive" };
                    output += &format!("Id={unit}\nActiveState={state}\n");
                    for (property, value) in self.properties.lock().unwrap().get(*unit).into_iter().flatten()
                    {
                        output += &format!("{property}={value}\n");
                    }
                    output += "\n";
                }
            }
            verb => {
                let can = |name: &str| match verb {
                    "stop" => self.property(name, "RefuseManualStop").is_empty(),
                    "start" => self.property(name, "LoadState").is_empty(),
                    _ => true,
                };
                // Of some that are named it does what it can.
                let (done, not): (Vec<&str>, Vec<&str>) = named().copied().partition(|name| can(name));
                let mut ended: Vec<String> = done.iter().map(|name| (*name).to_owned()).collect();
                while let Some(name) = ended.pop().filter(|_| verb == "stop") {
                    let needs = |unit: &&String| {
                        let named = ["Requires", "BindsTo", "PartOf"].map(|named| self.property(unit, named));
                        named.iter().any(|units| units.split(' ').any(|unit| unit == name))
                    };
                    ended.extend(units.values().flatten().filter(needs).cloned());
                    units.values_mut().for_each(|all| all.retain(|unit| *unit != name));
                    if self.property(&name, "Transient") == "yes" {
                        self.unit(&name, &[("LoadState", "not-found")]);
                    }
                }
                drop(units);
                self.called(format!("{verb} {}", named().copied().collect::<Vec<_>>().join(" ")))?;
                if let Some(first) = not.first() {
                    let complaint = format!("Failed to {verb} {first}.");
                    return Ok(Said { well: false, output, complaint });
                }
            }
        }
        Ok(Said { well: true, output, complaint: String::new() })
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else if kind.is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
