//! The table of docs/kernel-support.md: each row says what the test that it names has just seen.
//!
//! `LIVEUPDATE_REFRESH_GOLDENS=1` writes a test's rows anew; without it they must stand there, letter by letter.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use liveupdate_host::image::{Limits, inspect};
use liveupdate_lab::vm::{Kernel, Kernels, Kit, Variant};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/kernel-support.md");
const BEGIN: &str = "<!-- What follows is written by tests (lab/tests/vm/matrix.rs). -->\n";
const END: &str = "<!-- Until here. -->\n";

/// What was run, and the best that came of it.
pub(crate) struct Row<'a> {
    /// Releases before and after.
    pub(crate) kernels: [&'a str; 2],
    pub(crate) iommu: &'a str,
    pub(crate) held: &'a str,
    pub(crate) best: &'a str,
}

/// Says what this test has seen. The test's name is its thread's.
pub(crate) fn shows(rows: &[Row<'_>]) {
    static PAGE_TURN: Mutex<()> = Mutex::new(());
    let thread = std::thread::current();
    let test = thread.name().unwrap();
    let mut rows: Vec<String> = rows.iter().map(|row| line(row, test)).collect();
    rows.sort_unstable();
    let _turn = PAGE_TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (table, after) = rest.split_once(END).unwrap();
    let (ours, others): (Vec<&str>, Vec<&str>) =
        table.lines().partition(|line| line.ends_with(&format!("| `{test}` |")));
    if std::env::var_os("LIVEUPDATE_REFRESH_GOLDENS").is_some() {
        let (head, others) = others.split_at(2);
        let mut lines: Vec<&str> = others.iter().copied().chain(rows.iter().map(String::as_str)).collect();
        lines.sort_unstable();
        let lines: Vec<&str> = head.iter().copied().chain(lines).collect();
        let page = format!("{before}{BEGIN}{}\n{END}{after}", lines.join("\n"));
        std::fs::write(Path::new(PAGE), page).unwrap();
    } else {
        assert_eq!(ours, rows, "docs/kernel-support.md says something else than {test} saw");
    }
}

/// Without the number of the point release: the lab builds the newest that there is, and the row is about more than that one.
fn series(release: &str) -> String {
    let (version, local) = release.split_once('-').unwrap_or((release, ""));
    let series: Vec<&str> = version.splitn(3, '.').take(2).collect();
    format!("{}-{local}", series.join(".")).trim_end_matches('-').to_owned()
}

/// What the patches in kmod/ add to a kernel, by its image's own word: how many of the features that it can name.
fn patches(release: &str) -> usize {
    let image = inspect(&std::fs::read(image(release)).unwrap(), Limits::default()).unwrap();
    image.abi.patches.len()
}

fn image(release: &str) -> PathBuf {
    let kernels = Kernels::find().unwrap();
    let built = Variant::ALL.into_iter().map(|variant| kernels.kernel(variant).unwrap());
    if let Some(kernel) = built.into_iter().find(|kernel| kernel.release == release) {
        return kernel.image();
    }
    let built_in = Kernel::with_driver().unwrap();
    if built_in.release == release { built_in.image() } else { Kit::stock_image().unwrap() }
}

fn line(row: &Row<'_>, test: &str) -> String {
    let Row { kernels, iommu, held, best } = row;
    let patched = kernels.map(patches);
    let [from, to] = kernels.map(series);
    format!("| {from} → {to} | {} → {} | {iommu} | {held} | {best} | `{test}` |", patched[0], patched[1])
}
