//! What a person reads, as plain kubectl prints it, held by files. Times, ages and chosen ids are masked; everything else
//! has to stand there letter by letter. `LIVEUPDATE_REFRESH_GOLDENS=1` writes them anew.

use std::path::Path;

/// Letters and digits of hexadecimal numbers.
fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_uid(word: &str) -> bool {
    let lengths: Vec<usize> = word.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && word.split('-').all(is_hex)
}

fn is_time(word: &str) -> bool {
    let day = word.get(..10).unwrap_or_default();
    word.contains('T') && word.ends_with('Z') && day.split('-').map(str::len).eq([4, 2, 2])
}

/// `34s`, `2m10s`, `512ms`.
fn is_duration(word: &str) -> bool {
    let unit = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let numbers = unit.len() < word.len();
    let units = ["s", "m", "ms", "h"].contains(&unit.trim_end_matches(|c: char| c.is_ascii_digit()));
    let composed = word.strip_suffix('s').and_then(|rest| rest.split_once('m'));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers && (units || composed.is_some_and(|(minutes, seconds)| digits(minutes) && digits(seconds)))
}

/// `45fb9b5ca1e257bf29fa496069a540e3-8f3e21b7-1`: revision, beginning of a UID, try.
fn attempt(word: &str) -> Option<String> {
    let parts: Vec<&str> = word.split('-').collect();
    match parts.as_slice() {
        [revision, uid, number]
            if revision.len() == 32 && uid.len() == 8 && is_hex(revision) && is_hex(uid) =>
        {
            Some(format!("{revision}-UID-{number}"))
        }
        _ => None,
    }
}

fn masked(word: &str) -> String {
    let bare = word.trim_end_matches(',').trim_matches('"');
    if is_uid(bare) {
        "UID".to_owned()
    } else if is_time(bare) {
        "TIME".to_owned()
    } else if is_duration(bare) {
        "DURATION".to_owned()
    } else {
        attempt(bare).unwrap_or_else(|| word.to_owned())
    }
}

/// Lines whose value is another one each time, by what they begin with.
const VOLATILE: [&str; 9] = [
    "Resource Version:",
    "resourceVersion:",
    "Max Ms:",
    "p50Ms:",
    "p99Ms:",
    "Blackout Ms:",
    "maxMs:",
    "Counter:",
    "Generation:",
];

fn mask(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let indent = &line[..line.len() - line.trim_start().len()];
        let body = line.trim();
        match VOLATILE.iter().find(|name| body.starts_with(*name)) {
            Some(name) => format!("{indent}{name} NUMBER\n"),
            None => {
                format!("{indent}{}\n", body.split_whitespace().map(masked).collect::<Vec<_>>().join(" "))
            }
        }
    });
    lines.collect()
}

/// `name`: below the folder of the tests, such as `rollout/golden/get.txt`.
pub(crate) fn is_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    let text = mask(text);
    if std::env::var_os("LIVEUPDATE_REFRESH_GOLDENS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{} differs; LIVEUPDATE_REFRESH_GOLDENS=1 writes it anew", path.display());
}
