//! Whom we trust over TLS, and whom we show a certificate of our own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use reqwest::Url;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// What is special about TLS with one host.
#[derive(Clone, Default)]
pub struct HostTls {
    /// `host[:port]`; without a port the standard one of `https` is meant.
    pub host: String,
    /// Certificates that are trusted besides the others, as texts in PEM format.
    pub roots: Vec<Vec<u8>>,
    /// The certificate that is shown to the host when it asks for one. No other host sees it.
    pub identity: Option<ClientIdentity>,
}

impl fmt::Debug for HostTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostTls")
            .field("host", &self.host)
            .field("roots", &self.roots.len())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

/// A certificate of our own and its key, as texts in PEM format.
#[derive(Clone)]
pub struct ClientIdentity {
    /// The certificate, and those that lead to its issuer.
    pub certificates: Vec<u8>,
    /// The private key.
    pub key: Vec<u8>,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity(…)")
    }
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("there is no certificate in what is to be trusted for `{host}`")]
    NoCertificate { host: String },
    #[error("the client certificate for `{host}` cannot be used: {reason}")]
    Identity { host: String, reason: String },
    #[error("TLS cannot be set up: {0}")]
    Other(#[from] rustls::Error),
}

/// Everything that configurations are made from.
pub(crate) struct Tls {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    hosts: BTreeMap<String, Special>,
    proxy_hosts: Vec<String>,
}

struct Special {
    roots: Arc<RootCertStore>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Tls {
    /// Reads what is trusted: the certificates in `roots` (texts in PEM format), or Mozilla's list where they hold none.
    ///
    /// What is not a certificate is passed over there: such texts come from whole directories, and real
    /// bundles hold certificates that rustls does not read.
    pub(crate) fn new(
        roots: &[Vec<u8>],
        hosts: &[HostTls],
        proxy_hosts: Vec<String>,
    ) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        add(&mut store, roots);
        if store.is_empty() {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let mut tls = Self {
            // The provider is named here, because a process-wide default would be process-wide state.
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            roots: Arc::new(store),
            hosts: BTreeMap::new(),
            proxy_hosts,
        };
        for host in hosts {
            tls.add_host(host)?;
        }
        // A certificate and a key that do not fit are found out now.
        for host in tls.hosts.keys() {
            tls.config(Some(host), true, false).map_err(|error| TlsError::Identity {
                host: host.clone(),
                reason: error.to_string(),
            })?;
        }
        Ok(tls)
    }

    fn add_host(&mut self, given: &HostTls) -> Result<(), TlsError> {
        let host = given.host.to_ascii_lowercase();
        let special = self
            .hosts
            .entry(host.clone())
            .or_insert_with(|| Special { roots: Arc::clone(&self.roots), identity: None });
        for text in &given.roots {
            let store = Arc::make_mut(&mut special.roots);
            let before = store.len();
            add(store, std::slice::from_ref(text));
            if store.len() == before {
                return Err(TlsError::NoCertificate { host });
            }
        }
        if let Some(identity) = &given.identity {
            let fail =
                |reason: &str| TlsError::Identity { host: host.clone(), reason: reason.into() };
            let certificates: Vec<_> = CertificateDer::pem_slice_iter(&identity.certificates)
                .collect::<Result<_, _>>()
                .map_err(|_| fail("the file of the certificate is not in PEM format"))?;
            if certificates.is_empty() {
                return Err(fail("there is no certificate in its file"));
            }
            // The error could quote the file.
            let key = PrivateKeyDer::from_pem_slice(&identity.key)
                .map_err(|_| fail("there is no private key without a passphrase in its file"))?;
            special.identity = Some((certificates, key));
        }
        Ok(())
    }

    /// The key of what is special about the host of `url`, if something is.
    pub(crate) fn special(&self, url: &Url) -> Option<&str> {
        if url.scheme() != "https" {
            return None;
        }
        let host = url.host_str()?.trim_end_matches('.');
        let with_port = format!("{host}:{}", url.port_or_known_default()?);
        let is_standard = url.port().is_none();
        let found = self.hosts.get_key_value(&with_port);
        let found = found.or_else(|| self.hosts.get_key_value(host).filter(|_| is_standard));
        found.map(|(key, _)| key.as_str())
    }

    /// Whether a certificate of our own would be shown.
    pub(crate) fn has_identity(&self, host: &str) -> bool {
        self.hosts.get(host).is_some_and(|special| special.identity.is_some())
    }

    /// The configuration for a special host, or for all others.
    pub(crate) fn config(
        &self,
        host: Option<&str>,
        is_verified: bool,
        is_http1_only: bool,
    ) -> Result<ClientConfig, rustls::Error> {
        let special = host.and_then(|host| self.hosts.get(host));
        let roots = special.map_or(&self.roots, |special| &special.roots);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?;
        let builder = if is_verified {
            builder.with_root_certificates(Arc::clone(roots))
        } else {
            let provider = Arc::clone(&self.provider);
            let strict =
                WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.roots), provider)
                    .build()
                    .map_err(|error| rustls::Error::General(error.to_string()))?;
            let proxy_hosts = self.proxy_hosts.clone();
            let verifier = Unverified { strict, proxy_hosts };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        };
        let mut config = match special.and_then(|special| special.identity.as_ref()) {
            Some((certificates, key)) => {
                builder.with_client_auth_cert(certificates.clone(), key.clone_key())?
            }
            None => builder.with_no_client_auth(),
        };
        // reqwest leaves the protocols of a ready-made configuration alone.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if is_http1_only {
            config.alpn_protocols.remove(0);
        }
        Ok(config)
    }
}

fn add(store: &mut RootCertStore, texts: &[Vec<u8>]) {
    for text in texts {
        let certificates = CertificateDer::pem_slice_iter(text).filter_map(Result::ok);
        store.add_parsable_certificates(certificates);
    }
}

/// Accepts whatever a server shows, because the user said so; but not a proxy, which is not what the user meant.
#[derive(Debug)]
struct Unverified {
    strict: Arc<WebPkiServerVerifier>,
    proxy_hosts: Vec<String>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.proxy_hosts.iter().any(|host| *host == name.to_str()) {
            return self.strict.verify_server_cert(certificate, intermediates, name, ocsp, now);
        }
        Ok(ServerCertVerified::assertion())
    }

    // The signatures bind the connection to the certificate. Where any certificate will do, nothing is gained by them, and
    // much lost: certificates that people make themselves are often of a version that cannot be read here.

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(roots: &[Vec<u8>], hosts: &[HostTls]) -> Result<Tls, String> {
        Tls::new(roots, hosts, Vec::new()).map_err(|error| error.to_string())
    }

    #[test]
    fn texts_without_certificates_fall_back_to_the_built_in_list() {
        for roots in [vec![], vec![b"not a certificate".to_vec()]] {
            let tls = tls(&roots, &[]).expect("it is set up");
            tls.config(None, true, false).expect("a configuration is made");
            tls.config(None, false, true).expect("a configuration is made");
        }
    }

    #[test]
    fn a_special_host_is_found_by_host_and_port() {
        let host = |host: &str| HostTls { host: host.into(), ..HostTls::default() };
        let tls = tls(&[], &[host("R.example"), host("s.example:8443"), host("t.example:443")]);
        let tls = tls.expect("it is set up");
        for (url, expected) in [
            ("https://r.example/x", Some("r.example")),
            ("https://r.example./x", Some("r.example")),
            ("https://r.example:443/x", Some("r.example")),
            ("https://r.example:8443/x", None),
            ("http://r.example/x", None),
            ("https://s.example:8443/", Some("s.example:8443")),
            ("https://s.example/", None),
            ("https://t.example/", Some("t.example:443")),
            ("https://x.r.example/", None),
        ] {
            let url = Url::parse(url).expect("the table holds URLs");
            assert_eq!(tls.special(&url), expected, "{url}");
        }
    }

    #[test]
    fn files_that_are_not_what_they_should_be_are_named_and_not_quoted() {
        let host = || HostTls { host: "r.example".into(), ..HostTls::default() };
        let secret = b"s3cret".to_vec();
        let error = tls(&[], &[HostTls { roots: vec![secret.clone()], ..host() }]).err();
        assert_eq!(
            error.as_deref(),
            Some("there is no certificate in what is to be trusted for `r.example`")
        );
        let certificates = include_bytes!("../tests/data/server.pem").to_vec();
        let key = include_bytes!("../tests/data/server.key").to_vec();
        for (certificates, key, reason) in [
            (secret.clone(), key, "there is no certificate in its file"),
            (certificates, secret, "there is no private key without a passphrase in its file"),
        ] {
            let identity = Some(ClientIdentity { certificates, key });
            let error = tls(&[], &[HostTls { identity, ..host() }]).err().expect("it is refused");
            assert!(error.contains(reason) && !error.contains("s3cret"), "{error}");
        }
    }
}
