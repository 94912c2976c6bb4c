//! Finding what an unpacked kernel says of itself, while it streams by.

use std::collections::BTreeSet;

use memchr::memmem::{self, Finder};

use super::Abi;
use super::config::Config;
use crate::linux::driver::{ABI_PREFIX, PATCHES_MARK, features_in};

/// How much of the last piece is looked at again with the next, so that nothing is missed between two. Longer
/// than anything searched.
const OVERLAP: usize = 1024;
const LONGEST_BANNER: usize = 512;
/// Longest `compatible` string of a handler (LIVEUPDATE_HNDL_COMPAT_LENGTH).
const LONGEST_COMPATIBLE: usize = 48;
/// A packed configuration has some 60 KiB.
const LARGEST_CONFIG: usize = 4 << 20;

const CONFIG_START: &[u8] = b"IKCFG_ST";
const CONFIG_END: &[u8] = b"IKCFG_ED";
const BANNER: &[u8] = b"Linux version ";
/// Ends what the kernel takes modules by (`7.3.4-lu1 SMP preempt mod_unload `).
const UNLOADS: &[u8] = b" mod_unload ";
const LONGEST_VERMAGIC: usize = 256;
const LONGEST_LIST: usize = 256;
/// In every compatible string, between name and version.
const VERSIONED: &[u8] = b"-v";

/// Names that come with a version; others are other drivers' own affairs.
const OTHERS: [&str; 8] =
    ["luo-session", "luo-flb", "vfio-pci", "liveupdate-vfio-pci", "pci", "iommu", "iommufd", "hugetlb"];

pub(super) struct Scanner {
    window: Vec<u8>,
    collected: Option<Vec<u8>>,
    packed_config: Option<Vec<u8>>,
    config_problem: Option<&'static str>,
    banner: Option<String>,
    vermagic: Option<String>,
    abi: Abi,
    finders: Finders,
}

struct Finders {
    config: Finder<'static>,
    banner: Finder<'static>,
    versioned: Finder<'static>,
    driver: Finder<'static>,
    patches: Finder<'static>,
    unloads: Finder<'static>,
}

/// What was found.
pub(super) struct Found {
    pub(super) banner: Option<String>,
    pub(super) vermagic: Option<String>,
    pub(super) abi: Abi,
    packed_config: Option<Vec<u8>>,
    config_problem: Option<&'static str>,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self {
            // A byte that is in no string stands before the first, as others do later.
            window: vec![0],
            collected: None,
            packed_config: None,
            config_problem: None,
            banner: None,
            vermagic: None,
            abi: Abi::default(),
            finders: Finders {
                config: Finder::new(CONFIG_START),
                banner: Finder::new(BANNER),
                versioned: Finder::new(VERSIONED),
                driver: Finder::new(ABI_PREFIX.as_bytes()),
                patches: Finder::new(PATCHES_MARK.as_bytes()),
                unloads: Finder::new(UNLOADS),
            },
        }
    }

    /// Looks at the next piece.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        for piece in piece.chunks(1 << 20) {
            self.collect(piece);
            self.window.extend_from_slice(piece);
            self.look();
            let keep = self.window.len().saturating_sub(OVERLAP);
            self.window.drain(..keep);
        }
    }

    pub(super) fn finish(self) -> Found {
        let unended = self.collected.map(|_| "it begins in the image and does not end");
        Found {
            banner: self.banner,
            vermagic: self.vermagic,
            abi: self.abi,
            packed_config: self.packed_config,
            config_problem: self.config_problem.or(unended),
        }
    }

    fn look(&mut self) {
        let window = std::mem::take(&mut self.window);
        if self.collected.is_none() && self.packed_config.is_none() {
            self.look_for_config(&window);
        }
        if !self.banner.as_deref().is_some_and(is_numbered) {
            let mut all = self.finders.banner.find_iter(&window).filter_map(|at| banner(&window[at..]));
            let first = self.banner.take().or_else(|| all.next());
            self.banner = first.map(|first| {
                let numbered = if is_numbered(&first) { None } else { all.find(|other| is_numbered(other)) };
                numbered.unwrap_or(first)
            });
        }
        for at in self.finders.versioned.find_iter(&window) {
            if let Some(name) = compatible(&window, at) {
                sort_in(&mut self.abi, name);
            }
        }
        for at in self.finders.driver.find_iter(&window) {
            remember(&mut self.abi.driver, driver_string(&window[at..]));
        }
        for at in self.finders.patches.find_iter(&window) {
            if let Some(list) = text(&window[at..], LONGEST_LIST) {
                self.abi.patches.extend(features_in(list));
            }
        }
        if self.vermagic.is_none() {
            let mut all = self.finders.unloads.find_iter(&window);
            self.vermagic = all.find_map(|at| vermagic(&window, at));
        }
        self.window = window;
    }

    fn look_for_config(&mut self, window: &[u8]) {
        let starts = self.finders.config.find_iter(window).map(|at| &window[at + CONFIG_START.len()..]);
        // The marker is in the sources of scripts too; the data behind it is a gzip member.
        let start = { starts }.find(|rest| rest.starts_with(&[0x1f, 0x8b]));
        if let Some(rest) = start {
            self.collected = Some(Vec::new());
            self.collect(rest);
        }
    }

    fn collect(&mut self, piece: &[u8]) {
        let Some(collected) = &mut self.collected else { return };
        let from = collected.len().saturating_sub(CONFIG_END.len());
        collected.extend_from_slice(piece);
        if let Some(end) = memmem::find(&collected[from..], CONFIG_END) {
            collected.truncate(from + end);
            self.packed_config = self.collected.take();
        } else if collected.len() > LARGEST_CONFIG {
            self.config_problem = Some("it is larger than any configuration");
            self.collected = None;
        }
    }
}

impl Found {
    /// The release in the banner.
    pub(super) fn release(&self) -> Option<String> {
        let banner = self.banner.as_deref()?;
        banner.split_whitespace().nth(2).map(str::to_owned)
    }

    /// The configuration, or why there is none; `unread` tells why the image could not be read whole.
    pub(super) fn config(&self, unread: Option<&str>) -> Result<Config, String> {
        if let Some(packed) = &self.packed_config {
            return Config::from_gzip(packed)
                .map_err(|why| format!("the embedded configuration cannot be unpacked: {why}"));
        }
        match (self.config_problem, unread) {
            (Some(problem), _) => Err(format!("the embedded configuration cannot be read: {problem}")),
            (None, Some(unread)) => Err(format!("the packed kernel cannot be read: {unread}")),
            (None, None) => Err("the image embeds none (CONFIG_IKCONFIG is not set)".into()),
        }
    }
}

/// The line at the start of these bytes, if a release stands in it and it ends.
fn banner(from: &[u8]) -> Option<String> {
    let window = &from[..from.len().min(LONGEST_BANNER)];
    let end = window.iter().position(|byte| matches!(byte, 0 | b'\n'))?;
    let text = std::str::from_utf8(&window[..end]).ok()?;
    let release = text.get(BANNER.len()..)?;
    // Shown to people: nothing in it may steer a terminal.
    let fit = !text.chars().any(char::is_control) && release.contains(' ');
    (fit && release.starts_with(|first: char| first.is_ascii_digit())).then(|| text.to_owned())
}

/// Whether the build has a number (`#1 SMP …`). The kernel holds its banner twice: it is compiled once before
/// the number is known (`# SMP …`), and what a running kernel says is the other one.
fn is_numbered(banner: &str) -> bool {
    let version = banner.split_once(" #").map_or("", |(_, version)| version);
    version.starts_with(|first: char| first.is_ascii_digit())
}

/// The whole string `name-vN` around the `-v` at `at`: it ends with a zero, and before it stands nothing that
/// could belong to a longer string. In front of a handler's name stands a pointer, in front of the others the
/// end of another string.
fn compatible(window: &[u8], at: usize) -> Option<&str> {
    let part = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let digits = window[at + VERSIONED.len()..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let end = at + VERSIONED.len() + digits;
    let name = window[..at].iter().rev().take(LONGEST_COMPATIBLE).take_while(|byte| part(byte)).count();
    let start = at - name;
    let before = *window.get(start.checked_sub(1)?)?;
    let stands_alone = !(before.is_ascii_graphic() || before == b' ');
    if digits == 0 || digits > 4 || name == 0 || !stands_alone || window.get(end) != Some(&0) {
        return None;
    }
    std::str::from_utf8(&window[start..end]).ok()
}

fn sort_in(abi: &mut Abi, compatible: &str) {
    let name = compatible.rsplit_once("-v").map_or(compatible, |(name, _)| name);
    let set = match name {
        "kho" => &mut abi.kho,
        "luo" => &mut abi.luo,
        "memfd" => &mut abi.memfd,
        other if OTHERS.contains(&other) => &mut abi.others,
        _ => return,
    };
    remember(set, Some(compatible));
}

/// More than a few versions of one name are noise, and somebody's attempt to fill memory.
fn remember(set: &mut BTreeSet<String>, found: Option<&str>) {
    if let Some(found) = found.filter(|_| set.len() < 16) {
        set.insert(found.to_owned());
    }
}

/// All strings of the driver in a file, such as its module.
pub(super) fn driver_strings(file: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for at in memmem::find_iter(file, ABI_PREFIX.as_bytes()) {
        remember(&mut found, driver_string(&file[at..]));
    }
    found
}

/// The driver's string at the start of these bytes: its prefix and a number.
fn driver_string(from: &[u8]) -> Option<&str> {
    let found = text(from, LONGEST_COMPATIBLE)?;
    let version = found.get(ABI_PREFIX.len()..)?;
    (!version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())).then_some(found)
}

/// Printable text up to its end, which must come.
fn text(from: &[u8], longest: usize) -> Option<&str> {
    let window = &from[..from.len().min(longest)];
    let end = window.iter().position(|byte| matches!(byte, 0 | b'\n'))?;
    std::str::from_utf8(&window[..end]).ok().filter(|text| !text.chars().any(char::is_control))
}

/// The whole string around ` mod_unload ` at `at`: it begins with a release.
fn vermagic(window: &[u8], at: usize) -> Option<String> {
    let before = &window[at.saturating_sub(LONGEST_VERMAGIC)..at];
    let start = at - before.iter().rev().take_while(|byte| matches!(byte, b' '..=b'~')).count();
    let found = text(&window[start..], LONGEST_VERMAGIC)?;
    found.starts_with(|first: char| first.is_ascii_digit()).then(|| found.to_owned())
}
