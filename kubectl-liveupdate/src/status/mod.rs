//! `status`: an update as a tree, all updates as a table, and both as they change.

pub mod nodes;
pub mod summary;
pub mod table;
pub mod tree;
pub mod watch;

use jiff::Timestamp;
use kube::{Client, ResourceExt};
use liveupdate_crds::{LiveUpdate, NodeLiveUpdate};

use crate::cli::{Output, StatusArgs};
use crate::client;
use crate::error::Error;
use crate::output::{self, Terminal};

/// An update and the nodes that it concerns.
#[derive(Clone, Debug)]
pub struct View {
    /// The update.
    pub update: LiveUpdate,
    /// Nodes whose status speaks of it, by name.
    pub nodes: Vec<NodeLiveUpdate>,
}

impl View {
    /// Of all nodes, those that speak of this update (of this UID: a name can be used again).
    #[must_use]
    pub fn new(update: LiveUpdate, all: impl IntoIterator<Item = NodeLiveUpdate>) -> Self {
        let mut nodes: Vec<_> = all.into_iter().filter(|node| concerns(node, &update)).collect();
        nodes.sort_by_key(ResourceExt::name_any);
        Self { update, nodes }
    }
}

/// Whether a node's status speaks of the update.
#[must_use]
pub fn concerns(node: &NodeLiveUpdate, update: &LiveUpdate) -> bool {
    let named = node.status.as_ref().and_then(|status| status.update.as_ref());
    named.is_some_and(|of| of.name == update.name_any() && Some(&of.uid) == update.metadata.uid.as_ref())
}

/// Carries out `status`.
///
/// # Errors
/// When the cluster cannot be read, or with `-w` the update ends otherwise than well.
pub async fn run(client: Client, args: &StatusArgs, terminal: Terminal) -> Result<(), Error> {
    if args.watch {
        return watch::run(client, args, terminal).await;
    }
    let canvas = terminal.canvas();
    let now = Timestamp::now();
    let text = match &args.name {
        None => {
            let updates = client::updates(&client).await?;
            if updates.is_empty() && matches!(args.output, Output::Table | Output::Wide) {
                eprintln!("No LiveUpdates found.");
            }
            all(&updates, args.output, now, terminal)?
        }
        Some(name) => {
            let update = client::update(&client, name).await?;
            match args.output {
                Output::Name => output::name(&update),
                _ => one(&View::new(update, client::nodes(&client).await?), args.output, |view| {
                    tree::tree(view, now, canvas).draw(canvas)
                })?,
            }
        }
    };
    output::print(&text)
}

fn all(updates: &[LiveUpdate], output: Output, now: Timestamp, terminal: Terminal) -> Result<String, Error> {
    match output {
        Output::Table | Output::Wide => {
            Ok(table::render(updates, now, output == Output::Wide, terminal.canvas()))
        }
        Output::Name => Ok(updates.iter().map(output::name).collect()),
        Output::Json => output::json(&output::list(updates, &[])?),
        Output::Yaml => output::yaml(&output::list(updates, &[])?),
    }
}

fn one(view: &View, output: Output, draw: impl Fn(&View) -> String) -> Result<String, Error> {
    let list = || output::list(std::slice::from_ref(&view.update), &view.nodes);
    match output {
        Output::Table | Output::Wide => Ok(draw(view)),
        Output::Name => Ok(output::name(&view.update)),
        Output::Json => output::json(&list()?),
        Output::Yaml => output::yaml(&list()?),
    }
}
