//! Waiting until a component serves, and saying why when it does not.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};
use liveupdate_proto::causes::chain;

use crate::process::{Process, log_tail};
use crate::wait::{self, Answer};
use crate::{Error, Result};

/// Polls a health path of a component.
pub(super) async fn serves(
    process: &mut Process,
    client: &Client,
    path: &str,
    deadline: Instant,
) -> Result<()> {
    until(process, "readiness", deadline, async || {
        let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
        client.request_text(request).await.map(drop).map_err(|error| chain(&error))
    })
    .await
}

/// The default service account is what the controller manager's controllers make once they run, and
/// what the first pod needs.
pub(super) async fn makes_service_accounts(
    process: &mut Process,
    client: &Client,
    deadline: Instant,
) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    until(process, "the first service account", deadline, async || {
        accounts.get("default").await.map(drop).map_err(|error| chain(&error))
    })
    .await
}

/// Asks until the answer is good, the process has ended, or time is over; the log says more then.
async fn until(
    process: &mut Process,
    what: &str,
    deadline: Instant,
    ask: impl AsyncFn() -> std::result::Result<(), String>,
) -> Result<()> {
    let what = format!("{what} of {}", process.name());
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let waited = wait::until(&what, left, async || {
        process.check_running()?;
        Ok(ask().await.map_or_else(Answer::NotYet, Answer::Yes))
    });
    match waited.await {
        Err(Error::Deadline { what, waited, detail }) => {
            let detail = format!("{detail}; the end of its log:\n{}", log_tail(process.log()));
            Err(Error::Deadline { what, waited, detail })
        }
        other => other,
    }
}
