//! A look at what a holder holds, from outside. Nothing of the holder has a part in it: the pattern is worked out here anew.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use liveupdate_lab_guest::SLICE;

const PAGE: usize = 4096;
/// Whoever was killed a moment ago is started again, and makes its memory anew.
const PATIENCE: Duration = Duration::from_secs(30);
/// Counts are some milliseconds apart.
const COUNTED: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(2);

/// Waits until a service's memory is there and its counter rises, looks at each page of the pattern, and tells all that in
/// `name=value` words.
pub(crate) fn held(service: &str) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        match look(service) {
            Ok(told) => {
                println!("{told}");
                return Ok(());
            }
            Err(error) if begun.elapsed() > PATIENCE => return Err(format!("service {service}: {error}")),
            Err(_) => std::thread::sleep(10 * MOMENT),
        }
    }
}

fn look(service: &str) -> io::Result<String> {
    let memory = File::open(memory(service)?)?;
    let mut page = vec![0; PAGE];
    memory.read_exact_at(&mut page, 0)?;
    let [_, seed, pages, counter] = words(&page);
    let later = rises(&memory, counter)?;
    let mut wrong = 0;
    for place in 1..pages {
        memory.read_exact_at(&mut page, place * PAGE as u64)?;
        let wanted = (place * (PAGE as u64 / 8)..).map(|word| mixed(seed ^ mixed(word)).to_le_bytes());
        wrong += u64::from(page.chunks_exact(8).zip(wanted).any(|(found, wanted)| found != wanted));
    }
    Ok(format!("pages={pages} wrong={wrong} seed={seed} counter={counter} later={later}"))
}

/// The file that one of its processes has open.
fn memory(service: &str) -> io::Result<PathBuf> {
    let processes = std::fs::read_to_string(format!("{SLICE}/{service}.service/cgroup.procs"))?;
    for process in processes.lines() {
        for file in std::fs::read_dir(format!("/proc/{process}/fd"))?.flatten() {
            let name = std::fs::read_link(file.path()).unwrap_or_default();
            if name.to_string_lossy().starts_with("/memfd:liveupdate-hold") {
                return Ok(file.path());
            }
        }
    }
    Err(io::Error::other("no process of it has such a memory"))
}

fn rises(memory: &File, from: u64) -> io::Result<u64> {
    let (begun, mut head) = (Instant::now(), [0; 32]);
    while begun.elapsed() < COUNTED {
        std::thread::sleep(MOMENT);
        memory.read_exact_at(&mut head, 0)?;
        let [.., counter] = words(&head);
        if counter > from {
            return Ok(counter);
        }
    }
    Err(io::Error::other(format!("its counter stays at {from}")))
}

/// The first four: what it is, what the pattern follows from, pages, the counter.
fn words(page: &[u8]) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(page.chunks_exact(8)) {
        *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    words
}

/// splitmix64.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
