//! What `helm rollback` makes of the policy, which is the platform's word and has its emergency stop in it.

use liveupdate_lab::control_plane::Output;
use liveupdate_lab::helm::{Helm, chart};
use liveupdate_lab::{ControlPlane, Options};
use serde_json::{Value, json};

use crate::bed::NAMESPACE;

/// The kinds come with its first revision. Nobody runs its pods.
struct Release {
    plane: ControlPlane,
    helm: Helm,
}

impl Release {
    async fn run(&self, args: &[&str]) -> Output {
        let chart = chart().to_string_lossy().into_owned();
        let args = args.iter().map(|arg| if *arg == "CHART" { chart.clone() } else { (*arg).to_owned() });
        self.helm.run(&self.plane, NAMESPACE, args).await.unwrap()
    }

    async fn helm(&self, args: &[&str]) {
        let output = self.run(args).await;
        assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    }

    /// Without `--wait`, which would wait for pods, Helm may ask for the policy before the API server serves its kind. Where
    /// pods run, the documented command waits.
    async fn install(&self, keep: &str) {
        for _ in 0..5 {
            let output = self.run(&["install", "liveupdate", "CHART", "--create-namespace", keep]).await;
            if output.code == Some(0) {
                return;
            }
            assert!(output.stderr.contains("no matches for kind"), "{}{}", output.stdout, output.stderr);
            self.helm(&["uninstall", "liveupdate", "--no-hooks", "--wait"]).await;
            self.delete_kinds().await;
        }
        panic!("the kinds are never served in time");
    }

    async fn delete_kinds(&self) {
        let kinds = ["liveupdates", "nodeliveupdates", "liveupdatepolicies"];
        let kinds = kinds.map(|kind| format!("{kind}.liveupdate.dev"));
        let mut args = vec!["delete", "crd", "--ignore-not-found", "--wait"];
        args.extend(kinds.iter().map(String::as_str));
        self.kubectl(&args).await;
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
    for keep in ["--set=crds.keep=true", "--set=crds.keep=false"] {
        release.install(keep).await;
        let none = |allowed: &Value| allowed.is_null() || *allowed == nothing;
        assert!(none(&release.policy().await.0), "{keep}");
        let allow = "--set=policy.spec.allowedAcknowledgements={VfioPciLiveUpdate}";
        let more = "--set=policy.spec.allowedAcknowledgements={VfioPciLiveUpdate,NoKdump}";
        release.helm(&["upgrade", "liveupdate", "CHART", keep, allow]).await;
        release.helm(&["upgrade", "liveupdate", "CHART", keep, more]).await;
        assert_eq!(release.policy().await.0, json!(["VfioPciLiveUpdate", "NoKdump"]), "{keep}");
        let stop =
            ["patch", "liveupdatepolicy", "default", "--type=merge", "-p", r#"{"spec":{"hold":true}}"#];
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
        if keep == "--set=crds.keep=true" {
            release.helm(&["install", "liveupdate", "CHART", keep]).await;
        } else {
            release.install(keep).await;
        }
        assert_eq!(release.policy().await.1 == json!(true), keep == "--set=crds.keep=true", "{keep}: hold");
        release.helm(&["uninstall", "liveupdate", "--no-hooks", "--wait"]).await;
        release.delete_kinds().await;
    }
}
