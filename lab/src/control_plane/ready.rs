//! Waiting until a component serves, and saying why when it does not.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};

use crate::error::chain;
use crate::process::{Process, log_tail};
use crate::{Error, Result};

const POLL: Duration = Duration::from_millis(50);

/// Asks until the answer is good, the process has ended, or time is over.
async fn until<F>(process: &mut Process, what: &str, until: Instant, mut ask: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = std::result::Result<(), String>>,
{
    let begun = Instant::now();
    loop {
        process.check_running()?;
        // A connection that hangs must not outlast the deadline.
        let answer = tokio::time::timeout(Duration::from_secs(5), ask()).await;
        let last = match answer {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(last)) => last,
            Err(_) => "no answer in 5 s".to_owned(),
        };
        if Instant::now() >= until {
            return Err(Error::Deadline {
                what: format!("{what} of {}", process.name()),
                waited: begun.elapsed(),
                detail: format!(
                    "; it last said: {last}; the end of its log:\n{}",
                    log_tail(process.log())
                ),
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Polls a health path of a component.
pub(super) async fn serves(process: &mut Process, client: &Client, path: &str, deadline: Instant) -> Result<()> {
    until(process, "readiness", deadline, || async {
        let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
        client.request_text(request).await.map(drop).map_err(|error| chain(&error))
    })
    .await
}

/// The default service account is what the controller manager's controllers make once they run, and
/// what the first pod needs.
pub(super) async fn makes_service_accounts(process: &mut Process, client: &Client, deadline: Instant) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    until(process, "the first service account", deadline, || async {
        accounts.get("default").await.map(drop).map_err(|error| chain(&error))
    })
    .await
}
