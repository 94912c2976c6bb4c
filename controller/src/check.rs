//! `liveupdate-controller check`: whether what was installed works, asked of the cluster. The chart's test runs it.
//!
//! ```text
//!  ask ──► Found ──► judge (pure) ──► answers ──► all well: done
//!   ▲                                    │ not yet
//!   └──────────── a second later ────────┘ until the time is over
//! ```

use std::time::Duration;

use clap::Args;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use liveupdate_crds::{LiveUpdate, LiveUpdatePolicy, NodeLiveUpdate};
use liveupdate_proto::causes::chain;

/// What narrows the rights of the product's accounts.
pub const POLICIES: [&str; 4] =
    ["liveupdate-records", "liveupdate-spec", "liveupdate-marks", "liveupdate-approval"];
/// Between two looks.
const AGAIN: Duration = Duration::from_secs(1);

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub struct CheckOptions {
    /// Namespace of the product
    #[arg(long, default_value = "liveupdate-system", value_name = "NAME")]
    pub namespace: String,
    /// Name of the agents' DaemonSet
    #[arg(long, default_value = "liveupdate-agent", value_name = "NAME")]
    pub daemonset: String,
    /// Name of the leader's Lease
    #[arg(long, default_value = "liveupdate-controller", value_name = "NAME")]
    pub lease: String,
    /// Seconds until everything must be well
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub timeout: u64,
}

/// What the cluster said to each question; an error is what it said instead.
#[derive(Debug)]
pub struct Found {
    /// Each kind, and whether it is served.
    pub kinds: Vec<(&'static str, Result<(), String>)>,
    /// Whether there is a LiveUpdatePolicy.
    pub policy: Result<bool, String>,
    /// Each admission policy, and what its binding does with what it refuses.
    pub guards: Vec<(&'static str, Result<Vec<String>, String>)>,
    /// Who holds the Lease; empty when nobody does.
    pub leader: Result<String, String>,
    /// The agents' DaemonSet.
    pub agents: Result<Agents, String>,
    /// Nodes whose agent has answered.
    pub answered: Result<usize, String>,
}

/// What the DaemonSet's controller says of the agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agents {
    /// Nodes that should have one.
    pub wanted: i32,
    /// Of the DaemonSet as it is now, and ready: with a certificate.
    pub ready: i32,
}

impl Agents {
    fn of(daemonset: DaemonSet) -> Agents {
        let status = daemonset.status.unwrap_or_default();
        // What is said of a former one says nothing of this.
        let current = status.observed_generation == daemonset.metadata.generation;
        let ready = status.updated_number_scheduled.unwrap_or_default().min(status.number_ready);
        Agents { wanted: status.desired_number_scheduled, ready: if current { ready } else { 0 } }
    }
}

/// An answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it is as it should be.
    pub well: bool,
    /// What was found, and what to do where it is not well.
    pub text: String,
}

impl Answer {
    fn well(text: impl Into<String>) -> Self {
        Self { well: true, text: text.into() }
    }

    fn wrong(text: impl Into<String>) -> Self {
        Self { well: false, text: text.into() }
    }
}

/// Whether it is as it should be.
pub fn judge(found: &Found) -> Vec<Answer> {
    let mut answers = Vec::new();
    for (kind, served) in &found.kinds {
        answers.push(match served {
            Ok(()) => Answer::well(format!("{kind} is served")),
            Err(why) => {
                Answer::wrong(format!("{kind} is not served: {why}; install the kinds (crds.enabled)"))
            }
        });
    }
    answers.push(match &found.policy {
        Ok(true) => Answer::well("there is a LiveUpdatePolicy"),
        Ok(false) => {
            Answer::wrong("there is no LiveUpdatePolicy: no risk can be acknowledged; make one named default")
        }
        Err(why) => Answer::wrong(format!("the LiveUpdatePolicy cannot be read: {why}")),
    });
    for (guard, actions) in &found.guards {
        answers.push(match actions {
            Ok(actions) if actions.iter().any(|action| action == "Deny") => {
                Answer::well(format!("admission policy {guard} denies"))
            }
            Ok(actions) => Answer::wrong(format!(
                "admission policy {guard} denies nothing: its binding says {actions:?}; install the release again"
            )),
            Err(why) => Answer::wrong(format!("admission policy {guard} is not in force: {why}")),
        });
    }
    answers.push(match &found.leader {
        Ok(holder) if !holder.is_empty() => Answer::well(format!("{holder} leads")),
        Ok(_) => Answer::wrong("no process of the controller leads; look at the logs of its pods"),
        Err(why) => Answer::wrong(format!("the leader's Lease cannot be read: {why}")),
    });
    answers.push(match (&found.agents, &found.answered) {
        (Ok(Agents { wanted: 0, .. }), Ok(_)) => {
            Answer::wrong("no node should have an agent; see agent.nodeSelector")
        }
        // Records stay when an agent is gone: that a node has answered says nothing of now.
        (Ok(Agents { wanted, ready }), Ok(_)) if ready < wanted => {
            Answer::wrong(format!("{ready} of {wanted} agents are ready; look at the other pods"))
        }
        (Ok(Agents { wanted, .. }), Ok(answered))
            if usize::try_from(*wanted).is_ok_and(|wanted| *answered >= wanted) =>
        {
            Answer::well(format!("all {wanted} agents are ready, {answered} nodes have answered"))
        }
        (Ok(Agents { wanted, .. }), Ok(answered)) => Answer::wrong(format!(
            "{answered} of {wanted} nodes have answered; look at the agents' pods on the others"
        )),
        (Err(why), _) => Answer::wrong(format!("the agents' DaemonSet cannot be read: {why}")),
        (_, Err(why)) => Answer::wrong(format!("the nodes' records cannot be read: {why}")),
    });
    answers
}

/// Asks until all is well or the time is over, says what it found, and whether all was well.
pub async fn check(client: &Client, options: &CheckOptions) -> bool {
    let asking = async {
        loop {
            let answers = judge(&ask(client, options).await);
            if answers.iter().all(|answer| answer.well) {
                return answers;
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    let answers = match tokio::time::timeout(Duration::from_secs(options.timeout), asking).await {
        Ok(answers) => answers,
        // Once more, for what to say.
        Err(_) => judge(&ask(client, options).await),
    };
    for answer in &answers {
        println!("{} {}", if answer.well { "ok    " } else { "NOT OK" }, answer.text);
    }
    answers.iter().all(|answer| answer.well)
}

async fn ask(client: &Client, options: &CheckOptions) -> Found {
    let few = ListParams::default().limit(1);
    let why = |error: kube::Error| chain(&error);
    let updates: Api<LiveUpdate> = Api::all(client.clone());
    let records: Api<NodeLiveUpdate> = Api::all(client.clone());
    let policies: Api<LiveUpdatePolicy> = Api::all(client.clone());
    let policy = policies.list(&few).await.map(|list| !list.items.is_empty()).map_err(why);
    let records = records.list(&ListParams::default()).await.map_err(why);
    let kinds = vec![
        ("LiveUpdate", updates.list(&few).await.map(drop).map_err(why)),
        ("NodeLiveUpdate", records.as_ref().map(drop).map_err(Clone::clone)),
        ("LiveUpdatePolicy", policy.as_ref().map(drop).map_err(Clone::clone)),
    ];
    let mut guards = Vec::new();
    for name in POLICIES {
        guards.push((name, guard(client, name).await.map_err(why)));
    }
    let leases: Api<Lease> = Api::namespaced(client.clone(), &options.namespace);
    let agents: Api<DaemonSet> = Api::namespaced(client.clone(), &options.namespace);
    let holder = |lease: Lease| lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
    let spoke =
        |record: &&NodeLiveUpdate| record.status.as_ref().is_some_and(|status| !status.kernel.is_empty());
    Found {
        kinds,
        policy,
        guards,
        leader: leases.get(&options.lease).await.map(holder).map_err(why),
        agents: agents.get(&options.daemonset).await.map(Agents::of).map_err(why),
        answered: records.map(|list| list.items.iter().filter(spoke).count()),
    }
}

/// What happens with what a policy refuses.
async fn guard(client: &Client, name: &str) -> kube::Result<Vec<String>> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let policy = policies.get(name).await?;
    let binding = bindings.get(name).await?.spec.unwrap_or_default();
    let bound = binding.policy_name.as_deref() == Some(policy.name_any().as_str());
    Ok(if bound { binding.validation_actions.unwrap_or_default() } else { Vec::new() })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::DaemonSetStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn found() -> Found {
        Found {
            kinds: vec![("LiveUpdate", Ok(()))],
            policy: Ok(true),
            guards: POLICIES.map(|name| (name, Ok(vec!["Deny".to_owned()]))).into(),
            leader: Ok("a".into()),
            agents: Ok(Agents { wanted: 3, ready: 3 }),
            answered: Ok(3),
        }
    }

    #[test]
    fn all_is_well_when_every_answer_is() {
        assert!(judge(&found()).iter().all(|answer| answer.well));
        // More have answered than the DaemonSet counts: a node that was taken out of its selector.
        assert!(judge(&Found { answered: Ok(4), ..found() }).iter().all(|answer| answer.well));
    }

    #[test]
    fn agents_of_a_former_daemonset_are_not_ready() {
        let daemonset = |observed, updated| {
            let status = DaemonSetStatus {
                observed_generation: Some(observed),
                desired_number_scheduled: 3,
                number_ready: 3,
                updated_number_scheduled: Some(updated),
                ..DaemonSetStatus::default()
            };
            let metadata = ObjectMeta { generation: Some(2), ..ObjectMeta::default() };
            DaemonSet { metadata, status: Some(status), ..DaemonSet::default() }
        };
        let ready = |observed, updated| Agents::of(daemonset(observed, updated)).ready;
        assert_eq!((ready(2, 3), ready(2, 1), ready(1, 3)), (3, 1, 0));
    }

    #[test]
    fn what_is_not_well_is_one_answer_that_says_what_to_do() {
        let refused = || "forbidden".to_owned();
        let broken = [
            (Found { kinds: vec![("LiveUpdate", Err(refused()))], ..found() }, "crds.enabled"),
            (Found { policy: Ok(false), ..found() }, "make one named default"),
            (Found { policy: Err(refused()), ..found() }, "forbidden"),
            (Found { guards: vec![("a", Ok(vec!["Audit".into()]))], ..found() }, "denies nothing"),
            (Found { guards: vec![("a", Err(refused()))], ..found() }, "not in force"),
            (Found { leader: Ok(String::new()), ..found() }, "logs of its pods"),
            (Found { leader: Err(refused()), ..found() }, "forbidden"),
            (
                Found { agents: Ok(Agents { wanted: 0, ready: 0 }), answered: Ok(0), ..found() },
                "agent.nodeSelector",
            ),
            (Found { agents: Ok(Agents { wanted: 3, ready: 2 }), ..found() }, "2 of 3 agents are ready"),
            (Found { answered: Ok(2), ..found() }, "2 of 3"),
            (Found { agents: Err(refused()), ..found() }, "DaemonSet"),
            (Found { answered: Err(refused()), ..found() }, "records"),
        ];
        for (found, words) in broken {
            let wrong: Vec<_> = judge(&found).into_iter().filter(|answer| !answer.well).collect();
            assert!(
                wrong.len() == 1 && wrong.iter().all(|answer| answer.text.contains(words)),
                "{words}: {wrong:?}"
            );
        }
    }
}
