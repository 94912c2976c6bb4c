//! What somebody sees at a port of the product who has no certificate.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use liveupdate_lab::wait::Answer;
use liveupdate_proto::tls::Identity;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The certificate that is shown at a pod's port to whoever comes now and trusts this CA.
pub(crate) async fn shown(authority: &str, pod: &Pod, port: u16, identity: &Identity) -> Answer<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
    let Ok(address) = address.parse::<IpAddr>() else { return Answer::not_yet("it has no address") };
    let name = ServerName::try_from(identity.dns_name()).unwrap();
    let shaken = async {
        let tcp = TcpStream::connect((address, port)).await?;
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    };
    match shaken.await {
        Ok(tls) => Answer::Yes(tls.get_ref().1.peer_certificates().unwrap()[0].to_vec()),
        Err(error) => Answer::not_yet(error),
    }
}
