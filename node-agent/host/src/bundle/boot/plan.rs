//! What is to be done on the boot partition, from what is there. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, KERNELS, Loader, NEW_SUFFIX, PREFIX, SUFFIX};

/// What is on the boot partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// `loader.conf`
    pub(super) loader: Loader,
    /// Our entries: name and text.
    pub(super) entries: BTreeMap<String, String>,
    /// Folders with our kernels.
    pub(super) folders: BTreeSet<String>,
}

/// What is to be done, in this order: entries go before the files that they name, files come before the entry
/// that names them, and the default changes last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) remove_entries: Vec<String>,
    pub(super) remove_folders: Vec<String>,
    /// The entry; its files are copied unless they are there and right.
    pub(super) entry: Entry,
    /// Its text is not there yet.
    pub(super) write_entry: bool,
    /// The new text of `loader.conf`; none: it says so already.
    pub(super) loader: Option<String>,
    /// The default before, as it was written.
    pub(super) before: Option<String>,
}

pub(super) fn plan(found: &Found, entry: &Entry) -> Plan {
    let now = found.loader.default();
    let is_default = now == Some(entry.name.as_str());
    // Called again after it was done, the former default is the one from before the first time.
    let before = if is_default { found.loader.before() } else { now }.map(str::to_owned);
    let keep =
        |name: &str| name == entry.name || before.as_deref().is_some_and(|pattern| may_mean(pattern, name));
    let (kept, gone): (Vec<_>, Vec<_>) = found.entries.iter().partition(|(name, _)| keep(name));
    let needed = |folder: &str| {
        let path = format!("/{KERNELS}/{folder}/");
        folder == entry.folder || kept.iter().any(|(_, text)| text.contains(&path))
    };
    Plan {
        remove_entries: gone.into_iter().map(|(name, _)| name.clone()).collect(),
        remove_folders: found.folders.iter().filter(|folder| !needed(folder)).cloned().collect(),
        entry: entry.clone(),
        write_entry: found.entries.get(&entry.name) != Some(&entry.text),
        loader: (!is_default).then(|| found.loader.with_default(&entry.name, before.as_deref())),
        before,
    }
}

/// Whether the default could mean this entry of ours. A pattern that could is enough to keep it.
fn may_mean(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    let literal = pattern.split(['*', '?', '[']).next().unwrap_or_default();
    if literal.len() < pattern.len() {
        return name.starts_with(literal);
    }
    // The loader remembers the last choice itself; and older ones know names without their end.
    pattern == "@saved" || pattern == name || name.strip_suffix(SUFFIX) == Some(&pattern)
}

/// One of ours, by its name; also one that a kill has left half written.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) && (name.ends_with(SUFFIX) || name.ends_with(NEW_SUFFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u32) -> Entry {
        Entry {
            name: format!("liveupdate-{number}.conf"),
            folder: number.to_string(),
            text: format!("linux /liveupdate/{number}/image\n"),
        }
    }

    fn found(loader: &str, numbers: &[u32]) -> Found {
        Found {
            loader: Loader::parse(loader),
            entries: numbers.iter().map(|&n| (entry(n).name, entry(n).text)).collect(),
            folders: numbers.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn the_first_one_comes_beside_what_is_there() {
        let plan = plan(&found("timeout 3\ndefault debian-*\n", &[]), &entry(1));
        assert_eq!((plan.remove_entries.len(), plan.remove_folders.len()), (0, 0));
        assert!(plan.write_entry);
        assert_eq!(plan.before.as_deref(), Some("debian-*"));
        assert!(plan.loader.unwrap().ends_with("default liveupdate-1.conf\n"));
    }

    #[test]
    fn the_one_before_stays_and_older_ones_go() {
        let plan = plan(&found("default liveupdate-2.conf\n", &[1, 2]), &entry(3));
        assert_eq!(plan.remove_entries, ["liveupdate-1.conf"]);
        assert_eq!(plan.remove_folders, ["1"]);
        assert_eq!(plan.before.as_deref(), Some("liveupdate-2.conf"));
    }

    #[test]
    fn done_already_nothing_is_left_to_do_and_the_one_before_still_stays() {
        let first = plan(&found("default liveupdate-2.conf\n", &[2]), &entry(3));
        let again = plan(&found(&first.loader.unwrap(), &[2, 3]), &entry(3));
        assert_eq!(again.loader, None);
        assert!(!again.write_entry);
        assert!(again.remove_entries.is_empty() && again.remove_folders.is_empty(), "{again:?}");
        assert_eq!(again.before.as_deref(), Some("liveupdate-2.conf"));
    }

    #[test]
    fn a_default_that_may_mean_one_of_ours_keeps_it() {
        for default in ["liveupdate-*", "@saved", "LIVEUPDATE-1.conf", "liveupdate-1", "*"] {
            let plan = plan(&found(&format!("default {default}\n"), &[1]), &entry(3));
            assert!(plan.remove_entries.is_empty(), "{default}");
            assert!(plan.remove_folders.is_empty(), "{default}");
        }
    }

    #[test]
    fn a_folder_that_no_entry_names_is_a_leftover() {
        let mut found = found("default debian\n", &[1]);
        found.folders.insert("3".into());
        found.folders.insert("half".into());
        let plan = plan(&found, &entry(3));
        assert_eq!(plan.remove_folders, ["1", "half"]);
    }
}
