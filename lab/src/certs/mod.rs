//! Certificates: authorities, and what they issue, as PEM in memory and in files.

mod fleet;

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, string::Ia5String,
};

use crate::{Error, Result};

pub use fleet::FleetCertificates;

/// A certificate authority whose key stays in memory.
#[derive(Debug)]
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// When a certificate holds. Mostly fixed dates, so that a slow clock or a long run changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Since 2020, for decades.
    Current,
    /// Ended in 2021.
    Expired,
    /// Begins decades from now.
    NotYet,
    /// From one second since 1970 to another, for those who may say how long.
    Between(u64, u64),
}

/// What a certificate should say.
#[derive(Clone, Debug)]
pub struct Request {
    common_name: String,
    organisations: Vec<String>,
    dns: Vec<String>,
    uris: Vec<String>,
    addresses: Vec<std::net::IpAddr>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    validity: Validity,
}

/// A certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key, PKCS#8.
    pub key_pem: String,
}

/// Where an identity and the authority that its peers must have were written.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The authority's certificate, `ca.crt`.
    pub authority: PathBuf,
    /// The certificate, `tls.crt`.
    pub certificate: PathBuf,
    /// The key, `tls.key`, readable by its owner alone.
    pub key: PathBuf,
}

impl Authority {
    /// A new authority, of another key than any before.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(name: &str) -> Result<Authority> {
        let fail = |source| Error::Certificate { subject: name.to_owned(), source };
        let key = KeyPair::generate().map_err(fail)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, Validity::Current);
        let certificate_pem = params.self_signed(&key).map_err(fail)?.pem();
        Ok(Authority { certificate_pem, issuer: Issuer::new(params, key) })
    }

    /// The authority's own certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A certificate with a new key.
    ///
    /// # Errors
    /// When a name is not ASCII, or no key can be made.
    pub fn issue(&self, request: &Request) -> Result<Certificate> {
        self.try_issue(request)
            .map_err(|source| Error::Certificate { subject: request.common_name.clone(), source })
    }

    /// A certificate for somebody else's key, of whose PKCS#10 request (in DER) nothing but the key is looked at.
    ///
    /// # Errors
    /// When a name is not ASCII, or the other one's request is none.
    pub fn certify(&self, request: &Request, asked: &[u8]) -> Result<String> {
        let certify = || {
            let asked = CertificateSigningRequestParams::from_der(&asked.into())?;
            Ok(request.params()?.signed_by(&asked.public_key, &self.issuer)?.pem())
        };
        certify().map_err(|source| Error::Certificate { subject: request.common_name.clone(), source })
    }

    fn try_issue(&self, request: &Request) -> std::result::Result<Certificate, rcgen::Error> {
        let key = KeyPair::generate()?;
        let certificate = request.params()?.signed_by(&key, &self.issuer)?;
        Ok(Certificate { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

impl Request {
    fn params(&self) -> std::result::Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        // The library keeps one value per type; the numeric spelling is a second type for the same thing.
        let spellings = [DnType::OrganizationName, DnType::CustomDnType(vec![2, 5, 4, 10])];
        for (organisation, spelling) in self.organisations.iter().zip(spellings) {
            params.distinguished_name.push(spelling, organisation.as_str());
        }
        for name in &self.dns {
            params.subject_alt_names.push(SanType::DnsName(Ia5String::try_from(name.as_str())?));
        }
        for uri in &self.uris {
            params.subject_alt_names.push(SanType::URI(Ia5String::try_from(uri.as_str())?));
        }
        params.subject_alt_names.extend(self.addresses.iter().copied().map(SanType::IpAddress));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages.clone_from(&self.usages);
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, self.validity);
        Ok(params)
    }

    /// For the client's end of connections.
    pub fn client(common_name: &str) -> Request {
        Request {
            common_name: common_name.to_owned(),
            organisations: Vec::new(),
            dns: Vec::new(),
            uris: Vec::new(),
            addresses: Vec::new(),
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
            validity: Validity::Current,
        }
    }

    /// For the server's end of connections.
    pub fn server(common_name: &str) -> Request {
        Request { usages: vec![ExtendedKeyUsagePurpose::ServerAuth], ..Request::client(common_name) }
    }

    /// For a peer that is both.
    pub fn peer(common_name: &str) -> Request {
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Request { usages, ..Request::client(common_name) }
    }

    /// The organisations, which Kubernetes reads as groups. Only the first two are kept.
    #[must_use]
    pub fn organisations(mut self, organisations: &[String]) -> Request {
        self.organisations = organisations.to_vec();
        self
    }

    /// Adds a DNS name.
    #[must_use]
    pub fn dns(mut self, name: impl Into<String>) -> Request {
        self.dns.push(name.into());
        self
    }

    /// Adds a URI.
    #[must_use]
    pub fn uri(mut self, uri: impl Into<String>) -> Request {
        self.uris.push(uri.into());
        self
    }

    /// Adds an address.
    #[must_use]
    pub fn address(mut self, address: impl Into<std::net::IpAddr>) -> Request {
        self.addresses.push(address.into());
        self
    }

    /// Sets when it holds.
    #[must_use]
    pub fn validity(mut self, validity: Validity) -> Request {
        self.validity = validity;
        self
    }
}

impl Certificate {
    /// Writes `ca.crt`, `tls.crt` and `tls.key`, as a mounted Secret would look.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, authority_pem: &str, folder: &Path) -> Result<CertificateFiles> {
        fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        let files = CertificateFiles {
            authority: folder.join("ca.crt"),
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
        };
        write_file(&files.authority, authority_pem)?;
        write_file(&files.certificate, &self.certificate_pem)?;
        write_secret(&files.key, &self.key_pem)?;
        Ok(files)
    }
}

pub(crate) fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::file("write", path))
}

/// Writes a file that only its owner may read, from its first byte on.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
    let options = &mut fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let written =
        options.open(path).and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(Error::file("write", path))
}

fn set_validity(params: &mut CertificateParams, validity: Validity) {
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    let second = |second| year(1970) + Duration::from_secs(second);
    (params.not_before, params.not_after) = match validity {
        Validity::Current => (year(2020), year(2120)),
        Validity::Expired => (year(2020), year(2021)),
        Validity::NotYet => (year(2110), year(2120)),
        Validity::Between(from, to) => (second(from), second(to)),
    };
}
