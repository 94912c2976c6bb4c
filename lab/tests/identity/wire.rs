//! Calls at the controller's port, by anybody.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use liveupdate_lab::certs::Certificate;
use liveupdate_lab::wait::{Answer, until};
use liveupdate_proto::controller::v1::controller_client::ControllerClient;
use liveupdate_proto::controller::v1::{
    EnrolReply, EnrolRequest, KnockCause, KnockReply, KnockRequest, UninstallReply, UninstallRequest,
};
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::{Credentials, DialOptions, Identity, connect, connect_anonymous};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use crate::bed::SOON;

/// A certificate request for a new key, in DER, and the key.
pub(crate) fn request() -> (Vec<u8>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap();
    (request.der().to_vec(), key)
}

/// A port of a controller, and the CAs that it is known by.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) address: String,
    pub(crate) trust: PathBuf,
}

impl Door {
    /// Connects without a certificate.
    pub(crate) async fn anonymous(&self) -> Channel {
        connect_anonymous(&self.trust, &Identity::Controller, &self.address, DialOptions::default())
            .await
            .unwrap()
    }

    /// Waits until somebody is let in.
    pub(crate) async fn opens(&self) {
        until(&format!("{} to open", self.address), SOON, async || {
            let options = DialOptions::default();
            Ok(match connect_anonymous(&self.trust, &Identity::Controller, &self.address, options).await {
                Ok(_) => Answer::Yes(()),
                Err(error) => Answer::not_yet(error),
            })
        })
        .await
        .unwrap();
    }

    /// Asks for a certificate and writes what a peer needs into a folder.
    pub(crate) async fn keep(&self, token: &str, folder: &Path) {
        let (request, key) = request();
        let reply = self.enrol_with(token, request).await.unwrap();
        let certificate_pem = pem(&reply.chain);
        let certificate = Certificate { certificate_pem, key_pem: key.serialize_pem() };
        certificate.write(&pem(&reply.authorities), folder).unwrap();
    }

    /// The same from another address of this machine.
    pub(crate) async fn anonymous_from(&self, address: IpAddr) -> Channel {
        let trust = std::fs::read(&self.trust).unwrap();
        let tls = ClientTlsConfig::new()
            .ca_certificate(tonic::transport::Certificate::from_pem(trust))
            .domain_name(Identity::Controller.dns_name());
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls).unwrap().local_address(Some(address)).connect().await.unwrap()
    }

    /// Shakes hands without a certificate and then says nothing; ends when the controller does.
    pub(crate) async fn silent_tls(&self) -> JoinHandle<()> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(&self.trust).unwrap() {
            roots.add(root.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = TcpStream::connect(&self.address).await.unwrap();
        let name = ServerName::try_from(Identity::Controller.dns_name()).unwrap();
        let mut tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        tokio::spawn(async move {
            let _ = tokio::io::copy(&mut tls, &mut tokio::io::sink()).await;
        })
    }

    /// Asks for a certificate over a connection.
    pub(crate) async fn enrol_over(&self, channel: Channel, token: &str) -> Result<EnrolReply, Status> {
        let request = EnrolRequest { token: token.to_owned(), certificate_request: request().0 };
        ControllerClient::new(channel).enrol(request).await.map(tonic::Response::into_inner)
    }

    /// Asks for a certificate with a token.
    pub(crate) async fn enrol(&self, token: &str) -> Result<EnrolReply, Status> {
        self.enrol_with(token, request().0).await
    }

    /// The same with a certificate request of one's own.
    pub(crate) async fn enrol_with(&self, token: &str, request: Vec<u8>) -> Result<EnrolReply, Status> {
        let request = EnrolRequest { token: token.to_owned(), certificate_request: request };
        let reply = ControllerClient::new(self.anonymous().await).enrol(request).await;
        reply.map(tonic::Response::into_inner)
    }

    /// Asks for all keepers to be taken off the nodes.
    pub(crate) async fn uninstall(&self, token: &str) -> Result<UninstallReply, Status> {
        self.uninstall_over(self.anonymous().await, token).await
    }

    /// The same over a connection.
    pub(crate) async fn uninstall_over(
        &self,
        channel: Channel,
        token: &str,
    ) -> Result<UninstallReply, Status> {
        let request = UninstallRequest { token: token.to_owned() };
        ControllerClient::new(channel).uninstall(request).await.map(tonic::Response::into_inner)
    }

    /// Knocks as the agent of a node, with what is in a folder.
    pub(crate) async fn knock(&self, folder: &Path, node: &str, uid: &str) -> Result<KnockReply, Status> {
        let credentials = Arc::new(Credentials::load(folder, 1).unwrap());
        let channel =
            connect(&credentials, &Identity::Controller, &self.address, DialOptions::default()).await;
        self.knock_over(channel.unwrap(), node, uid).await
    }

    /// Knocks over a connection.
    pub(crate) async fn knock_over(
        &self,
        channel: Channel,
        node: &str,
        uid: &str,
    ) -> Result<KnockReply, Status> {
        let cause = KnockCause::Changed.into();
        let request = KnockRequest { node: node.to_owned(), node_uid: uid.to_owned(), cause };
        let mut client = ControllerClient::new(channel);
        let reply = tokio::time::timeout(Duration::from_secs(30), client.knock(request)).await.unwrap();
        reply.map(tonic::Response::into_inner)
    }
}

/// Fails unless it was refused with this word.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Status>, word: Refusal) {
    let status = result.unwrap_err();
    assert_eq!(Refusal::of(&status), Some(word), "{status:?}");
    assert_eq!(status.code(), word.code());
}

fn pem(ders: &[Vec<u8>]) -> String {
    ders.iter().map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.clone()))).collect()
}

/// A folder for a test's files, under the run's own.
pub(crate) fn scratch(root: &Path) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = root.join(format!("scratch-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
