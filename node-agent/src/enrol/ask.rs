//! Asking the controller for a certificate, once.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use liveupdate_proto::causes::chain;
use liveupdate_proto::controller::v1::controller_client::ControllerClient;
use liveupdate_proto::controller::v1::{EnrolReply, EnrolRequest};
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::{DialOptions, Identity, TlsError, connect_anonymous};
use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use crate::config::Enrolment;

/// For one try.
const CALL: Duration = Duration::from_secs(10);
/// As much as the controller takes, and as much as a bundle can be.
const MAX_TOKEN: u64 = 16 * 1024;
const MAX_BUNDLE: u64 = 256 * 1024;
const MAX_REPLY: usize = 512 * 1024;

/// What the agent may serve with.
#[derive(Debug)]
pub(super) struct Granted {
    /// PEM: the CAs to trust.
    pub(super) authorities: String,
    /// PEM: the certificate and those between it and its CA.
    pub(super) certificate: String,
    /// PEM.
    pub(super) key: String,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotGranted {
    /// A file is not what it should be.
    #[error("cannot read {path}: {why}")]
    File { path: String, why: String },
    /// No connection.
    #[error("{}: {}", .0.reason(), chain(.0))]
    Tls(TlsError),
    /// The controller says no.
    #[error("{word}: {message}")]
    Refused { word: String, message: String },
    /// It took too long.
    #[error("TimedOut: no answer within {CALL:?}")]
    TimedOut,
    /// What came back is no certificate.
    #[error("Misbehaves: {0}")]
    Nonsense(String),
}

pub(super) fn small_text(path: &Path, most: u64) -> Result<String, NotGranted> {
    let fail = |why: String| NotGranted::File { path: path.display().to_string(), why };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(most + 1).read_to_string(&mut text))
        .map_err(|error| fail(error.to_string()))?;
    match u64::try_from(text.len()) {
        Ok(0) => Err(fail("it is empty".to_owned())),
        Ok(length) if length <= most => Ok(text),
        _ => Err(fail(format!("it has more than {most} bytes"))),
    }
}

/// The CAs that are to be trusted.
pub(super) fn trust(enrolment: &Enrolment) -> Result<String, NotGranted> {
    small_text(&enrolment.trust, MAX_BUNDLE)
}

/// Makes a key and asks for its certificate. The token is read anew: it is replaced from time to time.
pub(super) async fn once(enrolment: &Enrolment, controller: &str) -> Result<Granted, NotGranted> {
    let token = small_text(&enrolment.token, MAX_TOKEN)?.trim().to_owned();
    let authorities = trust(enrolment)?;
    let key = KeyPair::generate().map_err(|error| NotGranted::Nonsense(error.to_string()))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(|error| NotGranted::Nonsense(error.to_string()))?;
    let request = EnrolRequest { token, certificate_request: request.der().to_vec() };
    let reply = tokio::time::timeout(CALL, call(enrolment, controller, request));
    let reply = reply.await.map_err(|_| NotGranted::TimedOut)??;
    if reply.chain.is_empty() {
        return Err(NotGranted::Nonsense("the answer has no certificate".to_owned()));
    }
    let certificate = reply.chain.into_iter().map(certificate).collect();
    Ok(Granted { authorities, certificate, key: key.serialize_pem() })
}

async fn call(
    enrolment: &Enrolment,
    controller: &str,
    request: EnrolRequest,
) -> Result<EnrolReply, NotGranted> {
    let channel =
        connect_anonymous(&enrolment.trust, &Identity::Controller, controller, DialOptions::default())
            .await
            .map_err(NotGranted::Tls)?;
    let mut client = ControllerClient::new(channel).max_decoding_message_size(MAX_REPLY);
    let reply = client.enrol(request).await.map_err(|status| match TlsError::of_status(&status) {
        Some(error) => NotGranted::Tls(error),
        None => NotGranted::Refused {
            word: Refusal::of(&status)
                .map_or_else(|| format!("{:?}", status.code()), |word| word.to_string()),
            message: status.message().to_owned(),
        },
    })?;
    Ok(reply.into_inner())
}

fn certificate(der: Vec<u8>) -> String {
    pem::encode_config(&Pem::new("CERTIFICATE", der), EncodeConfig::new().set_line_ending(LineEnding::LF))
}
