//! `status -w`: follows what changes.
//!
//! On a terminal the picture is drawn again in place; in a pipe only lines that were not in the picture
//! before are written, each telling where it belongs, with times instead of ages.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use liveupdate_crds::conditions::LiveUpdateCondition;
use liveupdate_crds::{LiveUpdate, NodeLiveUpdate};

use super::{View, summary, table, tree};
use crate::cli::{Output, StatusArgs};
use crate::client;
use crate::error::Error;
use crate::output::{self, Terminal};
use crate::render::Canvas;

/// Changes that come together are shown together.
const SETTLE: Duration = Duration::from_millis(200);
/// Ages on a terminal go on without any change.
const TICK: Duration = Duration::from_secs(1);

/// What was seen so far.
#[derive(Default)]
struct Seen {
    updates: BTreeMap<String, LiveUpdate>,
    nodes: BTreeMap<String, NodeLiveUpdate>,
    /// First lists that have arrived: nothing is shown before all have.
    ready: usize,
    /// Objects of a list that is being read again.
    fresh_updates: BTreeMap<String, LiveUpdate>,
    fresh_nodes: BTreeMap<String, NodeLiveUpdate>,
}

enum Change {
    Update(Box<watcher::Event<LiveUpdate>>),
    Node(Box<watcher::Event<NodeLiveUpdate>>),
}

impl Seen {
    fn take(&mut self, change: Change) {
        match change {
            Change::Update(event) => {
                self.ready += usize::from(apply(&mut self.updates, &mut self.fresh_updates, *event));
            }
            Change::Node(event) => {
                self.ready += usize::from(apply(&mut self.nodes, &mut self.fresh_nodes, *event));
            }
        }
    }
}

/// Takes an event; true at the end of a list.
fn apply<K: ResourceExt>(
    all: &mut BTreeMap<String, K>,
    fresh: &mut BTreeMap<String, K>,
    event: watcher::Event<K>,
) -> bool {
    match event {
        watcher::Event::Init => fresh.clear(),
        watcher::Event::InitApply(object) => {
            fresh.insert(object.name_any(), object);
        }
        watcher::Event::InitDone => {
            *all = std::mem::take(fresh);
            return true;
        }
        watcher::Event::Apply(object) => {
            all.insert(object.name_any(), object);
        }
        watcher::Event::Delete(object) => {
            all.remove(&object.name_any());
        }
    }
    false
}

/// Follows one update to its end, or all of them until interrupted.
///
/// # Errors
/// When there is no such update, the cluster cannot be read, or the update ends otherwise than well.
pub async fn run(client: Client, args: &StatusArgs, terminal: Terminal) -> Result<(), Error> {
    if !matches!(args.output, Output::Table | Output::Wide) {
        return Err(Error::Usage(
            "with -w only -o table and -o wide make sense; for objects use `kubectl get lu -w -o …`".into(),
        ));
    }
    // Says at once what a watch would only try again and again.
    match &args.name {
        Some(name) => drop(client::update(&client, name).await?),
        None => drop(client::updates(&client).await?),
    }
    let mut changes = Box::pin(changes(client, args.name.as_deref()));
    let lists = if args.name.is_some() { 2 } else { 1 };
    let mut seen = Seen::default();
    let mut screen = Screen { terminal, shown: Vec::new(), begun: false };
    let mut tick = tokio::time::interval(TICK);
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            _ = tick.tick(), if terminal.is_terminal && seen.ready >= lists => None,
        };
        match change {
            Some(Ok(change)) => seen.take(change),
            Some(Err(error)) => eprintln!("watching goes on after: {error}"),
            None => {}
        }
        let settled = tokio::time::sleep(SETTLE);
        tokio::pin!(settled);
        loop {
            tokio::select! {
                () = &mut settled => break,
                change = changes.next() => match change {
                    Some(Ok(change)) => seen.take(change),
                    Some(Err(error)) => eprintln!("watching goes on after: {error}"),
                    None => break,
                },
            }
        }
        if seen.ready < lists {
            continue;
        }
        if let Some(end) = screen.show(&seen, args)? {
            return end;
        }
    }
}

fn changes(client: Client, name: Option<&str>) -> impl Stream<Item = Result<Change, watcher::Error>> + use<> {
    let config = watcher::Config::default();
    let (updates, nodes) = match name {
        Some(name) => {
            let one = config.clone().fields(&format!("metadata.name={name}"));
            let nodes = watcher(Api::<NodeLiveUpdate>::all(client.clone()), config)
                .default_backoff()
                .modify(forget_details)
                .map_ok(|event| Change::Node(Box::new(event)));
            (one, nodes.left_stream())
        }
        None => (config, stream::pending().right_stream()),
    };
    let updates = watcher(Api::<LiveUpdate>::all(client), updates)
        .default_backoff()
        .map_ok(|event| Change::Update(Box::new(event)));
    stream::select(updates, nodes)
}

/// Drops what the tree never shows: ten thousand nodes are kept in memory.
fn forget_details(node: &mut NodeLiveUpdate) {
    node.metadata.managed_fields = None;
    if let Some(status) = &mut node.status {
        status.gates = Vec::new();
        status.devices = Vec::new();
        status.steps = Vec::new();
        status.conditions = Vec::new();
    }
}

struct Screen {
    terminal: Terminal,
    shown: Vec<String>,
    begun: bool,
}

impl Screen {
    /// Shows what is; some when that was the end.
    fn show(&mut self, seen: &Seen, args: &StatusArgs) -> Result<Option<Result<(), Error>>, Error> {
        let now = Timestamp::now();
        self.terminal = self.terminal.measured_again();
        let ages = self.terminal.is_terminal;
        let canvas = Canvas { ages, ..self.terminal.canvas() };
        let (text, lines, end) = match &args.name {
            Some(name) => {
                let Some(update) = seen.updates.get(name) else {
                    return Ok(Some(Err(Error::Ended(format!("liveupdate {name:?} was deleted")))));
                };
                let view = View::new(update.clone(), seen.nodes.values().cloned());
                let tree = tree::tree(&view, now, canvas);
                (tree.draw(canvas), tree.flat(), end(update))
            }
            None => {
                let updates: Vec<_> = seen.updates.values().cloned().collect();
                let wide = args.output == Output::Wide;
                let text = table::render(&updates, now, wide, canvas);
                let lines = text.lines().map(str::to_owned).collect();
                (text, lines, None)
            }
        };
        let read = if self.terminal.is_terminal {
            output::still_read(&frame(&text, self.terminal.size.1, !self.begun))?
        } else {
            output::still_read(&changed(&self.shown, &lines, now))?
        };
        if !read {
            // `| head`: nobody would ever see the end.
            return Ok(Some(Ok(())));
        }
        self.begun = true;
        self.shown = lines;
        Ok(end)
    }
}

/// The picture, over the one before: home, every line cleared behind its end, the rest cleared. What is
/// higher than the terminal is cut with a word, since scrolling would break the redraw.
fn frame(text: &str, height: usize, first: bool) -> String {
    let mut out = String::from(if first { "\u{1b}[2J\u{1b}[H" } else { "\u{1b}[H" });
    let lines: Vec<&str> = text.lines().collect();
    let room = height.saturating_sub(1).max(1);
    let shown = if lines.len() > room { room - 1 } else { lines.len() };
    for line in &lines[..shown] {
        out.push_str(line);
        out.push_str("\u{1b}[K\n");
    }
    if shown < lines.len() {
        out.push_str(&format!(
            "… {} more lines: enlarge the terminal, or leave out -w\u{1b}[K\n",
            lines.len() - shown
        ));
    }
    out.push_str("\u{1b}[J");
    out
}

/// The lines that were not there before, each after the time of day.
fn changed(before: &[String], now_shown: &[String], now: Timestamp) -> String {
    let clock = crate::render::units::clock(now);
    let new = now_shown.iter().filter(|line| !before.contains(line));
    new.map(|line| format!("{clock}  {line}\n")).collect()
}

/// How the update ended, if it has.
fn end(update: &LiveUpdate) -> Option<Result<(), Error>> {
    let status = update.status.as_ref()?;
    let succeeded = summary::holds(&status.conditions, LiveUpdateCondition::Succeeded).is_some();
    if succeeded && summary::is_current(update, status) {
        return Some(Ok(()));
    }
    status.finished_at.as_ref()?;
    let (word, _) = summary::word(update);
    Some(Err(Error::Ended(format!("liveupdate {:?} ended: {word}", update.name_any()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_lines_are_written_into_a_pipe() {
        let lines = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let now = "2026-11-23T15:01:33Z".parse().unwrap();
        let text = changed(&lines(&["a", "b 1"]), &lines(&["a", "b 2", "c"]), now);
        assert_eq!(text, "15:01:33Z  b 2\n15:01:33Z  c\n");
        assert_eq!(changed(&lines(&["a"]), &lines(&["a"]), now), "");
    }

    #[test]
    fn a_picture_higher_than_the_terminal_is_cut_with_a_word() {
        let text = frame("1\n2\n3\n4\n5\n", 4, false);
        assert_eq!(text.matches('\n').count(), 3);
        assert!(text.contains("… 3 more lines"), "{text:?}");
        assert!(!frame("1\n2\n", 4, false).contains('…'));
    }
}
