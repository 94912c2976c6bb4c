//! The command line of each component.

use std::path::{Path, PathBuf};

use super::Options;
use super::audit;
use crate::certs::{Authority, CertificateFiles, Request, write_file, write_secret};
use crate::process::Spec;
use crate::{Account, Result, RunDir, Tools};

/// The ports of one control plane, all on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) etcd: u16,
    pub(super) etcd_peer: u16,
    pub(super) api_server: u16,
    pub(super) controller_manager: u16,
    pub(super) scheduler: u16,
}

impl Ports {
    pub(super) fn choose() -> Result<Ports> {
        use crate::ports::free;
        Ok(Ports {
            etcd: free()?,
            etcd_peer: free()?,
            api_server: free()?,
            controller_manager: free()?,
            scheduler: free()?,
        })
    }
}

/// Everything on disk that the components read or write.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) logs: PathBuf,
    pub(super) audit_log: PathBuf,
    etcd_data: PathBuf,
    audit_policy: PathBuf,
    tokens: PathBuf,
    serving: CertificateFiles,
    service_account_key: PathBuf,
    service_account_certificate: PathBuf,
}

impl Layout {
    pub(super) fn write(run: &RunDir, authority: &Authority, options: &Options) -> Result<Layout> {
        let server = Request::server("liveupdate-lab")
            .dns("localhost")
            .dns("kubernetes")
            .dns("kubernetes.default.svc")
            .address([127, 0, 0, 1])
            // As a QEMU guest finds it.
            .address([10, 0, 2, 2])
            .address([10, 96, 0, 1]);
        let serving =
            authority.issue(&server)?.write(authority.certificate_pem(), &run.folder("serving")?)?;
        // Any key will do; its certificate is how the API server reads the public half.
        let signer = authority.issue(&Request::client("service-accounts"))?;
        let files = run.folder("files")?;
        let layout = Layout {
            logs: run.folder("logs")?,
            audit_log: files.join("audit.log"),
            etcd_data: run.path().join("etcd"),
            audit_policy: files.join("audit-policy.yaml"),
            tokens: files.join("tokens.csv"),
            serving,
            service_account_key: files.join("service-account.key"),
            service_account_certificate: files.join("service-account.crt"),
        };
        write_file(&layout.service_account_certificate, &signer.certificate_pem)?;
        write_secret(&layout.service_account_key, &signer.key_pem)?;
        if let Some(policy) = audit::policy(&options.audit) {
            write_file(&layout.audit_policy, &policy)?;
        }
        if !options.tokens.is_empty() {
            write_secret(&layout.tokens, &token_file(&options.tokens))?;
        }
        Ok(layout)
    }
}

fn token_file(tokens: &[(String, Account)]) -> String {
    let line = |(token, account): &(String, Account)| {
        format!(
            "{token},{user},{user},\"{groups}\"\n",
            user = account.user,
            groups = account.groups.join(",")
        )
    };
    tokens.iter().map(line).collect()
}

pub(super) fn etcd(tools: &Tools, layout: &Layout, ports: Ports) -> Spec {
    let client = format!("http://127.0.0.1:{}", ports.etcd);
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
    Spec::new("etcd", tools.binary("etcd"), &layout.logs).args([
        "--name=lab".to_owned(),
        flag("data-dir", &layout.etcd_data),
        // The data lives no longer than the run, and a test machine's disk is the slowest part of it.
        "--unsafe-no-fsync".to_owned(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=lab={peer}"),
        "--log-level=warn".to_owned(),
    ])
}

pub(super) fn api_server(tools: &Tools, layout: &Layout, ports: Ports, options: &Options) -> Spec {
    let mut args = vec![
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", ports.api_server),
        // Loopback is refused here. Nothing is advertised, so an address of the documentation range does.
        "--advertise-address=192.0.2.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        flag("client-ca-file", &layout.serving.authority),
        flag("tls-cert-file", &layout.serving.certificate),
        flag("tls-private-key-file", &layout.serving.key),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        flag("service-account-key-file", &layout.service_account_certificate),
        flag("service-account-signing-key-file", &layout.service_account_key),
        "--allow-privileged=true".to_owned(),
        "--profiling=false".to_owned(),
    ];
    if !options.controller_manager {
        // Nobody makes the default service accounts then, and pods would be refused for want of them.
        args.push("--disable-admission-plugins=ServiceAccount".to_owned());
    }
    if options.audit != super::Audit::Off {
        args.push(flag("audit-policy-file", &layout.audit_policy));
        args.push(flag("audit-log-path", &layout.audit_log));
        // In megabytes: never rotated within a run, so that one file holds everything.
        args.push("--audit-log-maxsize=1000000".to_owned());
    }
    if !options.tokens.is_empty() {
        args.push(flag("token-auth-file", &layout.tokens));
    }
    args.extend_from_slice(&options.api_server_args);
    Spec::new("kube-apiserver", tools.binary("kube-apiserver"), &layout.logs).args(args)
}

pub(super) fn controller_manager(
    tools: &Tools,
    layout: &Layout,
    ports: Ports,
    options: &Options,
    kubeconfig: &Path,
) -> Spec {
    let mut args = serving_args(layout, ports.controller_manager, kubeconfig);
    args.push(flag("service-account-private-key-file", &layout.service_account_key));
    args.push(flag("root-ca-file", &layout.serving.authority));
    // Each controller under its own account, as clusters run it: its rights are part of what is real.
    args.push("--use-service-account-credentials=true".to_owned());
    // The defaults throttle the garbage collection of a fleet's objects to 20 a second.
    args.push("--kube-api-qps=500".to_owned());
    args.push("--kube-api-burst=1000".to_owned());
    if let Some(grace) = options.node_monitor_grace_period {
        args.push(format!("--node-monitor-grace-period={}ms", grace.as_millis()));
        args.push(format!("--node-monitor-period={}ms", (grace.as_millis() / 4).clamp(100, 5000)));
    }
    args.extend_from_slice(&options.controller_manager_args);
    Spec::new("kube-controller-manager", tools.binary("kube-controller-manager"), &layout.logs).args(args)
}

pub(super) fn scheduler(
    tools: &Tools,
    layout: &Layout,
    ports: Ports,
    options: &Options,
    kubeconfig: &Path,
) -> Spec {
    let mut args = serving_args(layout, ports.scheduler, kubeconfig);
    args.extend_from_slice(&options.scheduler_args);
    Spec::new("kube-scheduler", tools.binary("kube-scheduler"), &layout.logs).args(args)
}

fn serving_args(layout: &Layout, port: u16, kubeconfig: &Path) -> Vec<String> {
    vec![
        flag("kubeconfig", kubeconfig),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        flag("tls-cert-file", &layout.serving.certificate),
        flag("tls-private-key-file", &layout.serving.key),
        "--profiling=false".to_owned(),
    ]
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
