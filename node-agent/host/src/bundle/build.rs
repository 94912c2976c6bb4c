//! Making a bundle from a kernel and what belongs to it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use liveupdate_node_core::GateResult;
use liveupdate_node_core::gate::Gate;

use super::build_error::BuildError;
use super::digest::Hasher;
use super::shim::{self, Shim};
use super::{Bundle, Formats, MANIFEST, Manifest, Part, VERSION, manifest, modules};
use crate::image::config::OF_INTEREST;
use crate::image::{self, Config, KernelImage};
use crate::linux::boot_parameters::BootParameters;
use crate::linux::gates::{self, Running, Wanted, target_kernel};

/// What a bundle is made of.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The kernel.
    pub image: PathBuf,
    /// What it starts with.
    pub initrd: Option<PathBuf>,
    /// The folder of its modules (`lib/modules/<release>`), or the root that they were installed under.
    pub modules: Option<PathBuf>,
    /// The archive that goes behind the initrd; `rdinit=` is added to the command line.
    pub shim: Option<Shim>,
    /// The kernel's command line.
    pub command_line: String,
    /// The text of its configuration, for a kernel that embeds none. Whoever signs vouches for it.
    pub config: Option<String>,
    /// The release, for an image that does not tell.
    pub release: Option<String>,
    /// Facts for people, beside the kernel's own banner.
    pub provenance: BTreeMap<String, String>,
    /// Make it though `TargetKernel` would not pass, or the image cannot be read at all.
    pub force: bool,
}

/// What was made.
#[derive(Debug)]
pub struct Built {
    /// The bundle, in its folder.
    pub bundle: Bundle,
    /// What `TargetKernel` says of it, as if it replaced a kernel with its own formats; none when the image
    /// cannot be read.
    pub gate: Option<Gate>,
}

/// Makes a bundle in a folder that is not there yet. The same inputs give the same bytes.
///
/// # Errors
/// [`BuildError`].
pub fn build(inputs: &Inputs, folder: &Path) -> Result<Built, BuildError> {
    if fs::symlink_metadata(folder).is_ok() {
        return Err(BuildError::Exists { path: folder.to_owned() });
    }
    let kernel = Kernel::read(inputs)?;
    let command_line = match &inputs.shim {
        Some(_) => shim::command_line(&inputs.command_line),
        None => inputs.command_line.clone(),
    };
    let gate = kernel.judge(&command_line);
    match &gate {
        Some(gate) if gate.result != GateResult::Pass && !inputs.force => {
            return Err(BuildError::Unfit { gate: Box::new(gate.clone()) });
        }
        _ => {}
    }
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = folder.with_file_name(name);
    fs::create_dir(&new).map_err(BuildError::io("make", &new))?;
    let made = fill(inputs, &kernel, command_line, &new).and_then(|()| {
        fs::rename(&new, folder).map_err(BuildError::io("make", folder))?;
        Bundle::open(folder).map_err(BuildError::ReadBack)
    });
    if made.is_err() {
        let _ = fs::remove_dir_all(&new);
    }
    made.map(|bundle| Built { bundle, gate })
}

/// What is known of the image.
struct Kernel {
    bytes: Vec<u8>,
    release: String,
    architecture: String,
    image: Option<KernelImage>,
    config: Option<Config>,
}

impl Kernel {
    fn read(inputs: &Inputs) -> Result<Self, BuildError> {
        let path = || inputs.image.clone();
        let bytes = read(&inputs.image, Part::Image)?;
        let given = inputs.config.as_deref().map(Config::parse);
        let image = match image::inspect(&bytes, image::Limits::default()) {
            Ok(image) => image,
            Err(source) if !inputs.force => return Err(BuildError::Image { path: path(), source }),
            Err(_) => {
                let release = inputs.release.clone().ok_or_else(|| BuildError::NoRelease { path: path() })?;
                let architecture = std::env::consts::ARCH.to_owned();
                return Ok(Self { bytes, release, architecture, image: None, config: given });
            }
        };
        let release = match (&image.release, &inputs.release) {
            (Some(found), Some(given)) if found != given && !inputs.force => {
                let (found, given) = (found.clone(), given.clone());
                return Err(BuildError::OtherRelease { path: path(), found, given });
            }
            (_, Some(given)) => given.clone(),
            (Some(found), None) => found.clone(),
            (None, None) => return Err(BuildError::NoRelease { path: path() }),
        };
        let config = image.config.clone().ok().or(given);
        Ok(Self { bytes, release, architecture: image.architecture.clone(), image: Some(image), config })
    }

    fn formats(&self) -> gates::Formats {
        self.image.as_ref().map(gates::Formats::of).unwrap_or_default()
    }

    /// As if it replaced a kernel of its own kind.
    fn judge(&self, command_line: &str) -> Option<Gate> {
        let image = self.image.as_ref()?;
        let manifest = gates::Manifest { config: self.config.clone(), formats: self.formats() };
        let parameters = BootParameters::parse(command_line);
        let running = Running {
            architecture: self.architecture.clone(),
            formats: self.formats(),
            source: "taken to be the same".into(),
        };
        let wanted = Wanted { release: &self.release, parameters: Some(&parameters) };
        Some(target_kernel(Ok(image), Some(&manifest), wanted, &running))
    }

    fn configuration(&self) -> Option<BTreeMap<String, String>> {
        let config = self.config.as_ref()?;
        let set = |option: &&str| Some(((*option).to_owned(), config.get(option)?.to_owned()));
        Some(OF_INTEREST.iter().filter_map(set).collect())
    }

    fn provenance(&self, inputs: &Inputs) -> BTreeMap<String, String> {
        let mut facts = inputs.provenance.clone();
        if let Some(banner) = self.image.as_ref().and_then(|image| image.banner.as_deref()) {
            let banner: String = banner.chars().filter(|symbol| !symbol.is_control()).take(200).collect();
            facts.insert("banner".into(), banner);
        }
        facts
    }
}

fn fill(inputs: &Inputs, kernel: &Kernel, command_line: String, new: &Path) -> Result<(), BuildError> {
    let copy = |part: Part, from: &Path| {
        let source = File::open(from).map_err(BuildError::io("read", from))?;
        let mut sink = Sink::create(new, part)?;
        // One byte more than may be there shows that there is more.
        io::copy(&mut source.take(part.largest() + 1), &mut sink).map_err(BuildError::io("copy", from))?;
        sink.finish(from)
    };
    let whole = |part: Part, bytes: &[u8], from: &Path| {
        let mut sink = Sink::create(new, part)?;
        sink.write_all(bytes).map_err(BuildError::io("copy", from))?;
        sink.finish(from)
    };
    // The bytes that were judged, whatever the file holds by now.
    let image = whole(Part::Image, &kernel.bytes, &inputs.image)?;
    let initrd = inputs.initrd.as_deref().map(|from| copy(Part::Initrd, from)).transpose()?;
    let modules = inputs.modules.as_deref().map(|given| {
        let folder = modules::folder(given, &kernel.release)?;
        let mut sink = Sink::create(new, Part::Modules)?;
        modules::archive(&folder, &kernel.release, &mut sink)?;
        sink.finish(&folder)
    });
    let shim = inputs.shim.as_ref().map(|shim| whole(Part::Shim, &shim.archive(), new));
    let gates::Formats { kho, luo, memfd } = kernel.formats();
    let manifest = Manifest {
        version: VERSION,
        release: kernel.release.clone(),
        architecture: kernel.architecture.clone(),
        command_line,
        image,
        initrd,
        modules: modules.transpose()?,
        shim: shim.transpose()?,
        formats: Formats { kho, luo, memfd },
        configuration: kernel.configuration(),
        provenance: kernel.provenance(inputs),
    };
    let path = new.join(MANIFEST);
    let bytes = manifest.to_bytes().map_err(BuildError::Manifest)?;
    fs::write(&path, bytes).map_err(BuildError::io("write", &path))
}

fn read(path: &Path, part: Part) -> Result<Vec<u8>, BuildError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(BuildError::io("read", path))?;
    file.take(part.largest() + 1).read_to_end(&mut bytes).map_err(BuildError::io("read", path))?;
    if bytes.len() as u64 > part.largest() {
        return Err(BuildError::TooLarge { path: path.to_owned(), part, largest: part.largest() });
    }
    Ok(bytes)
}

/// A file of the new bundle that knows what went into it.
struct Sink {
    part: Part,
    file: File,
    hasher: Hasher,
    size: u64,
}

impl Sink {
    fn create(folder: &Path, part: Part) -> Result<Self, BuildError> {
        let path = folder.join(part.file());
        let file = File::create_new(&path).map_err(BuildError::io("make", &path))?;
        Ok(Self { part, file, hasher: Hasher::new(), size: 0 })
    }

    fn finish(self, from: &Path) -> Result<manifest::File, BuildError> {
        let (part, largest) = (self.part, self.part.largest());
        if self.size > largest {
            return Err(BuildError::TooLarge { path: from.to_owned(), part, largest });
        }
        Ok(manifest::File { size: self.size, digest: self.hasher.finish() })
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.feed(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
