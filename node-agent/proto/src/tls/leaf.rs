//! What the own certificate says, for those who have to renew it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{Identity, TlsError};

/// The owner of a certificate, and when it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Whose it is.
    pub identity: Identity,
    /// It holds from then on.
    pub not_before: SystemTime,
    /// It does not hold after that.
    pub not_after: SystemTime,
}

impl Leaf {
    /// Reads the first certificate of a PEM file. Whoever signed it is not looked at.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate.
    pub fn read(path: &Path) -> Result<Self, TlsError> {
        let unreadable = |source| TlsError::Unreadable { path: path.to_path_buf(), source };
        Self::parse(path, &std::fs::read(path).map_err(unreadable)?)
    }

    /// The same of PEM that is in no file yet; `path` is where it would be, for errors.
    ///
    /// # Errors
    /// It holds no certificate.
    pub fn parse(path: &Path, pem: &[u8]) -> Result<Self, TlsError> {
        let malformed = |why: String| TlsError::Malformed { path: path.to_path_buf(), why };
        let der = CertificateDer::from_pem_slice(pem).map_err(|error| malformed(error.to_string()))?;
        let (_, certificate) =
            x509_parser::parse_x509_certificate(&der).map_err(|error| malformed(error.to_string()))?;
        let at = |time: &x509_parser::time::ASN1Time| {
            let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
        };
        let validity = certificate.validity();
        Ok(Self {
            identity: Identity::named_in(&certificate)?,
            not_before: at(&validity.not_before),
            not_after: at(&validity.not_after),
        })
    }

    /// How long it holds in all.
    pub fn lifetime(&self) -> Duration {
        self.not_after.duration_since(self.not_before).unwrap_or_default()
    }
}
