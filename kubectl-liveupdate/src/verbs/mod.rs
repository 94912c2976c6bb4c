//! What a person tells a running update: annotations bound to its revision.
//!
//! ```text
//!  read ──► decide (pure) ──refused──► say why, exit 1
//!   ▲          │
//!   │          ▼
//!   └─409── patch (with the resourceVersion that was read) ──► wait for the echo in status.verbs
//! ```

mod decide;

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use liveupdate_crds::{LiveUpdate, NodeLiveUpdate};

use crate::cli::{DryRun, VerbOptions};
use crate::client;
use crate::error::Error;

pub use decide::{Decision, Request, Subject, decide};

/// Field manager of what the plugin writes.
pub const FIELD_MANAGER: &str = "kubectl-liveupdate";
/// How long is waited until the controller has taken a verb.
const WAIT: Duration = Duration::from_secs(10);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(250);
/// The controller writes the status about once a second, so that a conflict is usual and read again.
const TRIES: usize = 5;

/// Carries out a verb; what is to be told on success.
///
/// # Errors
/// [`Error::Refused`] when it makes no sense now; [`Error::NotTaken`] when it was written and no controller
/// took it; else what the API server said.
pub async fn run(
    client: Client,
    name: &str,
    request: &Request,
    options: VerbOptions,
) -> Result<String, Error> {
    let dry_run = options.dry_run == DryRun::Server;
    let decision = write(&client, name, request, dry_run).await?;
    if dry_run {
        return Ok(format!("{} (server dry run)\n", decision.done));
    }
    if options.no_wait {
        return Ok(format!("{}; not waited for the controller\n{}\n", decision.done, decision.then));
    }
    eprintln!("{}; waiting for the controller …", decision.done);
    wait(&client, name, &decision).await?;
    Ok(format!("{}\n{}\n", decision.taken, decision.then))
}

async fn write(client: &Client, name: &str, request: &Request, dry_run: bool) -> Result<Decision, Error> {
    let api = Api::<LiveUpdate>::all(client.clone());
    let params =
        PatchParams { dry_run, field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    for _ in 0..TRIES {
        let update = client::update(client, name).await?;
        let subject = match request.node() {
            None => Subject::default(),
            Some(node) => Subject {
                exists: client::get_opt::<Node>(client, node).await?.is_some(),
                record: client::get_opt::<NodeLiveUpdate>(client, node).await?,
            },
        };
        let decision = decide(request, &update, &subject).map_err(Error::Refused)?;
        match api.patch(name, &params, &Patch::Merge(&decision.patch)).await {
            Ok(_) => return Ok(decision),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(source) => {
                return Err(client::failed(format!("writing the verb to liveupdate {name:?}"), source));
            }
        }
    }
    Err(Error::Conflict { name: name.to_owned() })
}

async fn wait(client: &Client, name: &str, decision: &Decision) -> Result<(), Error> {
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        let update = client::update(client, name).await?;
        if decision.is_taken(&update) {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(Error::NotTaken { seconds: WAIT.as_secs() });
        }
        tokio::time::sleep(LOOK).await;
    }
}
