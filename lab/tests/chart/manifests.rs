//! What the chart renders with its defaults, looked at as a security reviewer would.

use std::collections::BTreeSet;

use liveupdate_lab::helm::chart;
use serde_json::Value;

use crate::bed::{Bed, NAMESPACE, run};

pub(crate) async fn rendered(bed: &Bed, flags: &[&str]) -> Vec<Value> {
    let output = bed.template(flags).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let documents: Vec<Value> = serde_saphyr::from_multiple(&output.stdout).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

pub(crate) fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
    documents.iter().filter(|document| document["kind"] == kind).collect()
}

pub(crate) fn name(document: &Value) -> &str {
    document["metadata"]["name"].as_str().unwrap()
}

/// The pod of a workload, or the document when it is one.
fn pod(document: &Value) -> &Value {
    let template = &document["spec"]["template"]["spec"];
    if template.is_null() { &document["spec"] } else { template }
}

fn containers(pod: &Value) -> Vec<&Value> {
    let lists = ["initContainers", "containers"].into_iter().filter_map(|list| pod[list].as_array());
    lists.flatten().collect()
}

#[test]
fn no_right_is_a_wildcard_and_secrets_are_named() {
    run(async |bed| {
        let documents = rendered(bed, &[]).await;
        let roles = of_kind(&documents, "ClusterRole").into_iter().chain(of_kind(&documents, "Role"));
        let mut rules = 0;
        for role in roles {
            for rule in role["rules"].as_array().unwrap() {
                rules += 1;
                for part in ["apiGroups", "resources", "verbs"] {
                    let words = rule[part].as_array().unwrap();
                    assert!(
                        words.iter().all(|word| !word.as_str().unwrap().contains('*')),
                        "{}: {rule}",
                        name(role)
                    );
                }
                let resources = rule["resources"].as_array().unwrap();
                if resources.iter().any(|resource| resource == "secrets") {
                    assert!(rule["resourceNames"].is_array(), "{}: {rule}", name(role));
                }
            }
        }
        assert!(rules > 10);
    });
}

#[test]
fn agents_and_the_uninstall_hook_have_no_rights_and_no_token_for_the_api() {
    run(async |bed| {
        let documents = rendered(bed, &[]).await;
        for account in ["liveupdate-agent", "liveupdate-uninstall"] {
            let bindings = of_kind(&documents, "ClusterRoleBinding")
                .into_iter()
                .chain(of_kind(&documents, "RoleBinding"));
            for binding in bindings {
                let subjects = binding["subjects"].as_array().unwrap();
                assert!(subjects.iter().all(|subject| subject["name"] != account), "{}", name(binding));
            }
            let accounts = of_kind(&documents, "ServiceAccount");
            let found = accounts.iter().find(|found| name(found) == account).unwrap();
            assert_eq!(found["automountServiceAccountToken"], false, "{account}");
            let pods = documents.iter().filter(|document| pod(document)["serviceAccountName"] == account);
            let pods: Vec<&Value> = pods.map(pod).collect();
            assert_eq!(pods.len(), 1, "{account}");
            for pod in pods {
                assert_eq!(pod["automountServiceAccountToken"], false, "{account}");
                let volumes = pod["volumes"].as_array().unwrap().iter();
                let sources =
                    volumes.filter_map(|volume| volume["projected"]["sources"].as_array()).flatten();
                let audiences: Vec<&Value> =
                    sources.map(|source| &source["serviceAccountToken"]["audience"]).collect();
                assert_eq!(audiences.len(), 1, "{account}");
                assert!(
                    audiences
                        .iter()
                        .all(|audience| audience.as_str().unwrap().starts_with("liveupdate.dev/"))
                );
            }
        }
    });
}

/// Nobody enrols: no token, no CA of our own, no right that enrolment needs, and no hook, which comes with a token.
#[test]
fn with_pod_certificates_nothing_of_enrolment_is_left() {
    run(async |bed| {
        let values = chart().join("ci/pod-certificate-values.yaml").to_string_lossy().into_owned();
        let documents = rendered(bed, &["--values", &values]).await;
        let text = documents.iter().map(Value::to_string).collect::<String>();
        for word in
            ["liveupdate.dev/enrol", "liveupdate-uninstall", "tokenreviews", "self-managed", "--trust"]
        {
            assert!(!text.contains(word), "{word}");
        }
        let names: BTreeSet<&str> = documents.iter().map(name).collect();
        for object in ["liveupdate-ca", "liveupdate-trust", "liveupdate-controller-certificates"] {
            assert!(!names.contains(object), "{object}");
        }
        let mut mounted = 0;
        for document in &documents {
            for volume in pod(document)["volumes"].as_array().into_iter().flatten() {
                mounted += usize::from(volume["projected"]["sources"][0]["podCertificate"].is_object());
                assert!(volume["secret"].is_null(), "{}", name(document));
            }
        }
        assert_eq!(mounted, 2);
    });
}

#[test]
fn only_agents_are_root_and_none_is_privileged() {
    run(async |bed| {
        let documents = rendered(bed, &[]).await;
        let mut agents = 0;
        for document in documents.iter().filter(|document| pod(document)["containers"].is_array()) {
            let pod = pod(document);
            let agent = pod["serviceAccountName"] == "liveupdate-agent";
            agents += usize::from(agent);
            assert_eq!(pod["securityContext"]["runAsNonRoot"] == true, !agent, "{}", name(document));
            assert_eq!(pod["hostPID"] == true, agent, "{}", name(document));
            for container in containers(pod) {
                let context = &container["securityContext"];
                assert!(context["privileged"].is_null(), "{}", name(document));
                assert_eq!(context["allowPrivilegeEscalation"], false, "{}", name(document));
                assert_eq!(context["readOnlyRootFilesystem"], true, "{}", name(document));
                assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]), "{}", name(document));
                assert_eq!(context["capabilities"]["add"].is_array(), agent, "{}", name(document));
            }
        }
        assert_eq!(agents, 1);
    });
}

/// At the deadline of a Job its pod is deleted, and with it the words that say why.
#[test]
fn the_uninstall_hook_says_why_before_its_deadline() {
    run(async |bed| {
        for (flags, patience) in [(&[][..], 600), (&["--set=uninstallHook.timeoutSeconds=1800"], 1800)] {
            let documents = rendered(bed, flags).await;
            let jobs = of_kind(&documents, "Job");
            let job = jobs.iter().find(|job| name(job) == "liveupdate-uninstall").unwrap();
            let arguments = pod(job)["containers"][0]["args"].as_array().unwrap();
            let own = format!("--timeout={patience}");
            assert!(arguments.iter().any(|argument| *argument == *own), "{arguments:?}");
            let deadline = job["spec"]["activeDeadlineSeconds"].as_i64().unwrap();
            assert!(deadline >= patience + 60, "{deadline} s for {patience} s");
        }
    });
}

/// An agent that waits for its enrolment does not listen yet.
#[test]
fn an_agent_is_ready_when_it_listens() {
    run(async |bed| {
        for (flags, port) in [(&[][..], 9443), (&["--set=agent.port=9500"], 9500)] {
            let documents = rendered(bed, flags).await;
            let agents = of_kind(&documents, "DaemonSet");
            assert_eq!(agents.len(), 1);
            let agent = &pod(agents[0])["containers"][0];
            assert_eq!(agent["readinessProbe"]["tcpSocket"]["port"], "agent");
            let ports = agent["ports"].as_array().unwrap();
            let listens = ports.iter().find(|found| found["name"] == "agent").unwrap();
            // On the network of the host they are one.
            assert_eq!(
                (listens["containerPort"].as_i64(), listens["hostPort"].as_i64()),
                (Some(port), Some(port))
            );
            let own = format!("--listen=[::]:{port}");
            assert!(agent["args"].as_array().unwrap().iter().any(|argument| *argument == *own), "{agent}");
        }
    });
}

/// A capability without a reason is one that somebody should take away.
#[test]
fn every_capability_has_its_reason() {
    let text = std::fs::read_to_string(chart().join("templates/agent.yaml")).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut seen = 0;
    for (before, line) in lines.iter().zip(lines.iter().skip(1)) {
        let capability = line
            .strip_prefix("- ")
            .is_some_and(|word| word.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
        if capability {
            seen += 1;
            assert!(before.starts_with("# "), "{line} has no reason");
        }
    }
    assert!(seen > 2);
}

#[test]
fn everything_is_in_the_namespace_of_the_release_and_labelled() {
    run(async |bed| {
        let documents = rendered(bed, &[]).await;
        let text = documents.iter().map(Value::to_string).collect::<String>();
        // Whoever is named by namespace in policies is the release's.
        assert!(text.contains(&format!("system:serviceaccount:{NAMESPACE}:liveupdate-controller")));
        assert!(!text.contains("liveupdate-system"), "a namespace is fixed");
        for document in &documents {
            let labels = &document["metadata"]["labels"];
            assert_eq!(labels["app.kubernetes.io/name"], "liveupdate", "{document}");
            let namespace = document["metadata"]["namespace"].as_str().unwrap_or_default();
            assert!(
                ["", NAMESPACE, "kube-node-lease", "default"].contains(&namespace),
                "{}: {namespace}",
                name(document)
            );
        }
    });
}

#[test]
fn kinds_are_kept_unless_one_says_otherwise() {
    run(async |bed| {
        for (flag, kept) in [("--set=crds.keep=true", true), ("--set=crds.keep=false", false)] {
            let documents = rendered(bed, &[flag]).await;
            let kinds = of_kind(&documents, "CustomResourceDefinition");
            assert_eq!(kinds.len(), 3);
            for kind in kinds {
                let keep = kind["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep";
                assert_eq!(keep, kept, "{}", name(kind));
            }
            // Agents have seen its count and keep that, whatever becomes of the kinds.
            let leases = of_kind(&documents, "Lease");
            assert_eq!(leases.len(), 1);
            assert_eq!(leases[0]["metadata"]["annotations"]["helm.sh/resource-policy"], "keep", "{flag}");
        }
        assert!(
            of_kind(&rendered(bed, &["--set=crds.enabled=false"]).await, "CustomResourceDefinition")
                .is_empty()
        );
    });
}
