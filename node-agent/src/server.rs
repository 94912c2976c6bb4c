//! One agent: its listener and its tasks.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use liveupdate_host::Host;
use liveupdate_keeper::KeeperClient;
use liveupdate_proto::node::v1::node_server::NodeServer;
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::{AcceptLimits, Credentials, Identity, Peer, RefusedCalls, TlsError, incoming};
use liveupdate_proto::{FILE_DESCRIPTOR_SET, MAX_MESSAGE_BYTES};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::Server;
use tonic::{Request, Status};
use tower::layer::layer_fn;

use crate::config::AgentConfig;
use crate::enrol::Enroller;
use crate::knock;
use crate::knocker::Knocker;
use crate::node::Node;
use crate::run;
use crate::service::Service;

/// Calls at a time on one connection: the controller needs two or three.
const STREAMS: u32 = 32;
/// Until a call without a deadline of its own gets its first answer.
const CALL: Duration = Duration::from_mins(15);
/// What is still to be sent gets so long when the agent ends by itself.
const GRACE: Duration = Duration::from_millis(250);

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// Its certificate cannot be used.
    #[error("the credentials of node {node} are unusable")]
    Credentials {
        /// Which node.
        node: String,
        /// Why.
        source: TlsError,
    },
    /// It cannot listen.
    #[error("cannot listen on {address}; choose another --listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was told to.
    Stopped,
    /// The machine went down or jumped: this process is no more, as far as the machine knows.
    PoweredOff,
}

/// Starts agents.
#[derive(Debug)]
pub struct AgentServer;

/// A running agent. Dropped, it ends at once, as if killed.
#[derive(Debug)]
pub struct AgentHandle {
    address: SocketAddr,
    ending: CancellationToken,
    cut: CancellationToken,
    served: Option<JoinHandle<Ending>>,
}

impl AgentServer {
    /// Starts an agent in the current runtime. It answers when this returns, which may take until it is
    /// enrolled.
    ///
    /// # Errors
    /// The address cannot be listened on, or the credentials cannot be used.
    pub async fn spawn(
        mut config: AgentConfig,
        host: Arc<dyn Host>,
        keeper: Arc<dyn KeeperClient>,
    ) -> Result<AgentHandle, AgentError> {
        let enroller = Enroller::new(&config);
        if let Some(enroller) = &enroller {
            config.node_uid = enroller.first().await;
        }
        let credentials = Credentials::load(&config.tls_dir, 1)
            .map(Arc::new)
            .map_err(|source| AgentError::Credentials { node: config.node.clone(), source })?;
        let listening = |source| AgentError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;

        let (ending, cut) = (CancellationToken::new(), CancellationToken::new());
        let node = Arc::new(Node::new(&config, host, keeper, Knocker::default(), ending.clone()));
        let server = Server::builder()
            .layer(layer_fn(|service| RefusedCalls { limit: None, told_elsewhere: false }.watch(service)))
            .layer(InterceptorLayer::new(only_the_controller))
            .timeout(CALL)
            .max_concurrent_streams(STREAMS)
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .http2_max_header_list_size(16 * 1024)
            .add_routes(routes(Arc::clone(&node)).await);
        let connections = incoming(listener, Arc::clone(&credentials), AcceptLimits::default(), cut.clone());
        let serving = server.serve_with_incoming_shutdown(connections, ending.clone().cancelled_owned());

        if let Some(enroller) = enroller {
            enroller.spawn(Arc::clone(&node));
        }
        if let Some(controller) = config.controller {
            knock::spawn(&node, &credentials, controller);
        }
        tokio::spawn(run::adopt_orphan(Arc::clone(&node)));
        let served = tokio::spawn(supervise(node, serving, cut.clone()));
        Ok(AgentHandle { address, ending, cut, served: Some(served) })
    }
}

/// Serves until the agent is to end; then open calls get a moment, and nobody any more.
async fn supervise(
    node: Arc<Node>,
    serving: impl Future<Output = Result<(), tonic::transport::Error>> + Send + 'static,
    cut: CancellationToken,
) -> Ending {
    let last = {
        let (ending, cut) = (node.ending.clone(), cut.clone());
        async move {
            ending.cancelled().await;
            tokio::select! {
                () = tokio::time::sleep(GRACE) => {}
                () = cut.cancelled() => {}
            }
        }
    };
    tokio::select! {
        served = serving => if let Err(error) = served {
            tracing::error!(node = node.name, %error, "the agent serves no more");
        },
        () = last => {}
    }
    node.ending.cancel();
    cut.cancel();
    if node.powered_off() { Ending::PoweredOff } else { Ending::Stopped }
}

impl AgentHandle {
    /// Where it listens: the port, when it was asked for any.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it as a kill would: connections break, tasks stop where they wait.
    pub fn kill(&self) {
        self.cut.cancel();
        self.ending.cancel();
    }

    /// Ends it; calls that are about to be answered are.
    pub async fn stop(mut self) -> Ending {
        self.ending.cancel();
        self.stopped().await
    }

    /// Waits until it has ended by itself, was killed or stopped.
    pub async fn stopped(&mut self) -> Ending {
        match self.served.take() {
            Some(served) => served.await.unwrap_or(Ending::Stopped),
            None => Ending::Stopped,
        }
    }
}

impl Drop for AgentHandle {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Health and reflection included: nobody else has business with an agent's port.
fn only_the_controller(request: Request<()>) -> Result<Request<()>, Status> {
    let Some(peer) = request.extensions().get::<Peer>() else {
        return Err(Refusal::WrongPeer.status("the connection has no certificate"));
    };
    match peer.require(&Identity::Controller) {
        Ok(()) => Ok(request),
        Err(error) => Err(Refusal::WrongPeer.status(error.to_string())),
    }
}

/// The descriptors are parsed once in a process, not once for each of a thousand agents.
fn shared_routes() -> Routes {
    static SHARED: OnceLock<Routes> = OnceLock::new();
    SHARED
        .get_or_init(|| {
            let reflection = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .build_v1();
            match reflection {
                Ok(reflection) => Routes::new(reflection),
                // The descriptors are compiled in; an agent without reflection still does its work.
                Err(error) => {
                    tracing::error!(%error, "no reflection");
                    Routes::default()
                }
            }
        })
        .clone()
}

async fn routes(node: Arc<Node>) -> Routes {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<NodeServer<Service>>().await;
    let routes = shared_routes().add_service(health);
    #[cfg(feature = "faults")]
    if node.misbehaviour.garbage {
        return routes.add_service(crate::misbehaviour::Garbage);
    }
    let service = NodeServer::new(Service(node))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    routes.add_service(service)
}
