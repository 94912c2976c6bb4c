//! Loading drivers, in the order of their list.

use std::ffi::CString;
use std::fs::{self, File};

use liveupdate_host::bundle::shim;
use rustix::io::Errno;

use crate::log::Log;

/// `MODULE_INIT_COMPRESSED_FILE`: the kernel unpacks it.
const COMPRESSED: i32 = 4;

/// Loads them; `command_line` is the kernel's.
pub(crate) fn load(log: &Log, command_line: &str) {
    let Ok(list) = fs::read_to_string(shim::DRIVERS) else {
        log.say(&format!("{} cannot be read: no driver is loaded", shim::DRIVERS));
        return;
    };
    for (path, parameters) in shim::drivers(&list) {
        let parameters = shim::parameters(path, parameters, command_line);
        match insert(path, &parameters) {
            Ok(()) => log.say(format!("loaded {path} {parameters}").trim_end()),
            Err(error) => log.say(&format!("cannot load {path}: {error}; devices that need it are lost")),
        }
    }
}

fn insert(path: &str, parameters: &str) -> Result<(), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let parameters = CString::new(parameters).map_err(|error| error.to_string())?;
    let packed = [".gz", ".xz", ".zst"].iter().any(|ending| path.ends_with(ending));
    match rustix::system::finit_module(&file, &parameters, if packed { COMPRESSED } else { 0 }) {
        // It is there already, which is what is wanted.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.to_string()),
    }
}
