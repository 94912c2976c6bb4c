//! Which values the chart takes, and what it says to wrong ones.

use std::fmt::Write;

use liveupdate_lab::Account;
use liveupdate_lab::helm::{chart, documented_values};
use serde_json::{Value, json};

use crate::bed::{NAMESPACE, run};
use crate::golden;

/// So that the default policy is rendered as what it is when its kind is there.
const KIND: &str = "--api-versions=liveupdate.dev/v1alpha1/LiveUpdatePolicy";

/// A namespace in which nothing is installed.
const DRY: &str = "dry-lu";

#[test]
fn helm_finds_nothing_to_say_against_it() {
    run(async |bed| {
        let chart = chart().to_string_lossy().into_owned();
        for values in documented_values().unwrap() {
            let values = values.to_string_lossy().into_owned();
            let args = ["lint", "--strict", &chart, "--values", &values];
            let output = bed.helm.run(&bed.plane, NAMESPACE, args).await.unwrap();
            assert_eq!(output.code, Some(0), "{values}: {}{}", output.stdout, output.stderr);
            let told =
                output.stdout.lines().filter(|line| line.contains("[WARNING]") || line.contains("[ERROR]"));
            assert_eq!(told.collect::<Vec<_>>(), Vec::<&str>::new(), "{values}");
        }
    });
}

#[test]
fn every_documented_combination_of_values_is_taken_by_the_api_server() {
    run(async |bed| {
        bed.allowed(&Account::admin(), &["create", "namespace", DRY]).await;
        // As docs/install.md has it.
        bed.allowed(
            &Account::admin(),
            &["label", "namespace", DRY, "pod-security.kubernetes.io/enforce=privileged"],
        )
        .await;
        // A dry run makes no account, and the API server makes no pod, not even dryly, without its account.
        bed.allowed(&Account::admin(), &["create", "serviceaccount", "liveupdate-check", "-n", DRY]).await;
        let files = documented_values().unwrap();
        assert!(files.len() > 10, "{files:?}");
        for values in files {
            let values = values.to_string_lossy().into_owned();
            let rendered = bed.template_in(DRY, &[KIND, "--values", &values]).await;
            assert_eq!(rendered.code, Some(0), "{values}: {}", rendered.stderr);
            let manifest = bed.write("rendered.yaml", &rendered.stdout);
            // What is of the whole cluster belongs to the release of this bed.
            let args = [
                "apply",
                "--server-side",
                "--force-conflicts",
                "--dry-run=server",
                "--validate=strict",
                "-f",
                &manifest,
            ];
            let applied = bed.kubectl(&Account::admin(), &args).await;
            assert_eq!(applied.code, Some(0), "{values}: {}", applied.stderr);
            assert!(!applied.stderr.contains("Warning"), "{values}: {}", applied.stderr);
        }
    });
}

/// The API server judges pods, and of what makes pods says no more than a warning: so each one's pod is made, dryly.
#[test]
fn agents_need_the_pod_security_level_privileged_and_nothing_else_does() {
    run(async |bed| {
        for level in ["privileged", "baseline", "restricted"] {
            let namespace = format!("level-{level}");
            let enforce = format!("pod-security.kubernetes.io/enforce={level}");
            bed.allowed(&Account::admin(), &["create", "namespace", &namespace]).await;
            bed.allowed(&Account::admin(), &["label", "namespace", &namespace, &enforce]).await;
            for account in ["agent", "controller", "check", "uninstall"] {
                let account = format!("liveupdate-{account}");
                bed.allowed(&Account::admin(), &["create", "serviceaccount", &account, "-n", &namespace])
                    .await;
            }
            // What differs in how it is confined.
            for values in ["default", "hardened", "privileged"] {
                let values = chart().join(format!("ci/{values}-values.yaml")).to_string_lossy().into_owned();
                let rendered = bed.template_in(&namespace, &[KIND, "--values", &values]).await;
                assert_eq!(rendered.code, Some(0), "{values}: {}", rendered.stderr);
                let documents: Vec<Value> = serde_saphyr::from_multiple(&rendered.stdout).unwrap();
                let mut seen = Vec::new();
                for (name, pod) in documents.iter().filter_map(|document| pod(document, &namespace)) {
                    let file = bed.write(&format!("{namespace}-{name}.json"), &pod.to_string());
                    let made =
                        bed.kubectl(&Account::admin(), &["create", "--dry-run=server", "-f", &file]).await;
                    let allowed = level == "privileged" || name != "liveupdate-agent";
                    assert_eq!(
                        made.code == Some(0),
                        allowed,
                        "{name} under {level}, {values}: {}",
                        made.stderr
                    );
                    let why = format!("violates PodSecurity \"{level}:latest\"");
                    assert!(allowed || made.stderr.contains(&why), "{name} under {level}: {}", made.stderr);
                    seen.push(name);
                }
                seen.sort();
                let all =
                    ["agent", "check", "controller", "uninstall"].map(|part| format!("liveupdate-{part}"));
                assert_eq!(seen, all, "{values}");
            }
        }
    });
}

/// The pod that an object is, or makes, under the object's name.
fn pod(document: &Value, namespace: &str) -> Option<(String, Value)> {
    let name = document["metadata"]["name"].as_str()?.to_owned();
    let (template, labels) = match document["kind"].as_str()? {
        "Pod" => (&document["spec"], &document["metadata"]["labels"]),
        "Deployment" | "DaemonSet" | "Job" => {
            let template = &document["spec"]["template"];
            (&template["spec"], &template["metadata"]["labels"])
        }
        _ => return None,
    };
    let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template});
    Some((name, pod))
}

/// What a person reads who wrote something wrong.
#[test]
fn wrong_values_are_refused_with_what_to_do() {
    let wrong: &[&[&str]] = &[
        &["tls.mode=vault"],
        &["tls.mode=existingSecret"],
        &["tls.mode=certManager"],
        &["tls.mode=podCertificate"],
        &["tls.mode=podCertificate", "tls.podCertificate.signerName=example.com/liveupdate"],
        &["tls.podCertificate.signerName=liveupdate"],
        &["tls.podCertificate.keyType=ECDSAP521"],
        &["tls.podCertificate.maxExpirationSeconds=600"],
        &["tls.podCertificate.trustConfigMap=other/ca"],
        &["controller.replica=3"],
        &["controller.replicas=0"],
        &["agent.port=70000"],
        &["images.agent.digest=latest"],
        &["policy.spec.allowedAcknowledgements={Everything}"],
        &["policy.spec.maxUnavailable=0"],
        &["monitoring.podMonitor.enabled=true", "monitoring.serviceMonitor.enabled=true"],
        &["networkPolicy.enabled=true"],
        &["uninstallHook.timeoutSeconds=5"],
        &["bundles.signers.release=release.pub"],
        &["bundles.signers.Release_Team=release.pub"],
        &["agent.registry.ca=ca.pem"],
        &["agent.registry.ca=-----BEGIN CERTIFICATE-----", "agent.registry.caConfigMap=ca"],
        &["agent.registry.caConfigMap=other/ca"],
        &["agent.registry.authSecret=other/pull"],
        &["agent.registry.plainHttp={http://registry.example}"],
        &["controller.adminPort=9444"],
        &["controller.podLabels.app\\.kubernetes\\.io/name=other"],
        &["agent.seccompProfile.type=Localhost"],
        &["agent.machineArgs={--spare my-unit}"],
    ];
    run(async |bed| {
        let mut text = String::new();
        for values in wrong {
            let flags: Vec<String> = values.iter().map(|value| format!("--set={value}")).collect();
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            let output = bed.template(&flags).await;
            assert_ne!(output.code, Some(0), "{values:?} is taken");
            let said =
                output.stderr.lines().filter(|line| !line.trim().is_empty() && !line.contains("--debug"));
            writeln!(text, "--set {}\n{}\n", values.join(" --set "), said.collect::<Vec<_>>().join("\n"))
                .unwrap();
        }
        // Their legitimate twins are the documented combinations.
        golden::compare("golden/wrong-values.txt", &text);
    });
}

/// A cluster that has no such volumes would take the pods and start none of them.
#[test]
fn pod_certificates_are_refused_where_there_are_none() {
    run(async |bed| {
        let values = chart().join("ci/pod-certificate-values.yaml").to_string_lossy().into_owned();
        for (version, taken) in [("v1.36.9", false), ("v1.37.0", true), ("v1.37.0-eks-1", true)] {
            let output = bed.template(&["--kube-version", version, "--values", &values]).await;
            assert_eq!(output.code == Some(0), taken, "{version}: {}", output.stderr);
            let said = output.stderr.contains("such volumes are there from 1.37 on");
            assert_eq!(said, !taken, "{version}: {}", output.stderr);
        }
    });
}
