//! `liveupdate-controller uninstall`: what the chart's hook runs before the release goes.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use liveupdate_proto::causes::chain;
use liveupdate_proto::controller::v1::controller_client::ControllerClient;
use liveupdate_proto::controller::v1::{UninstallReply, UninstallRequest};
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::{DialOptions, Identity, connect_anonymous};

/// Between two questions.
const AGAIN: Duration = Duration::from_secs(1);
/// For one answer.
const CALL: Duration = Duration::from_secs(10);

/// Whom to ask, and with what.
#[derive(Args, Clone, Debug)]
pub struct UninstallOptions {
    /// The controller's address (host:port)
    #[arg(long, value_name = "ADDRESS")]
    pub controller: String,
    /// File with a token of the account that uninstalls
    #[arg(long, value_name = "FILE")]
    pub token: PathBuf,
    /// File with the CAs to trust
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
    /// Seconds until all must be done
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub timeout: u64,
}

enum Said {
    Reply(UninstallReply),
    /// Somebody else leads, or nobody can be asked now.
    Later(String),
    No(String),
}

/// Has all keepers removed, says what became of them, and whether none is left that could be removed.
pub async fn uninstall(options: &UninstallOptions) -> bool {
    let mut last = String::new();
    let asking = async {
        loop {
            match ask(options).await {
                Said::Reply(reply) if reply.done => return Ok(reply),
                Said::Reply(reply) => last = format!("{} keepers are gone so far", reply.removed),
                Said::Later(why) => last = why,
                Said::No(why) => return Err(why),
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(options.timeout), asking).await {
        Ok(Ok(reply)) => {
            if reply.removed == 0 && !reply.problems.is_empty() {
                println!("refused, nothing has changed:");
            } else {
                println!("{} keepers are gone", reply.removed);
            }
            for node in &reply.skipped {
                println!(
                    "{node} is down: what is on it stays; systemctl disable --now liveupdate-keeper when it is back"
                );
            }
            for problem in &reply.problems {
                println!("{} keeps its keeper: {}", problem.node, problem.why);
            }
            reply.problems.is_empty()
        }
        Ok(Err(why)) => {
            println!("refused: {why}");
            false
        }
        Err(_) => {
            println!("not done within {} s: {last}", options.timeout);
            false
        }
    }
}

async fn ask(options: &UninstallOptions) -> Said {
    // Read anew each time: it is replaced from time to time.
    let token = match std::fs::read_to_string(&options.token) {
        Ok(token) => token.trim().to_owned(),
        Err(error) => return Said::No(format!("cannot read {}: {error}", options.token.display())),
    };
    let calling = async {
        let dial = DialOptions::default();
        let channel = connect_anonymous(&options.trust, &Identity::Controller, &options.controller, dial);
        let channel = channel.await.map_err(|error| Said::Later(chain(&error)))?;
        let reply = ControllerClient::new(channel).uninstall(UninstallRequest { token }).await;
        reply.map(tonic::Response::into_inner).map_err(|status| match Refusal::of(&status) {
            Some(Refusal::NotLeading | Refusal::NotNow | Refusal::Busy) | None => {
                Said::Later(status.message().to_owned())
            }
            Some(word) => Said::No(format!("{word}: {}", status.message())),
        })
    };
    match tokio::time::timeout(CALL, calling).await {
        Ok(Ok(reply)) => Said::Reply(reply),
        Ok(Err(said)) => said,
        Err(_) => Said::Later("no answer".to_owned()),
    }
}
