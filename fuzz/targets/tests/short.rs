//! The short run: every file of every corpus, and mutations of them that are the same each time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use liveupdate_fuzz_targets::{TARGETS, Target};

/// Mutations of each target: some seconds without optimisation.
const ROUNDS: usize = 20_000;
/// Larger than any file of a corpus; what grows beyond it is cut.
const LONGEST: usize = 96 << 10;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let place = folder().join("corpus").join(target.name);
    let mut paths: Vec<PathBuf> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort_unstable();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Runs one input; what breaks it is kept, so that it can be looked at and put into the corpus.
fn run(target: &Target, input: &[u8], from: &str) -> bool {
    match catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        Ok(accepted) => accepted,
        Err(_) => {
            let kept = folder().join("artifacts").join(target.name);
            fs::create_dir_all(&kept).unwrap();
            let kept = kept.join(format!("short-{}", from.replace('/', "-")));
            fs::write(&kept, input).unwrap();
            panic!("{} breaks on {from}: {}", target.name, kept.display());
        }
    }
}

/// splitmix64: the same numbers on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, or zero.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound.max(1) as u64)).unwrap()
    }
}

/// Values at the edges of what lengths and offsets can be.
const EDGES: [u64; 10] =
    [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];

fn mutate(input: &mut Vec<u8>, others: &[(PathBuf, Vec<u8>)], numbers: &mut Numbers) {
    let at = numbers.below(input.len());
    match numbers.below(8) {
        0 if !input.is_empty() => input[at] ^= 1 << numbers.below(8),
        1 if !input.is_empty() => input[at] = u8::try_from(numbers.below(256)).unwrap(),
        2 => input.truncate(at),
        3 => {
            let end = (at + 1 + numbers.below(64)).min(input.len());
            input.drain(at..end);
        }
        4 => {
            let many = numbers.below(32);
            let byte = u8::try_from(numbers.below(256)).unwrap();
            input.splice(at..at, std::iter::repeat_n(byte, many));
        }
        5 => {
            let width = [1, 2, 4, 8][numbers.below(4)];
            let edge = EDGES[numbers.below(EDGES.len())].to_le_bytes();
            let end = (at + width).min(input.len());
            input[at..end].copy_from_slice(&edge[..end - at]);
        }
        6 => {
            let end = (at + numbers.below(256)).min(input.len());
            let again = input[at..end].to_vec();
            input.splice(at..at, again);
        }
        // The beginning of one and the end of another.
        _ => {
            let other = &others[numbers.below(others.len())].1;
            input.truncate(at);
            input.extend_from_slice(&other[numbers.below(other.len())..]);
        }
    }
    input.truncate(LONGEST);
}

fn short(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let corpus = corpus(target);
    let accepted = corpus
        .iter()
        .filter(|(path, input)| run(target, input, path.file_name().unwrap().to_str().unwrap()))
        .count();
    assert!(accepted > 0, "no file of the corpus is accepted: it tests nothing but the first check");
    assert!(accepted < corpus.len(), "no file of the corpus is refused");
    let mut numbers = Numbers(0x6c69_7665);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let mut input = corpus[numbers.below(corpus.len())].1.clone();
        for _ in 0..=numbers.below(4) {
            mutate(&mut input, &corpus, &mut numbers);
        }
        if run(target, &input, &format!("round-{round}")) { taken += 1 } else { refused += 1 }
    }
    assert!(
        taken > ROUNDS / 200,
        "{taken} mutations of {ROUNDS} were accepted: they only reach the first check"
    );
    assert!(refused > ROUNDS / 200, "{refused} mutations of {ROUNDS} were refused: nothing is checked");
}

#[test]
fn handover() {
    short("handover");
}

#[test]
fn image() {
    short("image");
}

#[test]
fn journal() {
    short("journal");
}

#[test]
fn manifest() {
    short("manifest");
}

#[test]
fn record() {
    short("record");
}

#[test]
fn every_target_has_a_fuzzer_and_every_fuzzer_a_test() {
    let mut fuzzers: Vec<String> = fs::read_dir(folder().join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    fuzzers.sort_unstable();
    assert_eq!(fuzzers, TARGETS.map(|target| target.name));
    let own = include_str!("short.rs");
    for target in TARGETS {
        assert!(own.contains(&format!("short(\"{}\")", target.name)), "{}", target.name);
    }
}
