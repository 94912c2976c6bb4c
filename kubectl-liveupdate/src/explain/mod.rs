//! `explain NODE`: all that is known of a node, and what to do about it.

mod text;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use liveupdate_crds::NodeLiveUpdate;
use liveupdate_proto::causes::chain;

use crate::cli::{ExplainArgs, Output};
use crate::client;
use crate::error::Error;
use crate::output::{self, Terminal};

pub use text::tree;

/// Everything that is known of a node.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The node's name.
    pub name: String,
    /// The Node object; absent when there is none or it may not be read.
    pub node: Option<Node>,
    /// What the controller knows; absent when no agent ever answered.
    pub record: Option<NodeLiveUpdate>,
}

/// Carries out `explain`.
///
/// # Errors
/// When neither a Node nor a NodeLiveUpdate of that name is there, or the cluster cannot be read.
pub async fn run(client: Client, args: &ExplainArgs, terminal: Terminal) -> Result<(), Error> {
    let record = client::get_opt::<NodeLiveUpdate>(&client, &args.node).await?;
    let node = match client::get_opt::<Node>(&client, &args.node).await {
        Ok(node) => node,
        // Who may read our objects need not be allowed to read nodes.
        Err(error) if record.is_some() => {
            eprintln!("Warning: {}", chain(&error));
            None
        }
        Err(error) => return Err(error),
    };
    if node.is_none() && record.is_none() {
        return Err(Error::NotFound {
            kind: "node",
            name: args.node.clone(),
            look: "see `kubectl get nlu` for those that are known",
        });
    }
    let need = || {
        record.as_ref().ok_or_else(|| Error::NotFound {
            kind: "nodeliveupdate",
            name: args.node.clone(),
            look: "no agent has ever answered for this node",
        })
    };
    let text = match args.output {
        Output::Name => output::name(need()?),
        Output::Json => output::json(&output::value(need()?)?)?,
        Output::Yaml => output::yaml(&output::value(need()?)?)?,
        Output::Table | Output::Wide => {
            let canvas = terminal.canvas();
            tree(&Known { name: args.node.clone(), node, record }, Timestamp::now(), canvas).draw(canvas)
        }
    };
    output::print(&text)
}
