//! Which file systems hold data that a jump could lose, and in which order they are brought to rest.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::linux::root::{ReadError, Root};

/// What is mounted where, as this process sees it.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Local ones without a block device of their own.
const LOCAL: [&str; 5] = ["btrfs", "zfs", "bcachefs", "ubifs", "jffs2"];
/// Without a disk of their own: what is in them is the kernel's, ends with it, or lies in another one of the list. To open
/// an automount point would mount what belongs there.
const NOTHING_OF_THEIR_OWN: [&str; 30] = [
    "autofs",
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "cpuset",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "resctrl",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mounted {
    /// Where.
    pub(super) place: String,
    /// `ext4`
    pub(super) kind: String,
    /// Options of this mount.
    pub(super) options: String,
    /// `major:minor`
    pub(super) device: String,
    /// The whole file system is read-only already.
    pub(super) read_only: bool,
}

/// What is to be done before a jump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filesystems {
    /// Local and writable, in the order in which they are frozen: the last mounted first, since it may lie in
    /// a file of an earlier one, and the journal's own last of all.
    pub(super) local: Vec<Mounted>,
    /// On other machines, behind programs, or of a kind that nobody here knows: what we wrote has to get there, and they go
    /// on. Synced and not frozen.
    pub(super) remote: Vec<Mounted>,
}

impl Filesystems {
    /// Reads them. `journal`: the folder of the records.
    pub(super) fn read(root: &Root, journal: &str) -> Result<Self, ReadError> {
        let text = root.text(MOUNTS)?;
        let mut all = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let mounted = parse(line).ok_or_else(|| ReadError::malformed(MOUNTS, line, "a mount"))?;
            all.push(mounted);
        }
        Ok(Self::of(&all, journal, |device| on_a_file(root, device)))
    }

    /// One that was writable is read-only now.
    pub(super) fn is_read_only(root: &Root, known: &Mounted) -> bool {
        let text = root.text(MOUNTS).unwrap_or_default();
        let now = text.lines().filter_map(parse).find(|now| now.place == known.place);
        now.is_some_and(|now| now.device == known.device && now.read_only)
    }

    fn of(all: &[Mounted], journal: &str, on_a_file: impl Fn(&str) -> bool) -> Self {
        let own = all.iter().rev().find(|mounted| contains(&mounted.place, journal));
        let own = own.map(|mounted| mounted.device.clone());
        let (mut found, mut seen) = (Self::default(), BTreeSet::new());
        for (index, mounted) in all.iter().enumerate() {
            // What is mounted over it hides it: only another place of it can be opened.
            let hidden = all[index + 1..].iter().any(|later| contains(&later.place, &mounted.place));
            if hidden || mounted.read_only || seen.contains(&mounted.device) {
                continue;
            }
            if !mounted.device.starts_with("0:") || LOCAL.contains(&mounted.kind.as_str()) {
                found.local.push(mounted.clone());
            } else if !NOTHING_OF_THEIR_OWN.contains(&mounted.kind.as_str()) {
                found.remote.push(mounted.clone());
            } else {
                continue;
            }
            seen.insert(mounted.device.clone());
        }
        found.local.reverse();
        // A journal in a file of another file system cannot outlast that one.
        if let Some(own) = own.filter(|device| !on_a_file(device)) {
            found.local.sort_by_key(|mounted| mounted.device == own);
        }
        found
    }
}

/// A loop device.
fn on_a_file(root: &Root, device: &str) -> bool {
    root.exists(&format!("/sys/dev/block/{device}/loop/backing_file"))
}

fn contains(place: &str, path: &str) -> bool {
    let rest = path.strip_prefix(place.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `36 35 8:1 / /mnt rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue`
fn parse(line: &str) -> Option<Mounted> {
    let (mount, superblock) = line.split_once(" - ")?;
    let mut words = mount.split(' ').skip(2);
    let device = words.next()?.to_owned();
    let place = unescaped(words.nth(1)?);
    let options = words.next()?.to_owned();
    let mut words = superblock.split(' ');
    let kind = words.next()?.to_owned();
    let read_only = words.nth(1)?.split(',').any(|option| option == "ro");
    Some(Mounted { place, kind, options, device, read_only })
}

/// Blanks and their like are written as `\040`.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(mounts: &[Mounted]) -> Vec<&str> {
        mounts.iter().map(|mounted| mounted.place.as_str()).collect()
    }

    const TABLE: &str = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
24 22 0:22 / /run rw,nosuid - tmpfs tmpfs rw
25 22 254:16 / /var/lib/liveupdate rw - ext4 /dev/vdb rw
26 22 254:32 / /data\\040disk rw,noexec - xfs /dev/vdc rw
27 22 7:0 / /image rw - ext4 /dev/loop0 rw
28 22 254:48 / /boot/efi rw - vfat /dev/vdd rw
29 22 254:64 / /iso ro - iso9660 /dev/sr0 ro
30 22 0:40 / /nfs rw - nfs4 server:/export rw
31 22 254:0 /srv /srv rw - ext4 /dev/vda rw
32 22 0:44 / /pool rw - btrfs /dev/vde rw
33 22 0:45 / /var/lib/containerd/x rw - overlay overlay rw
";

    #[test]
    fn invariant_11_local_file_systems_come_to_rest_last_mounted_first_and_the_journals_last() {
        let all: Vec<Mounted> = TABLE.lines().filter_map(parse).collect();
        assert_eq!(all.len(), 12);
        let found = Filesystems::of(&all, "/var/lib/liveupdate", |_| false);
        let wanted = ["/pool", "/boot/efi", "/image", "/data disk", "/", "/var/lib/liveupdate"];
        assert_eq!(places(&found.local), wanted);
        assert_eq!(places(&found.remote), ["/nfs"]);
        let elsewhere = Filesystems::of(&all, "/data disk/state", |_| false);
        assert_eq!(elsewhere.local.last().unwrap().place, "/data disk");
    }

    #[test]
    fn invariant_11_a_kind_that_nobody_knows_is_synced_and_what_ends_with_the_kernel_is_not() {
        let table = |kind: &str| format!("30 22 0:40 / /there rw - {kind} somewhere rw");
        for kind in ["fuse.glusterfs", "fuse.sshfs", "fuse", "ecryptfs", "virtiofs", "cifs", "ceph", "newfs"]
        {
            let found = Filesystems::of(&[parse(&table(kind)).unwrap()], "/x", |_| false);
            assert_eq!((places(&found.local), places(&found.remote)), (vec![], vec!["/there"]), "{kind}");
        }
        for kind in NOTHING_OF_THEIR_OWN {
            let found = Filesystems::of(&[parse(&table(kind)).unwrap()], "/x", |_| false);
            assert_eq!(found, Filesystems::default(), "{kind}");
        }
        let read_only = parse("30 22 0:40 / /there ro - fuse.sshfs somewhere ro").unwrap();
        assert_eq!(Filesystems::of(&[read_only], "/x", |_| false), Filesystems::default());
    }

    #[test]
    fn a_journal_on_a_file_of_another_file_system_goes_before_that_one() {
        let all: Vec<Mounted> = TABLE.lines().filter_map(parse).collect();
        let found = Filesystems::of(&all, "/image/state", |device| device == "7:0");
        let at = |place: &str| places(&found.local).iter().position(|other| *other == place).unwrap();
        assert!(at("/image") < at("/"), "{:?}", places(&found.local));
    }

    #[test]
    fn what_is_hidden_is_reached_at_another_place_or_not_at_all() {
        let table = "1 0 8:1 / /a rw - ext4 /dev/a rw\n2 0 8:2 / /a rw - ext4 /dev/b rw\n3 0 8:1 / /b rw - ext4 /dev/a rw\n";
        let all: Vec<Mounted> = table.lines().filter_map(parse).collect();
        assert_eq!(places(&Filesystems::of(&all, "/x", |_| false).local), ["/b", "/a"]);
    }

    #[test]
    fn a_machine_in_memory_has_nothing_to_bring_to_rest() {
        let all: Vec<Mounted> = "1 1 0:2 / / rw - rootfs rootfs rw".lines().filter_map(parse).collect();
        assert_eq!(Filesystems::of(&all, "/var/lib/liveupdate", |_| false), Filesystems::default());
    }
}
