//! A kernel's configuration, as `.config` has it.

use std::collections::BTreeMap;
use std::io::Read;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// No configuration is larger; a distribution's has some 300 KiB.
pub const LARGEST: usize = 8 << 20;

/// Options that decide about a live update, in the order in which people read them.
pub const OF_INTEREST: &[&str] = &[
    "CONFIG_LIVEUPDATE",
    "CONFIG_LIVEUPDATE_MEMFD",
    "CONFIG_KEXEC_HANDOVER",
    "CONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT",
    "CONFIG_KEXEC_HANDOVER_DEBUGFS",
    "CONFIG_KEXEC_FILE",
    "CONFIG_KEXEC",
    "CONFIG_KEXEC_SIG",
    "CONFIG_KEXEC_SIG_FORCE",
    "CONFIG_RELOCATABLE",
    "CONFIG_MEMFD_CREATE",
    "CONFIG_SHMEM",
    "CONFIG_CRASH_DUMP",
    "CONFIG_DEFERRED_STRUCT_PAGE_INIT",
    "CONFIG_IOMMUFD",
    "CONFIG_IOMMUFD_NOIOMMU",
    "CONFIG_VFIO_DEVICE_CDEV",
    "CONFIG_VFIO_NOIOMMU",
    "CONFIG_VFIO_PCI",
    "CONFIG_BLK_DEV_NVME",
    "CONFIG_MODVERSIONS",
    "CONFIG_MODULE_SIG_FORCE",
];

/// The options that are set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config(BTreeMap<String, String>);

impl Config {
    /// Reads the text of a `.config`; lines that set nothing are passed over, and those that could steer a
    /// terminal.
    pub fn parse(text: &str) -> Self {
        let fit =
            text.lines().filter(|line| !line.chars().any(|symbol| symbol.is_control() && symbol != '\t'));
        let set = fit.filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('='));
        Self(set.map(|(name, value)| (format!("CONFIG_{name}"), value.trim_end().to_owned())).collect())
    }

    /// Unpacks what `/proc/config.gz` and images hold.
    ///
    /// # Errors
    /// Why it cannot be unpacked.
    pub fn from_gzip(packed: &[u8]) -> Result<Self, String> {
        let mut text = Vec::new();
        let mut reader = flate2::bufread::GzDecoder::new(packed).take(LARGEST as u64 + 1);
        reader.read_to_end(&mut text).map_err(|error| error.to_string())?;
        if text.len() > LARGEST {
            return Err("it is larger than any configuration".into());
        }
        Ok(Self::parse(&String::from_utf8_lossy(&text)))
    }

    /// The value of an option (with `CONFIG_`): `y`, `m`, a number, a string in quotes. None: not set.
    pub fn get(&self, option: &str) -> Option<&str> {
        self.0.get(option).map(String::as_str)
    }

    /// It is built in.
    pub fn built_in(&self, option: &str) -> bool {
        self.get(option) == Some("y")
    }

    /// Number of options that are set.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// None is: no configuration at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One line as people know it from `.config`.
    pub fn line(&self, option: &str) -> String {
        match self.get(option) {
            Some(value) => format!("{option}={value}"),
            None => format!("# {option} is not set"),
        }
    }
}

/// The options of interest (null: not set), or the reason why nothing is known.
pub(super) fn serialize_found<S: Serializer>(
    found: &Result<Config, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Reason<'a> {
        unknown: &'a str,
    }
    let config = match found {
        Ok(config) => config,
        Err(reason) => return Reason { unknown: reason }.serialize(serializer),
    };
    let mut map = serializer.serialize_map(Some(OF_INTEREST.len()))?;
    for option in OF_INTEREST {
        map.serialize_entry(option, &config.get(option))?;
    }
    map.end()
}
