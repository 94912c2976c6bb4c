//! A container's spec as a command line of this machine.
//!
//! What a namespace would do is done to the text: paths that are mounted become folders of the run, `[::]` the pod's own
//! address, the name of a Service the address of its forwarder, the host's machine the simulated one.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::placed::Placed;
use crate::process::Spec;

/// Where clients look for the account of their pod.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// For an answer to a probe.
const PROBE: Duration = Duration::from_secs(1);

/// The process of a container; an error says what of the spec cannot be stood in for.
pub(super) fn command(
    placed: &Placed,
    container: &Container,
    mounted: &BTreeMap<String, PathBuf>,
) -> Result<Spec, String> {
    let command = container.command.clone().unwrap_or_default();
    let (path, more) = command.split_first().ok_or("it has no command, and there are no images here")?;
    let program =
        placed.ground.programs.get(path.as_str()).ok_or_else(|| format!("there is no {path} here"))?;
    let mounts = mounts(container, mounted);
    let variables = variables(placed, container)?;
    let arguments = more.iter().chain(container.args.iter().flatten());
    let arguments: Vec<String> =
        arguments.map(|text| translate(placed, &mounts, &expand(text, &variables))).collect();
    let name = format!("{}-{}", placed.pod.name_any(), container.name);
    let mut spec = Spec::new(name, program, &placed.ground.logs).args(arguments);
    for (key, value) in variables {
        spec = spec.env(key, value);
    }
    if let Some((_, folder)) = mounts.iter().find(|(path, _)| path == ACCOUNT) {
        spec = spec.env("LIVEUPDATE_KUBECONFIG", account(placed, folder)?);
    }
    Ok(spec)
}

/// What a flag of the container names, where it lies here; none: it has no such flag.
pub(super) fn named_by(
    placed: &Placed,
    container: &Container,
    mounted: &BTreeMap<String, PathBuf>,
    flag: &str,
) -> Option<PathBuf> {
    let mounts = mounts(container, mounted);
    let mut arguments = container.args.iter().flatten().map(|text| translate(placed, &mounts, text));
    arguments.find_map(|text| text.strip_prefix(flag).map(PathBuf::from))
}

/// Path in the container and folder of the run, the longest path first.
fn mounts(container: &Container, mounted: &BTreeMap<String, PathBuf>) -> Vec<(String, PathBuf)> {
    let mounts = container.volume_mounts.iter().flatten();
    let mut found: Vec<(String, PathBuf)> = mounts
        .filter_map(|mount| Some((mount.mount_path.clone(), mounted.get(&mount.name)?.clone())))
        .collect();
    found.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    found
}

fn variables(placed: &Placed, container: &Container) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    for variable in container.env.iter().flatten() {
        let field = variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref());
        let value = match field.map(|field| field.field_path.as_str()) {
            None => variable.value.clone().unwrap_or_default(),
            Some("metadata.name") => placed.pod.name_any(),
            Some("metadata.namespace") => placed.pod.namespace().unwrap_or_default(),
            Some("metadata.uid") => placed.pod.uid().unwrap_or_default(),
            Some("spec.nodeName") => placed.machine.name().to_owned(),
            Some("status.hostIP") => placed.machine.address().to_string(),
            Some("status.podIP") => placed.address.to_string(),
            Some(other) => return Err(format!("{other} cannot be had for {}", variable.name)),
        };
        found.insert(variable.name.clone(), value);
    }
    Ok(found)
}

fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    variables.iter().fold(text.to_owned(), |text, (key, value)| text.replace(&format!("$({key})"), value))
}

fn translate(placed: &Placed, mounts: &[(String, PathBuf)], text: &str) -> String {
    let text = placed.ground.services.resolve(text).replace("[::]", &placed.address.to_string());
    let (flag, value) = match text.split_once('=') {
        Some((flag, value)) if flag.starts_with("--") => (format!("{flag}="), value.to_owned()),
        _ => (String::new(), text),
    };
    if value.starts_with("linux") && flag == "--host=" {
        return format!("{flag}{}", placed.machine.argument());
    }
    let below = |path: &str| value.strip_prefix(path).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    match mounts.iter().find_map(|(path, folder)| Some((folder, below(path)?))) {
        Some((folder, rest)) => format!("{flag}{}{rest}", folder.display()),
        None => format!("{flag}{value}"),
    }
}

/// A kubeconfig in place of what is always at the same path in a pod.
fn account(placed: &Placed, folder: &Path) -> Result<String, String> {
    let path = placed.folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1
kind: Config
clusters: [{{name: lab, cluster: {{server: \"{}\", certificate-authority: \"{}\"}}}}]
users: [{{name: pod, user: {{tokenFile: \"{}\"}}}}]
contexts: [{{name: pod, context: {{cluster: lab, user: pod}}}}]
current-context: pod
",
        placed.ground.server,
        placed.ground.authority.display(),
        folder.join("token").display()
    );
    std::fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path.to_string_lossy().into_owned())
}

/// Whether the readiness probe, if there is one, is answered well. One that is not stood in for never is.
pub(super) async fn is_ready(container: &Container, address: IpAddr) -> bool {
    let Some(probe) = &container.readiness_probe else { return true };
    let asking = async {
        if let Some(probe) = &probe.tcp_socket {
            return connect(container, address, &probe.port).await.map(|_| true);
        }
        let probe = probe.http_get.as_ref()?;
        let path = probe.path.as_deref().unwrap_or("/");
        let mut stream = connect(container, address, &probe.port).await?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .ok()?;
        let mut answer = vec![0; 32];
        let read = stream.read(&mut answer).await.ok()?;
        Some(String::from_utf8_lossy(answer.get(..read)?).contains(" 200 "))
    };
    tokio::time::timeout(PROBE, asking).await.ok().flatten().unwrap_or(false)
}

async fn connect(container: &Container, address: IpAddr, port: &IntOrString) -> Option<TcpStream> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            ports.find(|port| port.name.as_deref() == Some(name))?.container_port
        }
    };
    TcpStream::connect(SocketAddr::new(address, u16::try_from(number).ok()?)).await.ok()
}
