//! The names in a client's certificate, which its authority has vouched for.

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Names of one certificate, at most: it comes from a stranger, if from one with an authority behind it.
const MOST: usize = 16;

/// The alternative names that are URIs, hosts or mail addresses; of a certificate without, its common names.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative.into_iter().flat_map(|extension| &extension.value.general_names);
    let named: Vec<String> = alternative
        .filter_map(|name| match name {
            GeneralName::URI(name) | GeneralName::DNSName(name) | GeneralName::RFC822Name(name) => {
                Some((*name).to_owned())
            }
            _ => None,
        })
        .take(MOST)
        .collect();
    if !named.is_empty() {
        return named;
    }
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    common.take(MOST).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn names(common: &str, alternative: Vec<SanType>) -> Vec<String> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, common);
        params.subject_alt_names = alternative;
        of(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    #[test]
    fn alternative_names_hide_the_common_one() {
        assert_eq!(names("batch", Vec::new()), ["batch"]);
        let uri = || SanType::URI("spiffe://test/ns/batch".try_into().unwrap());
        let dns = || SanType::DnsName("batch.test".try_into().unwrap());
        assert_eq!(names("admin", vec![uri(), dns()]), ["spiffe://test/ns/batch", "batch.test"]);
        assert_eq!(names("batch", vec![SanType::IpAddress([127, 0, 0, 1].into())]), ["batch"]);
        let many = (0..100).map(|_| dns()).collect();
        assert_eq!(names("x", many).len(), MOST);
        assert!(of(&CertificateDer::from(vec![1, 2, 3])).is_empty());
    }
}
