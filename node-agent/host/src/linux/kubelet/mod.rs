//! The kubelet's word on pods, by its Pods API on a socket of the node (KEP-4188; on from Kubernetes 1.37, behind the
//! feature `PodsAPI` before): who starts a pod again says so itself, and nobody needs rights at the API server for it.

mod call;
#[cfg(test)]
pub(crate) mod fake;
mod pod;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prost::Message as _;
use rustix::net::sockopt;

use super::cgroup::{self, Owner};
use super::root::Root;
pub use pod::{Container, ContainerStatus, Metadata, Pod, Resources, Skipped, Spec, Status};
use pod::{GetPodRequest, GetPodResponse};

/// Where it listens.
pub const SOCKET: &str = "/var/lib/kubelet/pods-api/pods-api.sock";
const GET_POD: &str = "/v1alpha1.Pods/GetPod";
/// It answers from its memory.
const PATIENCE: Duration = Duration::from_secs(2);

/// What it said of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The pod.
    pub pod: Pod,
    /// Whom the kubelet itself belongs to.
    pub kubelet: Owner,
    /// It answers no more: this is what it said before.
    pub before: bool,
}

/// The kubelet of a machine. It is stopped before a jump, so that what it said is kept: a pod's UID never gets another
/// restart policy.
#[derive(Debug)]
pub struct Kubelet {
    root: Root,
    told: Mutex<BTreeMap<String, Told>>,
}

impl Kubelet {
    /// That of the machine under a root folder.
    pub fn of(root: &Root) -> Self {
        Self { root: root.clone(), told: Mutex::default() }
    }

    /// What it says of a pod; the sentence says why nothing is known.
    ///
    /// # Errors
    /// It says nothing, nonsense, or that it has no such pod.
    pub fn pod(&self, uid: &str) -> Result<Told, String> {
        let mut all = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = match UnixStream::connect(self.root.path(SOCKET)) {
            Ok(socket) => socket,
            Err(error) => {
                let before = all.get(uid).map(|told| Told { before: true, ..told.clone() });
                return before.ok_or_else(|| format!("{SOCKET}: {error}"));
            }
        };
        let told = self.ask(&socket, uid);
        match &told {
            Ok(told) => all.insert(uid.to_owned(), told.clone()),
            Err(_) => all.remove(uid),
        };
        told
    }

    fn ask(&self, socket: &UnixStream, uid: &str) -> Result<Told, String> {
        let failed = |error: io::Error| format!("{SOCKET}: {error}");
        let peer = sockopt::socket_peercred(socket).map_err(|error| failed(error.into()))?;
        let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap_or_default();
        let request = GetPodRequest { pod_uid: uid.to_owned() }.encode_to_vec();
        let answer = call::unary(socket, GET_POD, &request, PATIENCE).map_err(failed)?;
        let Some(answer) = answer else { return Err(format!("{SOCKET}: it tells of no pod {uid}")) };
        let garbled = |error: prost::DecodeError| format!("{SOCKET}: the answer makes no sense: {error}");
        let answer = GetPodResponse::decode(answer.as_slice()).map_err(garbled)?;
        let pod = Pod::decode(answer.pod.as_slice()).map_err(garbled)?;
        if pod.metadata.as_ref().is_none_or(|metadata| metadata.uid != uid) {
            return Err(format!("{SOCKET}: asked for pod {uid}, it tells of another"));
        }
        let cgroup = cgroup::path_of(&self.root, pid);
        let kubelet = cgroup.map_or_else(|error| Owner::Other(error.to_string()), |path| Owner::of(&path));
        Ok(Told { pod, kubelet, before: false })
    }
}
