//! What the first process of the next kernel finds: the contents of `shim.cpio`. `liveupdate-init` reads it, so
//! the names are a contract.
//!
//! ```text
//!  /liveupdate-init            the program that rdinit= names
//!  /liveupdate/kmsg            device 1:11, for messages before anything is mounted
//!  /liveupdate/proc            where it looks at /proc, for a moment
//!  /liveupdate/drivers/        driver modules
//!  /liveupdate/drivers.list    one a line, in order: path under /, then parameters
//!  /liveupdate/keeper          optional: the keeper's program
//!  /liveupdate/keeper.list     its arguments, one a line
//! ```

use std::fmt::Write as _;

use super::cpio::Archive;

/// The first program, as `rdinit=` names it.
pub const INIT: &str = "/liveupdate-init";
/// Names the program that the first one runs when it is done; `/init` without it.
pub const INIT_PARAMETER: &str = "liveupdate.init";
/// The kernel's log, before `/dev` is there.
pub const KMSG: &str = "/liveupdate/kmsg";
/// An empty folder for a moment's look at `/proc`.
pub const PROC: &str = "/liveupdate/proc";
/// Driver modules to load, in order.
pub const DRIVERS: &str = "/liveupdate/drivers.list";
/// The keeper.
pub const KEEPER: &str = "/liveupdate/keeper";
/// The keeper's arguments.
pub const KEEPER_ARGUMENTS: &str = "/liveupdate/keeper.list";

/// What the kernel runs without `rdinit=`.
pub const DEFAULT_INIT: &str = "/init";

/// A driver module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// Its file's name.
    pub name: String,
    /// The module.
    pub module: Vec<u8>,
    /// Parameters, as `modprobe` takes them.
    pub parameters: String,
}

/// The keeper, when the first process starts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    /// A static program.
    pub program: Vec<u8>,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// All that goes into the archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shim {
    /// `liveupdate-init`, static.
    pub init: Vec<u8>,
    /// In the order in which they are loaded.
    pub drivers: Vec<Driver>,
    /// Started by the first process; none: the real init does it.
    pub keeper: Option<Keeper>,
}

impl Shim {
    /// The archive. The same contents give the same bytes.
    pub fn archive(&self) -> Vec<u8> {
        let relative = |path: &'static str| path.trim_start_matches('/');
        let mut archive = Archive::new();
        archive.file(relative(INIT), 0o755, &self.init);
        archive.folder("liveupdate", 0o755);
        archive.folder(relative(PROC), 0o555);
        archive.character_device(relative(KMSG), 0o600, 1, 11);
        archive.folder("liveupdate/drivers", 0o755);
        let mut list = String::new();
        for (number, driver) in self.drivers.iter().enumerate() {
            // Numbered, so that two files of one name in two folders both come.
            let path = format!("liveupdate/drivers/{number:02}-{}", driver.name);
            archive.file(&path, 0o644, &driver.module);
            let line = format!("/{path} {}", driver.parameters);
            // Writing to a String cannot fail.
            let _ = writeln!(list, "{}", line.trim_end());
        }
        archive.file(relative(DRIVERS), 0o644, list.as_bytes());
        if let Some(keeper) = &self.keeper {
            archive.file(relative(KEEPER), 0o755, &keeper.program);
            let arguments = keeper.arguments.iter().fold(String::new(), |text, word| text + word + "\n");
            archive.file(relative(KEEPER_ARGUMENTS), 0o644, arguments.as_bytes());
        }
        archive.finish()
    }
}

/// What of a command line is for the kernel, and what behind the word `--` is for init; none without that word. It may
/// be the first or the last one, and what is quoted is no word of its own: as the kernel reads it.
fn kernel_and_init(text: &str) -> (&str, Option<&str>) {
    let (mut quoted, mut start) = (false, None);
    for (at, symbol) in text.char_indices().chain([(text.len(), ' ')]) {
        if symbol.is_ascii_whitespace() && !quoted {
            if let Some(from) = start.take().filter(|from| &text[*from..at] == "--") {
                return (text[..from].trim_end(), Some(text[at..].trim_start()));
            }
            continue;
        }
        quoted ^= symbol == '"';
        start.get_or_insert(at);
    }
    (text.trim_end(), None)
}

/// A command line of what is for the kernel and what is for init.
fn with_init(kernel: &str, init: Option<&str>) -> String {
    let words = [kernel].into_iter().chain(init.map(|_| "--")).chain(init);
    words.filter(|words| !words.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A command line with one more parameter of the kernel's, which is the last of them: what follows `--` is init's.
pub(crate) fn with_parameter(text: &str, parameter: &str) -> String {
    let (kernel, init) = kernel_and_init(text);
    with_init(format!("{kernel} {parameter}").trim_start(), init)
}

/// A kernel's command line with the shim as its first program. What was the first one is named for it.
pub fn command_line(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    // What follows `--` is for init and stays behind it.
    let (kernel, init) = kernel_and_init(text);
    for word in kernel.split_whitespace() {
        match word.strip_prefix("rdinit=") {
            Some(INIT) => {}
            Some(real) => words.push(format!("{INIT_PARAMETER}={real}")),
            None => words.push(word.to_owned()),
        }
    }
    words.push(format!("rdinit={INIT}"));
    with_init(&words.join(" "), init)
}

/// The program to run after the shim, from the kernel's command line.
pub fn real_init(command_line: &str) -> String {
    let (kernel, _) = kernel_and_init(command_line);
    let mut named =
        kernel.split_whitespace().filter_map(|word| word.strip_prefix(INIT_PARAMETER)?.strip_prefix('='));
    named.next_back().unwrap_or(DEFAULT_INIT).to_owned()
}

/// The parameters that a driver is loaded with: those that the kernel's command line has for it
/// (`name.parameter=value`, as for one that is built in), then those of the list, which count last.
pub fn parameters(path: &str, listed: &str, command_line: &str) -> String {
    let module = module_name(path);
    let (kernel, _) = kernel_and_init(command_line);
    let own = kernel.split_whitespace().filter_map(|word| {
        let (name, parameter) = word.split_once('.')?;
        (name.replace('-', "_") == module).then_some(parameter)
    });
    let mut words: Vec<&str> = own.collect();
    words.extend(listed.split_whitespace());
    words.join(" ")
}

/// What a module's file is called by: without the shim's number, endings, and with `_` for `-`.
fn module_name(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let numbered =
        name.split_once('-').filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()));
    let name = numbered.map_or(name, |(_, name)| name);
    name.split_once(".ko").map_or(name, |(name, _)| name).replace('-', "_")
}

/// The lines of [`DRIVERS`]: path and parameters.
pub fn drivers(list: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').map_or((line, ""), |(path, parameters)| (path, parameters.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_starts_the_shim_and_the_shim_what_was_first() {
        assert_eq!(command_line("root=/dev/vda quiet"), "root=/dev/vda quiet rdinit=/liveupdate-init");
        let line = command_line("rdinit=/sbin/early quiet -- single rdinit=/x");
        assert_eq!(line, "liveupdate.init=/sbin/early quiet rdinit=/liveupdate-init -- single rdinit=/x");
        assert_eq!(command_line(&line), line);
        assert_eq!(real_init(&line), "/sbin/early");
        assert_eq!(real_init("quiet -- liveupdate.init=/x"), "/init");
        assert_eq!(real_init("liveupdate.init=/a liveupdate.init=/b"), "/b");
    }

    #[test]
    fn what_is_for_the_kernel_never_lands_behind_the_word_that_ends_its_part() {
        for (given, wanted) in [
            ("quiet --", "quiet rdinit=/liveupdate-init --"),
            ("-- single", "rdinit=/liveupdate-init -- single"),
            ("--", "rdinit=/liveupdate-init --"),
            ("quiet\t--  single", "quiet rdinit=/liveupdate-init -- single"),
            ("a -- b -- c", "a rdinit=/liveupdate-init -- b -- c"),
            ("--quiet a--", "--quiet a-- rdinit=/liveupdate-init"),
            ("dyndbg=\"file x -- +p\"", "dyndbg=\"file x -- +p\" rdinit=/liveupdate-init"),
            ("", "rdinit=/liveupdate-init"),
        ] {
            assert_eq!(command_line(given), wanted, "{given:?}");
            assert_eq!(command_line(wanted), wanted, "{given:?}");
        }
        assert_eq!(with_parameter("quiet --", "a=1"), "quiet a=1 --");
        assert_eq!(with_parameter("-- single", "a=1"), "a=1 -- single");
        assert_eq!(with_parameter("", "a=1"), "a=1");
        assert_eq!(real_init("-- liveupdate.init=/x"), "/init");
    }

    #[test]
    fn a_driver_gets_what_the_command_line_has_for_it_and_the_list_counts_last() {
        let line =
            "quiet vfio_pci_liveupdate.enable=1 vfio-pci.ids=1b36:0010 nvme.x=1 -- vfio_pci_liveupdate.y=2";
        let of = |path, listed| parameters(path, listed, line);
        assert_eq!(of("/liveupdate/drivers/00-vfio_pci_liveupdate.ko", ""), "enable=1");
        assert_eq!(of("/liveupdate/drivers/00-vfio-pci-liveupdate.ko.zst", "enable=0"), "enable=1 enable=0");
        assert_eq!(of("/liveupdate/drivers/12-vfio-pci.ko", "a=1"), "ids=1b36:0010 a=1");
        assert_eq!(of("/liveupdate/drivers/01-vfio-pci-core.ko", ""), "");
    }

    #[test]
    fn drivers_are_listed_in_order_with_their_parameters() {
        let driver = |name: &str, parameters: &str| Driver {
            name: name.into(),
            module: b"ko".to_vec(),
            parameters: parameters.into(),
        };
        let shim = Shim {
            init: b"init".to_vec(),
            drivers: vec![driver("b.ko", "one=1 two=2"), driver("b.ko", "")],
            keeper: Some(Keeper { program: b"k".to_vec(), arguments: vec!["--host".into(), "linux".into()] }),
        };
        let archive = shim.archive();
        let text = String::from_utf8_lossy(&archive);
        let list = "/liveupdate/drivers/00-b.ko one=1 two=2\n/liveupdate/drivers/01-b.ko\n";
        assert!(text.contains(list), "{text}");
        assert!(text.contains("--host\nlinux\n"));
        assert_eq!(
            drivers(list).collect::<Vec<_>>(),
            [("/liveupdate/drivers/00-b.ko", "one=1 two=2"), ("/liveupdate/drivers/01-b.ko", "")]
        );
        assert_eq!(drivers("# none\n\n").count(), 0);
        assert_eq!(archive, shim.archive());
    }
}
