//! What of a bundle decides about its devices: the driver, where it is, and which drivers are built in.
//!
//! ```text
//!  shim.cpio:    drivers.list, the driver's module and its parameters ── loaded before anything else
//!  modules.cpio: the driver's module, modules.builtin.modinfo
//! ```
//! Nothing here is believed for being in the bundle: it counts when all bytes of the archive were the manifest's, and
//! what is loaded is verified once more when it is staged.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read};

use liveupdate_proto::causes::chain;

use super::{Bundle, BundleError, Part, cpio_read, shim};
use crate::image::{self, Compression};
use crate::linux::driver;
use crate::linux::modules::ModuleFile;

/// No module is larger, unpacked.
const LARGEST_MODULE: u64 = 256 << 20;
/// Nor is the list of what is built in.
const LARGEST_LIST: u64 = 16 << 20;
/// Names of what is built in, with what each is for.
const BUILT_IN: &str = "modules.builtin.modinfo";

/// The driver's module, as a bundle has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverModule {
    /// Its path in the archive.
    pub path: String,
    /// What it says of itself, or why that cannot be read.
    pub file: Result<ModuleFile, String>,
    /// The driver's strings in it.
    pub abi: BTreeSet<String>,
}

/// What of a bundle decides about devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The driver that the shim loads, and with which parameters.
    pub shim: Option<(DriverModule, String)>,
    /// What the shim loads before it: the PCI devices that each takes (as patterns), or why that cannot be read.
    pub before: Vec<(String, Result<Vec<String>, String>)>,
    /// The driver among the modules.
    pub modules: Option<DriverModule>,
    /// PCI aliases of drivers that are built in, by driver; none: the bundle does not tell.
    pub built_in: Option<BTreeMap<String, Vec<String>>>,
}

impl Contents {
    /// Looks into a bundle's archives, and checks them on the way: who remembers what is in them does so by the bundle's
    /// digest.
    ///
    /// # Errors
    /// What cannot be read, or is not the manifest's.
    pub fn read(bundle: &Bundle) -> Result<Self, String> {
        let mut contents = Self::default();
        for part in [Part::Shim, Part::Modules] {
            let told = |error: BundleError| chain(&error);
            let Some(mut archive) = bundle.checked(part).map_err(told)? else { continue };
            let mut from = BufReader::new(&mut archive);
            let looked = match part {
                Part::Shim => contents.look_at_shim(&mut from),
                _ => contents.look_at_modules(&mut from),
            };
            // First this: a change may be why it makes no sense.
            archive.finish().map_err(told)?;
            looked.map_err(|error| format!("{}: {error}", part.file()))?;
        }
        Ok(contents)
    }

    /// A shim's archive.
    ///
    /// # Errors
    /// It is none.
    pub fn look_at_shim(&mut self, archive: &mut dyn Read) -> io::Result<()> {
        let mut list = String::new();
        let mut module = None;
        let mut others = BTreeMap::new();
        cpio_read::files(archive, &mut |name, size, contents| {
            if shim::DRIVERS.trim_start_matches('/') == name {
                contents.take(LARGEST_LIST).read_to_string(&mut list)?;
            } else if is_driver(name) {
                module = Some(driver_module(name, size, contents)?);
            } else if name.contains(".ko") {
                let other = driver_module(name, size, contents)?;
                others.insert(other.path, other.file.map(|file| file.takes));
            }
            Ok(())
        })?;
        // What is there and not listed is not loaded.
        let Some(module) = module else { return Ok(()) };
        let mut before = Vec::new();
        for (path, parameters) in shim::drivers(&list) {
            let path = path.trim_start_matches('/');
            if path == module.path {
                self.shim = Some((module, parameters.to_owned()));
                self.before = before;
                break;
            }
            // What is listed and not there is not loaded, either.
            before.extend(others.remove_entry(path));
        }
        Ok(())
    }

    /// An archive of modules.
    ///
    /// # Errors
    /// It is none.
    pub fn look_at_modules(&mut self, archive: &mut dyn Read) -> io::Result<()> {
        cpio_read::files(archive, &mut |name, size, contents| {
            if is_driver(name) {
                self.modules = Some(driver_module(name, size, contents)?);
            } else if name.rsplit('/').next() == Some(BUILT_IN) {
                let mut list = Vec::new();
                contents.take(LARGEST_LIST).read_to_end(&mut list)?;
                self.built_in = Some(aliases(&list));
            }
            Ok(())
        })
    }
}

/// A module may be packed, and the shim numbers what it loads.
fn is_driver(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let name = name.trim_start_matches(|symbol: char| symbol.is_ascii_digit()).trim_start_matches('-');
    let name = name.split_once(".ko").map(|(name, _)| name.replace('-', "_"));
    name.as_deref() == Some(driver::MODULE)
}

fn driver_module(path: &str, size: u64, contents: &mut dyn Read) -> io::Result<DriverModule> {
    let mut bytes = Vec::new();
    contents.take(LARGEST_MODULE).read_to_end(&mut bytes)?;
    if size > LARGEST_MODULE {
        let file = Err(format!("it is larger than {LARGEST_MODULE} bytes"));
        return Ok(DriverModule { path: path.to_owned(), file, abi: BTreeSet::new() });
    }
    let packed = Compression::detect(&bytes).filter(|_| !bytes.starts_with(b"\x7fELF"));
    let plain = match packed {
        Some(compression) => image::unpack_whole(compression, &bytes, LARGEST_MODULE),
        None => Ok(bytes),
    };
    let file = plain
        .as_ref()
        .map_err(Clone::clone)
        .and_then(|plain| ModuleFile::parse(plain).map_err(|error| error.to_string()));
    let abi = plain.map(|plain| image::driver_strings(&plain)).unwrap_or_default();
    Ok(DriverModule { path: path.to_owned(), file, abi })
}

/// `nvme.alias=pci:v*d*…` among the strings.
fn aliases(list: &[u8]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in list.split(|byte| *byte == 0) {
        let Ok(entry) = std::str::from_utf8(entry) else { continue };
        let Some((name, alias)) = entry.split_once(".alias=") else { continue };
        if alias.starts_with("pci:") {
            found.entry(name.to_owned()).or_default().push(alias.to_owned());
        }
    }
    found
}

#[cfg(test)]
#[path = "contents_tests.rs"]
mod tests;
