//! Services: a forwarder for each port of each Service, to the pods that are ready, as the node's proxy does.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use liveupdate_proto::causes::chain;
use tokio::net::{TcpListener, TcpStream};

use super::{AbortOnDrop, Ground};

#[derive(Default)]
pub(super) struct Services {
    /// Address by DNS name.
    names: Mutex<BTreeMap<String, IpAddr>>,
    /// Pods that are ready, by UID.
    ready: Mutex<BTreeMap<String, (Pod, IpAddr)>>,
    turn: std::sync::atomic::AtomicUsize,
}

impl Services {
    pub(super) fn set_ready(&self, pod: &Pod, address: IpAddr, ready: bool) {
        let mut all = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = pod.uid().unwrap_or_default();
        if ready {
            all.insert(uid, (pod.clone(), address));
        } else {
            all.remove(&uid);
        }
    }

    /// The text with the DNS names of Services replaced by their addresses.
    pub(super) fn resolve(&self, text: &str) -> String {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().fold(text.to_owned(), |text, (name, address)| text.replace(name, &address.to_string()))
    }

    /// A ready pod that the Service selects, another one each time.
    fn endpoint(&self, service: &Service, port: &ServicePort) -> Option<SocketAddr> {
        let selector = service.spec.as_ref()?.selector.clone()?;
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let selected: Vec<_> = ready
            .values()
            .filter(|(pod, _)| pod.namespace() == service.namespace())
            .filter(|(pod, _)| selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value)))
            .collect();
        let turn = self.turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (pod, address) = selected.get(turn.checked_rem(selected.len())?)?;
        Some(SocketAddr::new(*address, target(pod, port)?))
    }
}

/// The port of the pod that is meant, which may be named.
fn target(pod: &Pod, port: &ServicePort) -> Option<u16> {
    let number = match port.target_port.clone() {
        None => port.port,
        Some(IntOrString::Int(number)) => number,
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.as_ref()?.containers.iter();
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            ports.find(|port| port.name.as_deref() == Some(&name))?.container_port
        }
    };
    u16::try_from(number).ok()
}

/// Forwards until it is dropped.
pub(super) async fn serve(ground: Arc<Ground>) {
    let services: Api<Service> = Api::all(ground.client.clone());
    let mut events = watcher::watcher(services, watcher::Config::default()).default_backoff().boxed();
    let mut known: BTreeMap<String, Vec<AbortOnDrop>> = BTreeMap::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::InitApply(service) | Event::Apply(service)) => {
                let uid = service.uid().unwrap_or_default();
                let spec = service.spec.clone().unwrap_or_default();
                // That of the API server itself has no selector, and is reached as it is.
                if known.contains_key(&uid) || spec.selector.is_none() {
                    continue;
                }
                let address = ground.addresses.next();
                let name = format!("{}.{}.svc", service.name_any(), service.namespace().unwrap_or_default());
                ground.services.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name, address);
                let forward = |port: ServicePort| {
                    let forwarding = forward(Arc::clone(&ground), service.clone(), port, address);
                    AbortOnDrop(tokio::spawn(forwarding))
                };
                known.insert(uid, spec.ports.unwrap_or_default().into_iter().map(forward).collect());
            }
            Ok(Event::Delete(service)) => {
                known.remove(&service.uid().unwrap_or_default());
            }
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => tracing::debug!("the watch of Services broke: {}", chain(&error)),
        }
    }
}

async fn forward(ground: Arc<Ground>, service: Service, port: ServicePort, address: IpAddr) {
    let at = SocketAddr::new(address, u16::try_from(port.port).unwrap_or_default());
    let listener = match TcpListener::bind(at).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(service = service.name_any(), "cannot listen on {at}: {error}");
            return;
        }
    };
    while let Ok((mut incoming, _)) = listener.accept().await {
        let Some(endpoint) = ground.services.endpoint(&service, &port) else { continue };
        tokio::spawn(async move {
            if let Ok(mut outgoing) = TcpStream::connect(endpoint).await {
                let _ = tokio::io::copy_bidirectional(&mut incoming, &mut outgoing).await;
            }
        });
    }
}
