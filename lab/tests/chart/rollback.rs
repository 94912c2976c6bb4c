//! What `helm rollback` makes of the policy, which is the platform's word and has its emergency stop in it.

use std::time::Duration;

use liveupdate_lab::control_plane::Output;
use liveupdate_lab::helm::{Helm, chart};
use liveupdate_lab::wait::{self, Answer};
use liveupdate_lab::{ControlPlane, Options};
use serde_json::{Value, json};

use crate::bed::NAMESPACE;

const SOON: Duration = Duration::from_secs(60);

/// The kinds come with its first revision. Nobody runs its pods.
struct Release {
    plane: ControlPlane,
    helm: Helm,
}

impl Release {
    async fn helm(&self, args: &[&str]) {
        let chart = chart().to_string_lossy().into_owned();
        let args = args.iter().map(|arg| if *arg == "CHART" { chart.clone() } else { (*arg).to_owned() });
        let output = self.helm.run(&self.plane, NAMESPACE, args).await.unwrap();
        assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    }

    /// The first revision, with the kinds and without the policy in its manifest. The hook that makes the policy waits for
    /// pods to be ready in the documented command, and here are none: without waiting it may come before the API server
    /// serves the kind.
    async fn install(&self, keep: &str) {
        self.helm(&["install", "liveupdate", "CHART", "--create-namespace", "--no-hooks", keep]).await;
        let served = wait::until("the kind of the policy", SOON, async || {
            let found = self.plane.kubectl(&["get", "liveupdatepolicies"]).await?;
            Ok(if found.code == Some(0) { Answer::Yes(()) } else { Answer::not_yet(found.stderr) })
        });
        served.await.unwrap();
    }

    async fn kubectl(&self, args: &[&str]) -> Output {
        let output = self.plane.kubectl(args).await.unwrap();
        assert_eq!(output.code, Some(0), "{args:?}: {}", output.stderr);
        output
    }

    /// What the policy allows, and whether it stops everything.
    async fn policy(&self) -> (Value, Value) {
        let found = self.kubectl(&["get", "liveupdatepolicy", "default", "-o", "json"]).await;
        let policy: Value = serde_json::from_str(&found.stdout).unwrap();
        (policy["spec"]["allowedAcknowledgements"].clone(), policy["spec"]["hold"].clone())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_never_takes_the_stop_away_and_to_the_first_revision_it_leaves_what_is_allowed() {
    let options = Options { scheduler: false, controller_manager: false, ..Options::default() };
    let plane = ControlPlane::start(options).await.unwrap();
    let release = Release { plane, helm: Helm::find().await.unwrap() };
    let nothing = json!([]);
    // With `crds.keep=false` its uninstall waits for kinds to be deleted, and that was seen to take minutes.
    let keep = "--set=crds.keep=true";
    release.install(keep).await;
    let none = |allowed: &Value| allowed.is_null() || *allowed == nothing;
    let allow = "--set=policy.spec.allowedAcknowledgements={VfioPciLiveUpdate}";
    let more = "--set=policy.spec.allowedAcknowledgements={VfioPciLiveUpdate,NoKdump}";
    release.helm(&["upgrade", "liveupdate", "CHART", keep, allow]).await;
    release.helm(&["upgrade", "liveupdate", "CHART", keep, more]).await;
    assert_eq!(release.policy().await.0, json!(["VfioPciLiveUpdate", "NoKdump"]), "{keep}");
    let stop = ["patch", "liveupdatepolicy", "default", "--type=merge", "-p", r#"{"spec":{"hold":true}}"#];
    release.kubectl(&stop).await;

    // To a revision that was an upgrade: as that one's values had it.
    release.helm(&["rollback", "liveupdate", "2"]).await;
    assert_eq!(release.policy().await, (json!(["VfioPciLiveUpdate"]), json!(true)), "{keep}, to 2");
    // To the one that brought the kinds: as it is.
    release.helm(&["rollback", "liveupdate", "1"]).await;
    assert_eq!(release.policy().await, (json!(["VfioPciLiveUpdate"]), json!(true)), "{keep}, to 1");
    // And an upgrade takes back what was allowed.
    release.helm(&["upgrade", "liveupdate", "CHART", keep]).await;
    let (allowed, hold) = release.policy().await;
    assert!(none(&allowed) && hold == json!(true), "{keep}: {allowed} {hold}");

    // What an uninstall keeps the next release takes for its own.
    release.helm(&["uninstall", "liveupdate", "--no-hooks", "--wait"]).await;
    release.helm(&["install", "liveupdate", "CHART", keep]).await;
    assert_eq!(release.policy().await.1, json!(true), "{keep}: hold");
}
