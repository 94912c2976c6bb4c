//! Kernel modules: those that are loaded, and what a file that could be loaded says of itself.

use super::root::{ReadError, Root, optional};
use crate::image::{ImageError, elf};

const LOADED: &str = "/proc/modules";
const SIGNED: &[u8] = b"~Module signature appended~\n";

/// A loaded module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// How often it is used; it cannot be unloaded while it is.
    pub users: u32,
    /// It runs: it is neither coming nor going.
    pub live: bool,
}

/// All that are loaded; none when this kernel has no modules at all.
///
/// # Errors
/// [`ReadError`].
pub fn loaded(root: &Root) -> Result<Option<Vec<Module>>, ReadError> {
    let Some(text) = optional(root.text(LOADED))? else { return Ok(None) };
    let modules = text.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Name, size, users, by whom, state, address.
        let module = words.first().zip(words.get(2).and_then(|users| users.parse().ok()));
        let module = module.map(|(name, users)| Module {
            name: (*name).to_owned(),
            users,
            live: words.get(4) == Some(&"Live"),
        });
        module.ok_or_else(|| ReadError::malformed(LOADED, line, "a loaded module"))
    });
    modules.collect::<Result<Vec<_>, _>>().map(Some)
}

/// A parameter of a loaded module; none when the module or the parameter is not there.
///
/// # Errors
/// [`ReadError`].
pub fn parameter(root: &Root, module: &str, name: &str) -> Result<Option<String>, ReadError> {
    optional(root.line(&format!("/sys/module/{module}/parameters/{name}")))
}

/// What a module's file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleFile {
    /// Its name.
    pub name: Option<String>,
    /// Release and build options of the kernels that take it (`7.3.4-lu2 SMP preempt mod_unload `).
    pub vermagic: Option<String>,
    /// Modules that it needs.
    pub depends: Vec<String>,
    /// PCI devices that it takes, as patterns (`pci:v*d*sv*sd*bc01sc08i02*`).
    pub takes: Vec<String>,
    /// A signature is appended. Whose, only the kernel can tell.
    pub signed: bool,
}

impl ModuleFile {
    /// Reads an unpacked `.ko`.
    ///
    /// # Errors
    /// [`ImageError`] when it is no ELF file, or broken.
    pub fn parse(file: &[u8]) -> Result<Self, ImageError> {
        let section = elf::section(file, b".modinfo")?;
        let section = section.ok_or(ImageError::Malformed { what: "a module without .modinfo".into() })?;
        let mut module = Self { signed: file.ends_with(SIGNED), ..Self::default() };
        for entry in section.split(|byte| *byte == 0) {
            let entry = String::from_utf8_lossy(entry);
            match entry.split_once('=') {
                Some(("name", name)) => module.name = Some(name.to_owned()),
                Some(("vermagic", magic)) => module.vermagic = Some(magic.to_owned()),
                Some(("alias", alias)) if alias.starts_with("pci:") => module.takes.push(alias.to_owned()),
                Some(("depends", names)) => {
                    module.depends =
                        names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
                }
                _ => {}
            }
        }
        Ok(module)
    }

    /// The release that it was built for.
    pub fn release(&self) -> Option<&str> {
        self.vermagic.as_deref()?.split_whitespace().next()
    }
}
