//! A guest like an installed machine: firmware starts systemd-boot from its disk, that a kernel, and that the
//! distribution's systemd, under which the product runs by the units that are shipped.
//!
//! ```text
//!  disk ┬ /dev/vda1  EFI system partition, FAT   EFI/BOOT/BOOTX64.EFI, loader/…, first/linux    /efi
//!       └ /dev/vda2  ext4, a copy of what rootfs/build.sh made, and files of the run            /
//! ```
//! All of it is written into a file; nothing is mounted and nobody has to be root.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::options::{Firmware, command_line};
use super::{GuestOptions, Kit, KitBundle, Variant, static_binaries};
use crate::{Error, Result};

const MIB: u64 = 1 << 20;
/// Where the EFI system partition begins, in bytes, as partitioning tools have it.
const ESP_AT: u64 = MIB;
const ESP_BYTES: u64 = 256 * MIB;
const ROOT_AT: u64 = ESP_AT + ESP_BYTES;
/// The second copy of the partition table.
const END: u64 = MIB;
const SECTOR: u64 = 512;
const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
const BOOT_LOADER: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
/// The distribution's kernel beside its root.
const STOCK: &str = "stock/linux";
/// The entry that is the default at first.
pub const FIRST_ENTRY: &str = "first.conf";
pub(super) const LAB_UNIT: &str = "\
[Unit]
Description=liveupdate lab

[Service]
ExecStart=/bin/liveupdate-lab-init serve
Restart=always
StandardOutput=tty

[Install]
WantedBy=multi-user.target
";
/// Package and program; all are in /usr/bin of the guest.
const PROGRAMS: [(&str, &str); 4] = [
    ("liveupdate-lab-guest", "liveupdate-lab-init"),
    ("liveupdate-keeper", "liveupdate-keeper"),
    ("liveupdate-agent", "liveupdate-agent"),
    ("liveupdate-holder", "liveupdate-hold"),
];

/// What the disk starts at first.
pub(super) struct First {
    pub(super) image: PathBuf,
    pub(super) initrd: Option<PathBuf>,
    /// Its command line.
    pub(super) options: String,
}

impl Kit {
    /// Puts a bundle of one of the kernels on the disks of installed guests, under its release: without an
    /// initrd, since all that such a kernel needs to find its root is built in.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn installed_bundle(&self, variant: Variant) -> Result<KitBundle> {
        let kernel = self.kernels().kernel(variant)?;
        let image = fs::read(kernel.image()).map_err(Error::file("read", &kernel.image()))?;
        self.write_bundle(&kernel.release, &kernel.release, &image, None, &on_disk())
    }

    /// How an installed guest is started; its disk is made now. It boots again when it resets, as real machines
    /// do. Run the product in it with [`super::Manager::Systemd`].
    ///
    /// # Errors
    /// When the root cannot be built, or the disk cannot be made.
    pub fn installed(&self, name: &str, variant: Variant) -> Result<GuestOptions> {
        let kernel = self.kernels().kernel(variant)?;
        let files = self.folder().join(format!("{name}.files"));
        self.stage(&files)?;
        // The gates read the formats of the running kernel off its image.
        copy(&kernel.image(), &files.join(format!("boot/vmlinuz-{}", kernel.release)))?;
        let first = First { image: kernel.image(), initrd: None, options: on_disk() };
        self.install(name, &files, &root()?, &first)
    }

    /// As [`Kit::installed`], with the distribution's own kernel.
    ///
    /// # Errors
    /// As [`Kit::installed`].
    pub fn stock(&self, name: &str) -> Result<GuestOptions> {
        let root = root()?;
        let first = First {
            image: root.join(STOCK),
            initrd: Some(root.join("stock/initrd")),
            options: format!("{} systemd.wants=systemd-networkd.service", on_disk()),
        };
        let files = self.folder().join(format!("{name}.files"));
        self.stage(&files)?;
        self.install(name, &files, &root, &first)
    }

    /// The distribution's own kernel, as such guests boot it.
    ///
    /// # Errors
    /// When the root cannot be built.
    pub fn stock_image() -> Result<PathBuf> {
        Ok(root()?.join(STOCK))
    }

    /// Makes the disk: the root of that folder, with these files in it.
    pub(super) fn install(
        &self,
        name: &str,
        files: &Path,
        root: &Path,
        first: &First,
    ) -> Result<GuestOptions> {
        let disk = self.folder().join(format!("{name}.disk"));
        make_disk(&disk, &root.join("root.ext4"))?;
        add_files(&disk, files)?;
        boot_partition(&disk, first, &self.folder().join(format!("{name}.esp")))?;

        let variables = self.folder().join(format!("{name}.variables"));
        fs::copy(VARIABLES, &variables).map_err(Error::file("copy", Path::new(VARIABLES)))?;
        let mut options = GuestOptions::new(name, &self.kernels().kernel(Variant::Lu1)?, self.initrd());
        options.firmware = Some(Firmware { code: CODE.into(), variables });
        options.reset = super::Reset::BootsAgain;
        options.memory = 1536;
        // A kernel gives its other processors a second to stop, then it jumps. On a busy machine one of them may be
        // held up for longer and run on in what is the next kernel's memory by then: the likely reason why such a
        // guest once hung between two kernels.
        options.processors = 1;
        options.disks.push(disk);
        Ok(options)
    }

    /// The files of the run, as they lie in the guest.
    fn stage(&self, files: &Path) -> Result<()> {
        for (package, program) in PROGRAMS {
            copy(&static_binaries::fresh(package, program)?, &files.join("usr/bin").join(program))?;
        }
        write(&files.join("etc/liveupdate/signers/lab.pub"), self.signer().as_bytes())?;
        copy_all(&self.disk_folder(), &files.join("var/lib"))?;
        let units = files.join("etc/systemd/system");
        write(&units.join("liveupdate-keeper.service"), liveupdate_keeper::UNIT.as_bytes())?;
        write(&units.join("liveupdate-lab.service"), LAB_UNIT.as_bytes())?;
        let wanted = units.join("multi-user.target.wants");
        create(&wanted)?;
        let link = wanted.join("liveupdate-lab.service");
        symlink("../liveupdate-lab.service", &link).map_err(Error::file("create", &link))
    }
}

/// The command line of every kernel of an installed guest.
pub(super) fn on_disk() -> String {
    format!("{} root=/dev/vda2 rw", command_line())
}

/// The folder with the distribution's root and kernel, built first when it is missing.
fn root() -> Result<PathBuf> {
    crate::built::by("rootfs/build.sh", "the guests' root")
}

/// A disk with two partitions, the second one with this root.
fn make_disk(disk: &Path, root: &Path) -> Result<()> {
    let bytes = fs::metadata(root).map_err(Error::file("read", root))?.len();
    super::disk::empty(disk, ROOT_AT + bytes + END)?;
    let table = format!(
        "label: gpt\nstart={}, size={}, type=uefi\nstart={}, size={}, type=linux\n",
        ESP_AT / SECTOR,
        ESP_BYTES / SECTOR,
        ROOT_AT / SECTOR,
        bytes / SECTOR
    );
    run("sfdisk", &["--quiet".into(), disk.into()], &table)?;
    copy_to(root, disk, ROOT_AT).map_err(Error::file("copy", root))
}

/// Copies a file to a place of another; where it has only zeros, nothing is written.
fn copy_to(from: &Path, to: &Path, at: u64) -> std::io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::options().write(true).open(to)?);
    to.seek(SeekFrom::Start(at))?;
    let (mut chunk, zeros) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    loop {
        let read = from.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        if chunk[..read] == zeros[..read] {
            to.seek_relative(i64::try_from(read).unwrap_or_default())?;
        } else {
            to.write_all(&chunk[..read])?;
        }
    }
}

/// Adds a folder's files to the root of a disk.
fn add_files(disk: &Path, files: &Path) -> Result<()> {
    let mut script = String::new();
    commands(files, "", &mut script).map_err(Error::file("read", files))?;
    let device = format!("{}?offset={ROOT_AT}", disk.display());
    let said = run("debugfs", &["-w".into(), "-f".into(), "-".into(), device.into()], &script)?;
    // It goes on after an error, and ends well all the same. That a folder is there already is no error.
    let wrong: Vec<&str> = said
        .lines()
        .filter(|line| !line.starts_with("debugfs") && !line.starts_with("Allocated inode"))
        .filter(|line| !line.is_empty() && !line.contains("directory already exists"))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(failed("debugfs", &wrong.join("\n"))) }
}

/// What debugfs has to do for a folder, its own folders first.
fn commands(folder: &Path, place: &str, script: &mut String) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let place = format!("{place}/{name}");
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            *script += &format!("symlink {place} {}\n", fs::read_link(&path)?.display());
        } else if kind.is_dir() {
            *script += &format!("mkdir {place}\n");
            commands(&path, &place, script)?;
        } else {
            *script += &format!("write {} {place}\n", path.display());
        }
    }
    Ok(())
}

/// Makes the EFI system partition; `files` is the folder that its files are put together in.
fn boot_partition(disk: &Path, first: &First, files: &Path) -> Result<()> {
    copy(Path::new(BOOT_LOADER), &files.join("EFI/BOOT/BOOTX64.EFI"))?;
    copy(&first.image, &files.join("first/linux"))?;
    let mut entry = format!("title First\nlinux /first/linux\noptions {}\n", first.options);
    if let Some(initrd) = &first.initrd {
        copy(initrd, &files.join("first/initrd"))?;
        entry.push_str("initrd /first/initrd\n");
    }
    write(&files.join("loader/entries").join(FIRST_ENTRY), entry.as_bytes())?;
    write(&files.join("loader/loader.conf"), format!("timeout 0\ndefault {FIRST_ENTRY}\n").as_bytes())?;
    let at = OsString::from(format!("{}@@{ESP_AT}", disk.display()));
    let sectors = (ESP_BYTES / SECTOR).to_string();
    let words = ["-i".into(), at.clone(), "-F".into(), "-T".into(), sectors.into(), "::".into()];
    run("mformat", &words, "")?;
    let mut words = vec!["-s".into(), "-Q".into(), "-i".into(), at];
    for name in ["EFI", "first", "loader"] {
        words.push(files.join(name).into());
    }
    words.push("::".into());
    run("mcopy", &words, "").map(drop)
}

/// Runs a program that need not be on everybody's PATH; what it said.
fn run(name: &str, args: &[OsString], input: &str) -> Result<String> {
    let places = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).join(name));
    let program = places.into_iter().find(|path| path.exists()).unwrap_or_else(|| PathBuf::from(name));
    let fail = |source| Error::Spawn { name: name.to_owned(), program: program.clone(), source };
    let mut child = Command::new(&program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    let written = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(fail)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(failed(name, &format!("{}: {said}", output.status)));
    }
    written.map_err(fail)?;
    Ok(said)
}

fn failed(name: &str, why: &str) -> Error {
    let source = std::io::Error::other(why.to_owned());
    Error::Spawn { name: name.to_owned(), program: name.into(), source }
}

pub(super) fn copy_all(from: &Path, to: &Path) -> Result<()> {
    create(to)?;
    for entry in fs::read_dir(from).map_err(Error::file("read", from))? {
        let entry = entry.map_err(Error::file("read", from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { copy_all(&path, &target)? } else { copy(&path, &target)? }
    }
    Ok(())
}

pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    create(to.parent().unwrap_or(to))?;
    fs::copy(from, to).map_err(Error::file("copy", from)).map(drop)
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    create(path.parent().unwrap_or(path))?;
    fs::write(path, bytes).map_err(Error::file("write", path))
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::file("create", folder))
}
