//! Certificates for one test: an authority, a server that it proves, and clients; in files that go with it.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedKey, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::unix::Directory;

/// An authority, and what it has issued.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    own: Certificate,
    directory: Directory,
}

impl Authority {
    /// A new one, whom nobody else knows.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&key).expect("an authority");
        let directory = Directory::new();
        std::fs::write(directory.file("ca.pem"), own.pem()).expect("it can be written");
        let authority = Self { issuer: Issuer::new(params, key), own, directory };
        authority.renew();
        authority
    }

    /// Writes a new certificate for the server, in place of the last.
    pub(crate) fn renew(&self) {
        self.write(&Self::of_here());
    }

    /// As [`renew`](Self::renew), with one that is good until the beginning of a day.
    #[cfg(feature = "metrics")]
    pub(crate) fn renew_until(&self, year: i32, month: u8, day: u8) {
        let mut params = Self::of_here();
        params.not_after = rcgen::date_time_ymd(year, month, day);
        self.write(&params);
    }

    fn of_here() -> CertificateParams {
        CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names")
    }

    fn write(&self, params: &CertificateParams) {
        let CertifiedKey { cert, signing_key } = self.issue(params);
        std::fs::write(self.path("server.pem"), cert.pem()).expect("it can be written");
        std::fs::write(self.path("server.key"), signing_key.serialize_pem()).expect("it can be written");
    }

    fn issue(&self, params: &CertificateParams) -> CertifiedKey<KeyPair> {
        let signing_key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&signing_key, &self.issuer).expect("it can sign");
        CertifiedKey { cert, signing_key }
    }

    /// A client of this common name and address of mail.
    pub(crate) fn client(&self, common: Option<&str>, mail: Option<&str>) -> CertifiedKey<KeyPair> {
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        if let Some(mail) = mail {
            params.subject_alt_names.push(SanType::Rfc822Name(mail.try_into().expect("plain")));
        }
        self.issue(&params)
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.file(file)
    }

    pub(crate) fn text(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    /// The options of a server by this authority.
    pub(crate) fn options(&self) -> [String; 6] {
        let [certificate, key] = ["server.pem", "server.key"].map(|file| self.text(file));
        ["--tls-listen".into(), "127.0.0.1:0".into(), "--tls-cert".into(), certificate, "--tls-key".into(), key]
    }

    /// A client that knows this authority, and perhaps has a certificate.
    pub(crate) fn config(&self, identity: Option<&CertifiedKey<KeyPair>>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.own.der().clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().expect("it has them").with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(CertifiedKey { cert, signing_key }) => {
                let chain: Vec<CertificateDer<'static>> = vec![cert.der().clone()];
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
                builder.with_client_auth_cert(chain, key).expect("a sound one")
            }
        })
    }
}
