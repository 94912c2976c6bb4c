//! Making CAs and certificates.

use liveupdate_proto::tls::Identity;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKey, PublicKeyData as _, SanType,
};
use rustls_pki_types::CertificateSigningRequestDer;
use time::OffsetDateTime;

use super::state::{Authority, Lifetimes, Seconds};

/// Clocks of nodes may be so far behind.
const SKEW: Seconds = 300;
/// An uncompressed point of P-256.
const POINT_BYTES: usize = 65;

/// Why nothing is issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The request is none, or is not signed with the key that it asks a certificate for.
    #[error("the certificate request cannot be used: {0}")]
    Request(String),
    /// The library refused.
    #[error("cannot make a certificate")]
    Library(#[from] rcgen::Error),
    /// A time that no certificate can carry.
    #[error("cannot make a certificate that ends {0} seconds after 1970; correct the clock or the lifetimes")]
    Time(Seconds),
}

/// A new CA.
pub(super) fn authority(now: Seconds, lifetimes: Lifetimes) -> Result<Authority, IssueError> {
    let ends = now.saturating_add(lifetimes.authority.as_secs());
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // Another name for each: an error that names the CA then says which one.
    params.distinguished_name.push(DnType::CommonName, format!("liveupdate CA {now}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = time(now.saturating_sub(SKEW))?;
    params.not_after = time(ends)?;
    let certificate = params.self_signed(&key)?.pem();
    Ok(Authority { certificate, key: key.serialize_pem(), made: now, ends })
}

/// A certificate for somebody who has a key.
pub(super) fn leaf(
    authority: &Authority,
    identity: &Identity,
    key: &PublicKey,
    now: Seconds,
    lifetimes: Lifetimes,
) -> Result<Certificate, IssueError> {
    Ok(CertificateSigningRequestParams {
        params: params(authority, identity, now, lifetimes)?,
        public_key: key.clone(),
    }
    .signed_by(&issuer(authority)?)?)
}

/// A certificate with a new key: for the controller itself.
pub(super) fn own(
    authority: &Authority,
    identity: &Identity,
    now: Seconds,
    lifetimes: Lifetimes,
) -> Result<(Certificate, KeyPair), IssueError> {
    let key = KeyPair::generate()?;
    let certificate = params(authority, identity, now, lifetimes)?.signed_by(&key, &issuer(authority)?)?;
    Ok((certificate, key))
}

/// The key of a PKCS#10 that is signed with it. Whatever else the request says is ignored.
///
/// # Errors
/// It is no request, or not signed with its own key.
pub fn requested_key(der: &[u8]) -> Result<PublicKey, IssueError> {
    let bad = |why: &dyn ToString| IssueError::Request(why.to_string());
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
        .map_err(|error| bad(&error))?;
    let key = request.public_key;
    // One kind of key, the one that agents make: whatever else would be a way in that nobody tests.
    if key.algorithm() != &PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != POINT_BYTES {
        return Err(bad(&"its key is not one of ECDSA with P-256"));
    }
    Ok(key)
}

fn issuer(authority: &Authority) -> Result<Issuer<'_, KeyPair>, IssueError> {
    let key = KeyPair::from_pem(&authority.key)?;
    Ok(Issuer::from_ca_cert_pem(&authority.certificate, key)?)
}

fn params(
    authority: &Authority,
    identity: &Identity,
    now: Seconds,
    lifetimes: Lifetimes,
) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::new(vec![identity.dns_name()])?;
    params.subject_alt_names.push(SanType::URI(identity.uri().try_into()?));
    // Names are in the SAN alone; a node's may be longer than a common name can be.
    params.distinguished_name = DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    // A short life is not counted from long before it began: its owner renews by shares of it.
    let skew = SKEW.min(lifetimes.leaf.as_secs() / 12);
    params.not_before = time(now.saturating_sub(skew))?;
    params.not_after = time(now.saturating_add(lifetimes.leaf.as_secs()).min(authority.ends))?;
    Ok(params)
}

fn time(at: Seconds) -> Result<OffsetDateTime, IssueError> {
    i64::try_from(at)
        .ok()
        .and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok())
        .ok_or(IssueError::Time(at))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
    use x509_parser::extensions::GeneralName;

    use super::*;

    const LIFETIMES: Lifetimes =
        Lifetimes { authority: Duration::from_secs(7200), leaf: Duration::from_secs(1200) };
    const NOW: Seconds = 1_800_000_000;

    fn request(key: &KeyPair, edit: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        edit(&mut params);
        params.serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn a_node_gets_its_own_name_for_its_own_key_whatever_it_asks_for() {
        let key = KeyPair::generate().unwrap();
        let wish = request(&key, |params| {
            params.subject_alt_names = vec![
                SanType::URI(Identity::Controller.uri().try_into().unwrap()),
                SanType::DnsName("x".try_into().unwrap()),
            ];
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        });
        let ca = authority(NOW, LIFETIMES).unwrap();
        let node = Identity::node("worker-1", "u1");
        let certificate = leaf(&ca, &node, &requested_key(&wish).unwrap(), NOW, LIFETIMES).unwrap();
        let (_, read) = x509_parser::parse_x509_certificate(certificate.der()).unwrap();
        let names = &read.subject_alternative_name().unwrap().unwrap().value.general_names;
        let dns = node.dns_name();
        assert_eq!(*names, [GeneralName::DNSName(&dns), GeneralName::URI(&node.uri())]);
        assert!(!read.is_ca() && read.subject().iter().next().is_none());
        assert_eq!(read.public_key().subject_public_key.data, key.public_key_raw());
        let validity = read.validity();
        assert_eq!(validity.not_before.timestamp(), i64::try_from(NOW - 100).unwrap());
        assert_eq!(validity.not_after.timestamp(), i64::try_from(NOW + 1200).unwrap());
        // Never beyond its CA.
        let late = leaf(&ca, &node, &requested_key(&wish).unwrap(), ca.ends - 60, LIFETIMES).unwrap();
        let (_, read) = x509_parser::parse_x509_certificate(late.der()).unwrap();
        assert_eq!(read.validity().not_after.timestamp(), i64::try_from(ca.ends).unwrap());
    }

    #[test]
    fn a_request_that_proves_no_key_or_another_kind_of_key_is_refused() {
        let key = KeyPair::generate().unwrap();
        let good = request(&key, |_| {});
        requested_key(&good).unwrap();
        let mut forged = good.clone();
        *forged.last_mut().unwrap() ^= 1;
        let told = |der: &[u8]| requested_key(der).unwrap_err().to_string();
        assert!(told(&forged).contains("signature"), "{}", told(&forged));
        assert!(told(b"no request").contains("cannot be used"));
        assert!(told(&good[..good.len() / 2]).contains("cannot be used"));
        for kind in [&PKCS_ED25519, &PKCS_ECDSA_P384_SHA384] {
            let other = request(&KeyPair::generate_for(kind).unwrap(), |_| {});
            assert!(told(&other).contains("P-256"), "{}", told(&other));
        }
    }
}
