//! The lab's kernels: found, or built by `kernels/build.sh` into the cache.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Names a folder that already holds the kernels, for machines where they come from elsewhere.
pub const KERNELS_VARIABLE: &str = "LIVEUPDATE_LAB_KERNELS";

/// The kernel of `kernels/with-driver/`.
const WITH_DRIVER: &str = "builtin";

/// One of the kernels; each has its file `kernels/variants/<name>.config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// What guests boot.
    Lu1,
    /// What they are updated to: another release, other drivers.
    Lu2,
    /// Handover without live update.
    NoLuo,
    /// Neither.
    NoKho,
    /// Live update whose format has another version.
    OtherAbi,
    /// Live update, and the old kexec_load(2) beside it.
    OldKexec,
}

impl Variant {
    /// All of them.
    pub const ALL: [Variant; 6] =
        [Variant::Lu1, Variant::Lu2, Variant::NoLuo, Variant::NoKho, Variant::OtherAbi, Variant::OldKexec];

    /// Its folder's name, and the end of its release.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Lu1 => "lu1",
            Variant::Lu2 => "lu2",
            Variant::NoLuo => "noluo",
            Variant::NoKho => "nokho",
            Variant::OtherAbi => "otherabi",
            Variant::OldKexec => "oldkexec",
        }
    }
}

/// A folder in which all kernels are present.
#[derive(Clone, Debug)]
pub struct Kernels {
    folder: PathBuf,
}

/// One built kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What `uname -r` says under it.
    pub release: String,
    folder: PathBuf,
}

impl Kernels {
    /// The kernels, built first when they are missing (many minutes, once; progress goes to stderr).
    ///
    /// # Errors
    /// When a build fails, or the folder named by [`KERNELS_VARIABLE`] lacks a kernel.
    pub fn find() -> Result<Kernels> {
        match std::env::var_os(KERNELS_VARIABLE).filter(|folder| !folder.is_empty()) {
            Some(folder) => Kernels::in_folder(PathBuf::from(folder)),
            None => Kernels::build(),
        }
    }

    /// The kernels of one folder; nothing is built.
    ///
    /// # Errors
    /// Names the first kernel that is missing.
    pub fn in_folder(folder: PathBuf) -> Result<Kernels> {
        let kernels = Kernels { folder };
        for variant in Variant::ALL {
            let kernel = kernels.kernel(variant)?;
            if !kernel.image().is_file() {
                return Err(Error::Kernels { reason: format!("{} is missing", kernel.image().display()) });
            }
        }
        Ok(kernels)
    }

    fn build() -> Result<Kernels> {
        Kernels::in_folder(crate::built::by("kernels/build.sh", "the build of the kernels")?)
    }

    /// One of them.
    ///
    /// # Errors
    /// When the folder does not hold it.
    pub fn kernel(&self, variant: Variant) -> Result<Kernel> {
        Kernel::of(&self.folder, variant.name())
    }
}

impl Kernel {
    /// The one that has the driver (kmod/) built in, built first when it is missing.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn with_driver() -> Result<Kernel> {
        let what = "the kernel with the driver built in";
        Kernel::of(&crate::built::with("kernels/build.sh", &["--driver"], what)?, WITH_DRIVER)
    }

    /// A distribution's own, which no guest boots, with the configuration that its packages name; fetched first when it is
    /// missing.
    ///
    /// # Errors
    /// When it cannot be fetched.
    pub fn of_a_distribution() -> Result<(PathBuf, PathBuf)> {
        let folder = crate::built::by("kernels/distribution.sh", "a distribution's kernel")?;
        Ok((folder.join("image"), folder.join("config")))
    }

    fn of(kernels: &Path, name: &str) -> Result<Kernel> {
        let folder = kernels.join(name);
        let release = std::fs::read_to_string(folder.join("release")).map_err(|_| Error::Kernels {
            reason: format!(
                "{} holds no kernel {name}; unset {KERNELS_VARIABLE} to have it built",
                kernels.display()
            ),
        })?;
        Ok(Kernel { release: release.trim().to_owned(), folder })
    }

    /// The bzImage.
    pub fn image(&self) -> PathBuf {
        self.folder.join("bzImage")
    }

    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.folder.join("config")
    }

    /// The folder `lib/modules/<release>` with its modules.
    pub fn modules(&self) -> PathBuf {
        self.folder.join("root/lib/modules").join(&self.release)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunDir;

    #[test]
    fn every_variant_has_its_configuration() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/variants");
        let mut files: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .filter_map(|entry| {
                Some(entry.unwrap().file_name().to_str()?.strip_suffix(".config")?.to_owned())
            })
            .collect();
        let mut names: Vec<&str> = Variant::ALL.iter().map(|variant| variant.name()).collect();
        files.sort_unstable();
        names.sort_unstable();
        assert_eq!(files, names);
    }

    #[test]
    fn a_folder_without_kernels_is_refused_by_name() {
        let folder = RunDir::create().unwrap();
        let error = Kernels::in_folder(folder.path().to_owned()).unwrap_err().to_string();
        assert!(error.contains("lu1") && error.contains(KERNELS_VARIABLE), "{error}");
    }
}
