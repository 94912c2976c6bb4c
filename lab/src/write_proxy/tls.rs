//! Both ends of the proxy's TLS: a certificate of the lab's authority towards the client, the account's
//! own towards the API server. Only HTTP/1.1 is offered, so that requests follow each other.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::certs::{Authority, Certificate, Request};
use crate::{Account, Error, Result};

type Cause = Box<dyn std::error::Error + Send + Sync>;

pub(super) fn acceptor(authority: &Authority) -> Result<TlsAcceptor> {
    let identity = authority.issue(&Request::server("write-proxy").address([127, 0, 0, 1]))?;
    let config = || -> std::result::Result<ServerConfig, Cause> {
        let (chain, key) = parse(&identity)?;
        // Whoever may talk to the API server may talk to the proxy, and nobody else.
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authority)?), provider()).build()?;
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let mut config = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    };
    let config = config().map_err(|source| Error::Tls { what: "the write proxy's server", source })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

pub(super) fn connector(authority: &Authority, account: &Account) -> Result<TlsConnector> {
    let identity = account.identity(authority)?;
    let config = || -> std::result::Result<ClientConfig, Cause> {
        let (chain, key) = parse(&identity)?;
        let builder =
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let mut config =
            builder.with_root_certificates(roots(authority)?).with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    };
    let config = config().map_err(|source| Error::Tls { what: "the write proxy's client", source })?;
    Ok(TlsConnector::from(Arc::new(config)))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(authority: &Authority) -> std::result::Result<RootCertStore, Cause> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes())?)?;
    Ok(roots)
}

fn parse(
    identity: &Certificate,
) -> std::result::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Cause> {
    let certificate = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes())?;
    Ok((vec![certificate], PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())?))
}
