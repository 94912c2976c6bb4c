use std::collections::BTreeSet;

use crate::bundle::Contents;
use crate::image::{ImageError, KernelImage};
use crate::linux::boot_parameters::BootParameters;
use crate::linux::driver::{ABI, ENABLE, MODULE};

/// What of a target decides about devices.
#[derive(Clone, Copy, Debug)]
pub struct NextKernel<'a> {
    /// What `uname -r` must say.
    pub release: &'a str,
    /// Its image.
    pub image: Result<&'a KernelImage, &'a ImageError>,
    /// What its bundle has for devices.
    pub contents: Result<&'a Contents, &'a str>,
    /// Its command line.
    pub parameters: &'a BootParameters,
}

/// From where the target has the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// The shim loads it before anything else.
    First,
    /// It is built in.
    BuiltIn,
    /// It is among the modules; who loads it, and when, does not show.
    AmongModules,
    /// Nowhere.
    Nowhere,
    /// It could not be looked.
    Unknown,
}

impl NextKernel<'_> {
    /// What its kernel was patched for; none: it cannot be read.
    pub(super) fn patches(&self) -> Option<&BTreeSet<String>> {
        self.image.ok().filter(|image| image.scanned()).map(|image| &image.abi.patches)
    }

    pub(super) fn driver(&self) -> Placed {
        let built_in = self.image.is_ok_and(|image| image.abi.driver.contains(ABI));
        match self.contents {
            _ if built_in => Placed::BuiltIn,
            Ok(Contents { shim: Some(_), .. }) => Placed::First,
            Ok(Contents { modules: Some(_), .. }) => Placed::AmongModules,
            Ok(_) if self.image.is_ok_and(KernelImage::scanned) => Placed::Nowhere,
            Ok(_) | Err(_) => Placed::Unknown,
        }
    }

    /// The driver's opt-in on its command line; none: not given there.
    pub(super) fn opt_in(&self) -> Option<bool> {
        self.parameters.switch(&format!("{MODULE}.{ENABLE}"))
    }
}
