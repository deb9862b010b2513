//! A certificate authority of the test's own.

use std::{path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Signs certificates that nobody else trusts.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Writes its certificate in PEM.
    pub fn write(&self, file: &Path) {
        std::fs::write(file, self.0.pem()).expect("a file can be written");
    }

    /// Writes a certificate for a name, and its key, in PEM.
    pub fn write_pair(&self, name: &str, certificate: &Path, key: &Path) {
        let pair = KeyPair::generate().expect("a key");
        let signed = called(name)
            .signed_by(&pair, &self.0)
            .expect("a certificate");
        std::fs::write(certificate, signed.pem()).expect("a file can be written");
        std::fs::write(key, pair.serialize_pem()).expect("a file can be written");
    }

    /// TLS with a certificate for a name.
    pub fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let certificate = called(name)
            .signed_by(&key, &self.0)
            .expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("usual versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("they belong together");
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A certificate for a name, to be signed. With the authority's own subject it would have signed itself, for
/// OpenSSL.
fn called(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
