//! Where the keeper is least likely to be ended or kept waiting: never killed for memory, in a control group of its own,
//! before all else that wants a processor.

use std::fs;
use std::io;

use crate::linux::cgroup;
use crate::linux::root::Root;

/// The most urgent there is (`setpriority(2)`): with the machine all else starts, too, and holders stand still until this
/// one hears them.
const URGENT: i32 = -20;
const GROUP: &str = "/sys/fs/cgroup/liveupdate-keeper";

/// Takes shelter, as far as whoever started this process has not seen to it; what could not be done.
pub fn shelter(root: &Root) -> Vec<String> {
    let mut trouble = Vec::new();
    let mut tried = |what: &str, done: io::Result<()>| {
        trouble
            .extend(done.err().map(|error| format!("cannot {what}: {error}; run it as root, by its unit")));
    };
    tried("be spared when memory is short", fs::write(root.path("/proc/self/oom_score_adj"), "-1000"));
    // This thread's, and of all that it starts.
    tried("go before all else", rustix::process::setpriority_process(None, URGENT).map_err(Into::into));
    // A unit of systemd has a group of its own.
    if cgroup::path_of(root, std::process::id()).is_ok_and(|path| path == "/") {
        let group = root.path(GROUP);
        let moved = match fs::create_dir(&group) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => fs::write(group.join("cgroup.procs"), std::process::id().to_string()),
        };
        tried("have a control group of its own", moved);
    }
    trouble
}
