//! Whom we trust over TLS.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// A client configuration that trusts the certificates in `roots` (texts in PEM format), or
/// Mozilla's list where they hold none.
///
/// What is not a certificate is passed over: such texts come from whole directories, and real
/// bundles hold certificates that rustls does not read.
pub(crate) fn client_config(roots: &[Vec<u8>]) -> Result<ClientConfig, rustls::Error> {
    let mut store = RootCertStore::empty();
    for text in roots {
        let certificates = CertificateDer::pem_slice_iter(text).filter_map(Result::ok);
        store.add_parsable_certificates(certificates);
    }
    if store.is_empty() {
        store.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    }
    // The provider is named here, because a process-wide default would be process-wide state.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    // reqwest leaves the protocols of a ready-made configuration alone.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_without_certificates_fall_back_to_the_built_in_list() {
        for roots in [vec![], vec![b"not a certificate".to_vec()]] {
            client_config(&roots).expect("a configuration is made");
        }
    }
}
