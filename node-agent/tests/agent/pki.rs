//! A CA, and certificates of every kind, in a folder that goes away with the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use liveupdate_proto::tls::{Credentials, Identity};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};

pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("liveupdate-agent-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: Folder,
    next: AtomicU32,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem, folder: Folder::new(), next: AtomicU32::new(0) }
    }

    /// A folder with a good certificate for this identity.
    pub(crate) fn folder(&self, identity: &Identity) -> PathBuf {
        self.issue(&identity.dns_name(), &[&identity.uri()], None)
    }

    /// A folder whose certificate ran out years ago.
    pub(crate) fn expired(&self, identity: &Identity) -> PathBuf {
        self.issue(&identity.dns_name(), &[&identity.uri()], Some(2020))
    }

    /// A folder whose certificate has these names.
    pub(crate) fn issue(&self, dns: &str, uris: &[&str], until: Option<i32>) -> PathBuf {
        let folder = self.folder.path().join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir_all(&folder).unwrap();
        self.write(&folder, dns, uris, until);
        folder
    }

    /// Writes a new certificate into a folder that may have one.
    pub(crate) fn write(&self, folder: &Path, dns: &str, uris: &[&str], until: Option<i32>) {
        let mut params = CertificateParams::new(vec![dns.to_owned()]).unwrap();
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(until.unwrap_or(2100), 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(folder.join("ca.crt"), &self.pem).unwrap();
        fs::write(folder.join("tls.crt"), certificate.pem()).unwrap();
        fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
    }

    /// The same folder, but trusting another CA.
    pub(crate) fn trusting(&self, folder: &Path) {
        fs::write(folder.join("ca.crt"), &self.pem).unwrap();
    }

    pub(crate) fn controller(&self) -> Arc<Credentials> {
        credentials(&self.folder(&Identity::Controller))
    }
}

pub(crate) fn credentials(folder: &Path) -> Arc<Credentials> {
    Arc::new(Credentials::load(folder, 4).unwrap())
}
