//! Which host sees which header, wherever a registry sends us.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../transport/tests/server/mod.rs"]
mod server;
mod support;

use std::sync::Arc;

use ebiko_oci::{Digest, Image, ImageFormat, ImageSource as _};
use ebiko_registry::{Credentials, Registry, Routes};
use ebiko_transport::{Options, Transport};
use server::{Answer, Received, Server, answer};
use support::{Events, chain, client, image, options, platform, reference, resolve_error};

const BASIC: &str = "Basic am9lOnB3";

fn amd64() -> Image {
    image(ImageFormat::Oci, "linux/amd64")
}

fn login(host: &str) -> String {
    format!(r#"{{"auths":{{"{host}":{{"username":"joe","password":"pw"}}}}}}"#)
}

/// A registry with a login that serves and takes everything, unless `script` answers.
fn registry(script: impl Fn(&Received) -> Option<Answer> + Send + Sync + 'static) -> Server {
    let image = amd64();
    let blobs = support::contents(&image).unwrap();
    Server::start(move |request| {
        if request.target != "/v2/" && request.header("authorization") != BASIC {
            return answer(401).header("WWW-Authenticate", "Basic realm=\"x\"");
        }
        if let Some(answer) = script(request) {
            return answer;
        }
        let name = request.target.split('?').next().unwrap().rsplit('/').next().unwrap();
        let mut bytes = blobs.iter().map(Vec::as_slice).chain([image.config_bytes()]);
        match request.method.as_str() {
            "GET" if request.target.contains("/manifests/") => answer(200)
                .header("Content-Type", image.manifest().media_type.to_string())
                .body(image.manifest().bytes.clone()),
            "GET" => match bytes.find(|bytes| Digest::of(bytes).to_string() == name) {
                Some(bytes) => answer(200).body(bytes),
                None => answer(200),
            },
            "HEAD" => answer(404),
            "POST" | "PATCH" => answer(202).header("Location", "/v2/app/blobs/uploads/u"),
            _ => answer(201),
        }
    })
}

/// Pulls everything and pushes it; what comes of it does not matter.
fn use_it(client: &Registry, host: &str) {
    let name = reference(&format!("{host}/app:1"));
    if let Ok(pulled) = client.resolve(&name, &platform("linux/amd64")) {
        drop(support::contents(&pulled.image));
    }
    drop(client.push(&amd64(), &[name], &Events::default()));
}

#[test]
fn no_redirect_carries_credentials_to_another_origin() {
    for (method, part) in [
        ("GET", "/manifests/"),
        ("GET", "/blobs/"),
        ("HEAD", "/blobs/"),
        ("POST", "/blobs/uploads/"),
        ("PATCH", "/blobs/uploads/"),
        ("PUT", "/blobs/uploads/"),
        ("PUT", "/manifests/"),
    ] {
        for status in [301, 302, 303, 307, 308] {
            let thief = Server::start(|_| answer(202).header("Location", "/u"));
            let target = format!("http://127.0.0.1:{}/stolen", thief.port());
            let server = registry(move |request| {
                let is_meant = request.method == method && request.target.contains(part);
                is_meant.then(|| {
                    answer(status)
                        .header("Location", target.clone())
                        .header("Set-Cookie", "session=s3cret; Path=/")
                })
            });
            use_it(&client(&login(&server.host()), Routes::default()), &server.host());
            let asked = server.received();
            assert!(asked.iter().any(|request| request.header("authorization") == BASIC));
            let stolen = thief.received();
            let follows = matches!(method, "GET" | "HEAD") || matches!(status, 307 | 308);
            assert_eq!(!stolen.is_empty(), follows, "{method} {part} {status}");
            for request in stolen {
                for header in ["authorization", "cookie", "proxy-authorization"] {
                    assert_eq!(request.header(header), "", "{method} {part} {status}");
                }
            }
        }
    }
}

#[test]
fn a_token_service_that_redirects_passes_on_neither_password_nor_body() {
    for status in [301, 302, 303, 307, 308] {
        let thief = Server::start(|_| answer(200).body(r#"{"token":"t"}"#));
        let target = format!("http://127.0.0.1:{}/token", thief.port());
        let realm = Server::start(move |_| answer(status).header("Location", target.clone()));
        let challenge = format!(r#"Bearer realm="http://127.0.0.1:{}/token""#, realm.port());
        let server = Server::start(move |request| match request.target.as_str() {
            "/v2/" => answer(200),
            _ => answer(401).header("WWW-Authenticate", challenge.clone()),
        });
        let name = format!("{}/app:1", server.host());
        resolve_error(&client(&login(&server.host()), Routes::default()), &name);
        assert_eq!(realm.received()[0].header("authorization"), BASIC, "it is asked for a token");
        assert!(!thief.received().is_empty());
        for request in thief.received() {
            assert_eq!(request.header("authorization"), "", "{status}");
            assert!(request.body.is_empty(), "{status}");
        }
    }
}

#[test]
fn a_location_is_relative_to_whoever_answered() {
    let server = registry(|request| match (request.method.as_str(), request.target.as_str()) {
        ("POST", "/v2/app/blobs/uploads/") => {
            Some(answer(307).header("Location", "/other/place/uploads/"))
        }
        ("POST", "/other/place/uploads/") => Some(answer(202).header("Location", "u?_state=x")),
        _ => None,
    });
    use_it(&client(&login(&server.host()), Routes::default()), &server.host());
    let lines = server.lines();
    assert!(lines.contains(&"PATCH /other/place/uploads/u".to_owned()), "{lines:?}");
}

fn with_tls(handler: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Server {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let pem = include_bytes!("../../transport/tests/data/server.pem");
    let key = include_bytes!("../../transport/tests/data/server.key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(pem).unwrap()],
            PrivateKeyDer::from_pem_slice(key).unwrap(),
        )
        .unwrap();
    Server::start_with(Some(Arc::new(config)), handler)
}

/// A client with every flag there is.
fn careless(config: &str) -> Registry {
    let roots = vec![include_bytes!("../../transport/tests/data/ca.pem").to_vec()];
    let transport = Transport::new(&Options { roots, ..options() }).unwrap();
    let routes =
        Routes { insecure_push: true, insecure_pull: true, unverified: true, ..Routes::default() };
    Registry::new(transport, Credentials::from_docker_config(config.as_bytes()).unwrap(), routes)
}

#[test]
fn a_token_service_is_never_shown_a_password_in_the_clear() {
    let plain = Server::start(|_| answer(200).body(r#"{"token":"t"}"#));
    let challenge = format!(r#"Bearer realm="http://localhost:{}/token""#, plain.port());
    let tls = with_tls(move |request| match request.target.as_str() {
        "/v2/" => answer(200),
        _ => answer(401).header("WWW-Authenticate", challenge.clone()),
    });
    let host = format!("localhost:{}", tls.port());
    let error = resolve_error(&careless(&login(&host)), &format!("{host}/app:1"));
    assert!(error.contains("would give up the encryption"), "{error}");
    assert_eq!(plain.lines(), Vec::<String>::new());
}

#[test]
fn an_upload_is_never_moved_out_of_encryption() {
    let plain = Server::start(|_| answer(201));
    let port = plain.port();
    let tls = with_tls(move |request| match request.method.as_str() {
        "HEAD" => answer(404),
        "POST" => answer(202).header("Location", format!("http://localhost:{port}/u")),
        _ => answer(307).header("Location", format!("http://localhost:{port}/m")),
    });
    let client = careless("{}");
    let name = format!("localhost:{}/app:1", tls.port());
    let error = client.push(&amd64(), &[reference(&name)], &Events::default()).unwrap_err();
    assert!(chain(&error).contains("would give up the encryption"), "{}", chain(&error));
    let error = resolve_error(&client, &name);
    assert!(error.contains("would give up the encryption"), "{error}");
    assert_eq!(plain.lines(), Vec::<String>::new());
}

#[test]
fn a_foreign_layer_is_neither_fetched_from_its_urls_nor_pushed() {
    let thief = Server::start(|_| answer(200));
    let config = amd64().config_bytes().to_vec();
    let layers = amd64()
        .layers()
        .iter()
        .map(|layer| {
            format!(
                r#"{{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"{}","size":{},"urls":["http://{}/layer"]}}"#,
                layer.descriptor.digest,
                layer.descriptor.size,
                thief.host()
            )
        })
        .collect::<Vec<_>>()
        .join(",");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"{}","size":{}}},"layers":[{layers}]}}"#,
        Digest::of(&config),
        config.len()
    );
    let server = registry(move |request| {
        (request.method == "GET" && request.target.contains("/manifests/")).then(|| {
            answer(200)
                .header("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
                .body(manifest.clone())
        })
    });
    let client = client(&login(&server.host()), Routes::default());
    let name = format!("{}/app:1", server.host());
    let pulled = support::resolved(&client, &name, "linux/amd64");
    let error = support::contents(&pulled.image).unwrap_err();
    assert!(error.contains("foreign layers"), "{error}");
    client.push(&pulled.image, &[reference(&name)], &Events::default()).unwrap();
    let digest = pulled.image.layers()[0].descriptor.digest.to_string();
    let is_about_it = |request: &Received| request.target.contains(&digest);
    assert!(!server.received().iter().any(is_about_it));
    assert_eq!(thief.lines(), Vec::<String>::new());
}

#[test]
fn errors_of_any_size_are_short_and_headers_have_a_limit() {
    let server = registry(|request| {
        request.target.contains("/manifests/").then(|| answer(404).body(vec![b'x'; 20 << 20]))
    });
    let name = format!("{}/app:1", server.host());
    let error = resolve_error(&client(&login(&server.host()), Routes::default()), &name);
    assert!(error.contains("there is no such image") && error.len() < 1000, "{}", error.len());

    let server = registry(|request| {
        let huge = "x".repeat(8 << 20);
        request.target.contains("/manifests/").then(|| answer(200).header("X-Huge", huge))
    });
    let name = format!("{}/app:1", server.host());
    let error = resolve_error(&client(&login(&server.host()), Routes::default()), &name);
    assert!(error.contains("cannot be reached") && error.len() < 1000, "{error}");
}
