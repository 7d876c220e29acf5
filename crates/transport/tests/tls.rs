//! Whom the transport trusts, whom it shows a certificate, and where a server may send it.

mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ebiko_transport::{
    ClientIdentity, HostTls, Options, Request, Response, Retries, Transport, TransportError, Url,
    Verification,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use server::{Received, Server, answer};

const AUTHORITY: &[u8] = include_bytes!("data/ca.pem");

fn options() -> Options {
    Options {
        user_agent: "ebiko-test".into(),
        hosts: b"127.0.0.1 registry.example evil.example\n".to_vec(),
        retries: Retries { attempts: 1, ..Retries::default() },
        ..Options::default()
    }
}

fn transport(options: &Options) -> Transport {
    Transport::new(options).expect("the options are right")
}

fn url(text: &str) -> Url {
    Url::parse(text).expect("the test has a URL")
}

fn get(address: &str, verification: Verification) -> Request {
    Request { verification, ..Request::get(url(address)) }
}

#[track_caller]
fn error_of(result: Result<Response, TransportError>) -> TransportError {
    result.expect_err("the request fails")
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Lets everybody in and counts those who show a certificate.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn ClientCertVerifier>,
    is_mandatory: bool,
    shown: Arc<AtomicUsize>,
}

impl ClientCertVerifier for Counting {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.shown.fetch_add(1, Ordering::SeqCst);
        self.inner.verify_client_cert(certificate, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A server with TLS that asks for certificates; and how many it was shown.
fn tls_server(
    is_mandatory: bool,
    handler: impl Fn(&Received) -> server::Answer + Send + Sync + 'static,
) -> (Server, Arc<AtomicUsize>) {
    let pem = |bytes: &[u8]| CertificateDer::from_pem_slice(bytes).expect("it is a certificate");
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("data/server.key"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut clients = RootCertStore::empty();
    clients.add(pem(include_bytes!("data/client-ca.pem"))).expect("it is an authority");
    let inner =
        WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&provider))
            .build()
            .expect("there is an authority");
    let shown = Arc::new(AtomicUsize::new(0));
    let verifier = Counting { inner, is_mandatory, shown: Arc::clone(&shown) };
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS")
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(
            vec![pem(include_bytes!("data/server.pem"))],
            key.expect("the test data holds a key"),
        )
        .expect("certificate and key match");
    (Server::start_with(Some(Arc::new(config)), handler), shown)
}

fn simple() -> Server {
    tls_server(false, |_| answer(200).body("secret")).0
}

fn identity() -> ClientIdentity {
    ClientIdentity {
        certificates: include_bytes!("data/client.pem").to_vec(),
        key: include_bytes!("data/client.key").to_vec(),
    }
}

#[test]
fn tls_trusts_the_given_roots_and_only_them() {
    let server = simple();
    let address = format!("https://registry.example:{}/", server.port());
    let trusting = transport(&Options { roots: vec![AUTHORITY.to_vec()], ..options() });
    let response = trusting.send(&Request::get(url(&address))).expect("the issuer is trusted");
    assert_eq!(response.into_bytes(10).expect("the body is there"), b"secret");

    let error = error_of(transport(&options()).send(&Request::get(url(&address))));
    assert!(error.hint().is_some() && error.is_bad_certificate(), "{}", chain(&error));
    assert!(chain(&error).contains("cannot agree on a TLS connection"), "{}", chain(&error));

    let other_name = format!("https://evil.example:{}/", server.port());
    let error = error_of(trusting.send(&Request::get(url(&other_name))));
    assert!(chain(&error).contains("certificate not valid for name"), "{}", chain(&error));
    assert!(error.is_bad_certificate());
}

#[test]
fn an_authority_of_one_host_is_believed_about_no_other() {
    let (server, other) = (simple(), simple());
    let host = format!("localhost:{}", server.port());
    let special = HostTls { host, roots: vec![AUTHORITY.to_vec()], identity: None };
    let transport = transport(&Options { hosts_with_special_tls: vec![special], ..options() });
    let get =
        |host: &str, port| transport.send(&Request::get(url(&format!("https://{host}:{port}/"))));
    get("localhost", server.port()).expect("the authority is for this host");
    for (host, port) in [("localhost", other.port()), ("registry.example", server.port())] {
        assert!(error_of(get(host, port)).is_bad_certificate(), "{host}:{port}");
    }
}

#[test]
fn who_is_not_verified_is_one_host_and_not_where_it_sends_us() {
    let (far, _) = tls_server(false, |_| answer(200));
    let target = format!("https://localhost:{}/far", far.port());
    let (server, _) = tls_server(false, move |request| match request.target.as_str() {
        "/redirect" => answer(307).header("Location", target.clone()),
        _ => answer(200),
    });
    let transport = transport(&options());
    let address = |path: &str| format!("https://localhost:{}{path}", server.port());
    let send = |path: &str, verification| transport.send(&get(&address(path), verification));

    send("/", Verification::NotOfTheChosen).expect("the user said so");
    // The connection that was just made is not good enough for whoever wants to know who answers.
    assert!(error_of(send("/", Verification::Always)).is_bad_certificate());

    let error = error_of(send("/redirect", Verification::NotOfTheChosen));
    assert!(error.is_bad_certificate(), "{}", chain(&error));
    assert_eq!(error.url.host(), format!("localhost:{}", far.port()), "that host is named");
    assert_eq!(far.lines(), Vec::<String>::new());
    send("/redirect", Verification::Never).expect("the user said so");
    assert_eq!(far.lines(), ["GET /far"]);
}

#[test]
fn a_client_certificate_is_shown_to_its_host_and_not_where_that_sends_us() {
    let (far, seen_far) = tls_server(false, |_| answer(200));
    let target = format!("https://localhost:{}/far", far.port());
    let (server, seen) = tls_server(true, move |request| match request.target.as_str() {
        "/redirect" => answer(307).header("Location", target.clone()),
        _ => answer(200),
    });
    let host = format!("localhost:{}", server.port());
    let address = format!("https://{host}/redirect");
    let trusting = Options { roots: vec![AUTHORITY.to_vec()], ..options() };

    // With TLS 1.3 the refusal comes after the handshake, and a broken connection may be seen first.
    let refused = || error_of(transport(&trusting).send(&Request::get(url(&address))));
    let told = (0..10).map(|_| refused()).find(TransportError::wants_certificate);
    assert!(told.is_some(), "{}", chain(&refused()));

    let special = HostTls { host, roots: Vec::new(), identity: Some(identity()) };
    for is_verified in [true, false] {
        let verification = if is_verified { Verification::Always } else { Verification::Never };
        let options = Options { hosts_with_special_tls: vec![special.clone()], ..trusting.clone() };
        transport(&options).send(&get(&address, verification)).expect("it knows us");
    }
    assert_eq!((seen.load(Ordering::SeqCst), far.lines().len()), (2, 2));
    assert_eq!(seen_far.load(Ordering::SeqCst), 0, "it asked for a certificate, too");
}

#[test]
fn a_private_host_may_be_named_by_a_server_where_the_user_allows_it() {
    let store = Server::start(|_| answer(200).body("blob"));
    let target = format!("http://evil.example:{}/blob", store.port());
    let server = Server::start(move |_| answer(307).header("Location", target.clone()));
    let address = format!("http://registry.example:{}/", server.port());
    let request = Request::get(url(&address)).with_authorization("Basic c2VjcmV0").expect("it is");

    let error = error_of(transport(&options()).send(&request));
    assert_eq!(error.private_host(), Some("evil.example"));

    let port = store.port();
    for allowed in ["evil.example".to_owned(), format!("evil.example:{port}"), "127.0.0.0/8".into()]
    {
        let allowed_hosts = vec![allowed.parse().expect("it is a host")];
        let response = transport(&Options { allowed_hosts, ..options() }).send(&request);
        let response = response.expect("the user allowed it");
        assert_eq!(response.into_bytes(10).expect("the body is there"), b"blob");
    }
    for allowed in ["other.example", "evil.example:1", "10.0.0.0/8", "example"] {
        let allowed_hosts = vec![allowed.parse().expect("it is a host")];
        let response = transport(&Options { allowed_hosts, ..options() }).send(&request);
        assert_eq!(error_of(response).private_host(), Some("evil.example"), "{allowed}");
    }
    assert_eq!(store.received().len(), 3);
    assert!(store.received().iter().all(|request| request.header("authorization").is_empty()));
}
