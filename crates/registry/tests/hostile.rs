//! Against a scripted registry that lies, breaks off and sends us elsewhere.

#[path = "../../transport/tests/server/mod.rs"]
mod server;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ebiko_oci::{Digest, Image, ImageBuilder, ImageFormat};
use ebiko_registry::{Credentials, Registry, Routes};
use ebiko_transport::Transport;
use server::{Answer, End, Received, Server, answer};
use support::{
    Events, chain, client, contents, image, layer, options, platform, reference, resolve_error,
    resolved, timestamp,
};

/// What an honest registry answers for `image` under `/v2/app/`.
fn honest(image: &Image, request: &Received) -> Answer {
    let path = request.target.split('?').next().unwrap_or_default();
    let blobs: Vec<Vec<u8>> = contents(image).expect("the layers are in memory");
    let blob = blobs.iter().map(Vec::as_slice).chain([image.config_bytes()]);
    let name = path.rsplit('/').next().unwrap_or_default();
    match path {
        "/v2/" => answer(200),
        _ if path.starts_with("/v2/app/manifests/") => {
            if name.contains(':') && name != image.digest().to_string() {
                return answer(404);
            }
            answer(200)
                .header("Content-Type", image.manifest().media_type.to_string())
                .body(image.manifest().bytes.clone())
        }
        _ => match blob.into_iter().find(|bytes| Digest::of(bytes).to_string() == name) {
            Some(bytes) => answer(200).body(bytes),
            None => answer(404).body(r#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#),
        },
    }
}

fn amd64() -> Image {
    image(ImageFormat::Oci, "linux/amd64")
}

/// A registry that is honest except where `lie` has an answer, and a client for it.
fn pulling(
    lie: impl Fn(&Image, &Received) -> Option<Answer> + Send + Sync + 'static,
) -> (Server, Registry) {
    let image = amd64();
    let server = Server::start(move |request| {
        lie(&image, request).unwrap_or_else(|| honest(&image, request))
    });
    (server, client("{}", Routes::default()))
}

#[track_caller]
fn check_refused(
    lie: impl Fn(&Image, &Received) -> Option<Answer> + Send + Sync + 'static,
    reason: &str,
) {
    let (server, registry) = pulling(lie);
    let by_digest = format!("{}/app@{}", server.host(), amd64().digest());
    let error = resolve_error(&registry, &by_digest);
    assert!(error.contains(reason), "{error}");
}

fn is_config(image: &Image, request: &Received) -> bool {
    request.target.ends_with(&image.config_digest().to_string())
}

fn is_large_layer(image: &Image, request: &Received) -> bool {
    request.target.ends_with(&image.layers()[0].descriptor.digest.to_string())
}

#[test]
fn an_honest_registry_is_believed() {
    let (server, registry) = pulling(|_, _| None);
    let pulled = resolved(&registry, &format!("{}/app:1", server.host()), "linux/amd64");
    assert_eq!(contents(&pulled.image), contents(&amd64()));
}

#[test]
fn a_manifest_or_config_that_is_not_what_was_asked_for_is_refused() {
    check_refused(
        |image, request| {
            let other = [&image.manifest().bytes[..], b"\n"].concat();
            request.target.contains("/manifests/").then(|| answer(200).body(other))
        },
        "sent a manifest sha256:",
    );
    check_refused(
        |image, request| {
            let lie = format!("sha256:{}", "0".repeat(64));
            request
                .target
                .contains("/manifests/")
                .then(|| honest(image, request).header("Docker-Content-Digest", lie))
        },
        "where sha256:0000000000",
    );
    check_refused(
        |image, request| {
            let mut bytes = image.config_bytes().to_vec();
            bytes[1] ^= 1;
            is_config(image, request).then(|| answer(200).body(bytes))
        },
        "sent a config sha256:",
    );
    check_refused(
        |image, request| is_config(image, request).then(|| answer(200).body("{}")),
        "sent a config of 2 bytes where its descriptor says",
    );
    check_refused(
        |_, request| {
            let html = answer(200).header("Content-Type", "text/html").body("<html>");
            request.target.contains("/manifests/").then_some(html)
        },
        "sent a manifest sha256:",
    );
}

#[test]
fn documents_are_limited_by_what_is_read() {
    check_refused(
        |_, request| {
            request.target.contains("/manifests/").then(|| answer(200).body(vec![b' '; 5_000_000]))
        },
        "the answer is longer than 4194304 bytes",
    );
}

#[test]
fn indexes_that_lead_nowhere_end() {
    // Under a tag, an index that lists an index, and so on, each a little larger.
    let server = Server::start(|request| {
        let index = |depth: usize| {
            let mut json = r#"{"schemaVersion":2,"manifests":[]}"#.to_owned();
            for _ in 0..depth {
                let (digest, size) = (Digest::of(json.as_bytes()), json.len());
                json = format!(
                    r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{digest}","size":{size}}}]}}"#
                );
            }
            json
        };
        let all: Vec<String> = (0..=9).map(index).collect();
        let wanted = request.target.rsplit('/').next().unwrap_or_default();
        let found = all.iter().find(|json| Digest::of(json.as_bytes()).to_string() == wanted);
        match found {
            Some(json) => answer(200).body(json.clone()),
            None if request.target == "/v2/" => answer(200),
            None => answer(200).body(all[9].clone()),
        }
    });
    let error =
        resolve_error(&client("{}", Routes::default()), &format!("{}/app:1", server.host()));
    assert!(error.ends_with("indexes are nested more than 3 deep"), "{error}");
}

#[track_caller]
fn check_layer(lie: fn(Vec<u8>) -> Answer, reason: &str) {
    let (server, registry) = pulling(move |image, request| {
        let bytes = contents(image).expect("the layers are in memory").swap_remove(0);
        is_large_layer(image, request).then(|| lie(bytes))
    });
    let pulled = resolved(&registry, &format!("{}/app:1", server.host()), "linux/amd64");
    let error = contents(&pulled.image).expect_err("the layer is wrong");
    assert!(error.contains(reason), "{error}");
}

#[test]
fn a_layer_of_another_size_than_its_descriptor_says_is_refused() {
    check_layer(
        |mut bytes| {
            bytes.push(0);
            answer(200).body(bytes)
        },
        "is longer than its 3145745 bytes",
    );
    check_layer(
        |mut bytes| {
            bytes.pop();
            answer(200).body(bytes)
        },
        "ends after 3145744 of its 3145745 bytes",
    );
    check_layer(|_| answer(404), "answers 404 Not Found to the request for a layer");
}

#[test]
fn a_layer_is_resumed_where_the_connection_broke() {
    for ranges in [true, false] {
        let count = AtomicUsize::new(0);
        let (server, registry) = pulling(move |image, request| {
            if !is_large_layer(image, request) {
                return None;
            }
            let bytes = contents(image).expect("the layers are in memory").swap_remove(0);
            let start = request.header("range").trim_start_matches("bytes=").trim_end_matches('-');
            let start: usize = start.parse().unwrap_or(0);
            let whole = answer(200).body(bytes.clone());
            let rest = if ranges && start > 0 {
                let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
                answer(206).header("Content-Range", range).body(&bytes[start..])
            } else {
                whole
            };
            let last = count.fetch_add(1, Ordering::Relaxed) == 2;
            Some(if last { rest } else { rest.end(End::Cut(1_000_000)) })
        });
        let pulled = resolved(&registry, &format!("{}/app:1", server.host()), "linux/amd64");
        assert_eq!(contents(&pulled.image), contents(&amd64()), "the third try is whole");
        let asked: Vec<String> = server
            .received()
            .iter()
            .filter(|request| is_large_layer(&amd64(), request))
            .map(|request| request.header("range").to_owned())
            .collect();
        assert_eq!(asked.len(), 3, "{asked:?}");
        assert_eq!(asked[0], "");
        assert!(asked[1].starts_with("bytes=") && asked[1].ends_with('-'), "{asked:?}");
    }
}

#[test]
fn a_layer_whose_connection_always_breaks_is_given_up() {
    let (server, registry) = pulling(|image, request| {
        let layer = is_large_layer(image, request);
        layer.then(|| honest(image, request).end(End::Cut(500)))
    });
    let pulled = resolved(&registry, &format!("{}/app:1", server.host()), "linux/amd64");
    let error = contents(&pulled.image).expect_err("it never arrives");
    assert!(error.contains("the connection broke"), "{error}");
    let asked = server.received().iter().filter(|r| is_large_layer(&amd64(), r)).count();
    assert_eq!(asked, 3);
}

#[test]
fn a_presigned_redirect_sees_no_authorization() {
    let image = amd64();
    let storage_image = amd64();
    let storage = Server::start(move |request: &Received| {
        if request.headers.contains_key("authorization") {
            return answer(400).body("Only one auth mechanism allowed");
        }
        honest(&storage_image, request)
    });
    let target = format!("http://127.0.0.1:{}", storage.port());
    let server = Server::start(move |request: &Received| {
        if request.header("authorization") != "Basic am9lOnB3" {
            return answer(401).header("WWW-Authenticate", "Basic realm=\"x\"");
        }
        if request.target.contains("/blobs/") {
            return answer(307).header("Location", format!("{target}{}?X-Sig=1", request.target));
        }
        honest(&image, request)
    });
    let config =
        format!(r#"{{"auths":{{"{}":{{"username":"joe","password":"pw"}}}}}}"#, server.host());
    let registry = client(&config, Routes::default());
    let pulled = resolved(&registry, &format!("{}/app:1", server.host()), "linux/amd64");
    assert_eq!(contents(&pulled.image), contents(&amd64()));
    assert!(storage.received().iter().all(|request| request.target.ends_with("?X-Sig=1")));
    assert_eq!(storage.received().len(), 3);
}

/// A registry that wants a token from `realm`, and the token it accepts.
fn with_realm(realm: String) -> Server {
    let image = amd64();
    Server::start(move |request: &Received| {
        if request.target == "/v2/" || request.header("authorization") == "Bearer good" {
            return honest(&image, request);
        }
        let challenge =
            format!(r#"Bearer realm="{realm}",service="s",scope="repository:app:pull""#);
        answer(401)
            .header("WWW-Authenticate", challenge)
            .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
    })
}

#[test]
fn a_realm_at_a_private_address_never_sees_the_password() {
    let inner = Server::start(|_| answer(200).body(r#"{"token":"good"}"#));
    for (realm, reason) in [
        (
            format!("http://evil.example:{}/token", inner.port()),
            "the server names `evil.example`, whose address 127.0.0.1 is not public",
        ),
        (
            "http://169.254.169.254/latest/".to_owned(),
            "the server names `169.254.169.254`, which is not a public address",
        ),
        ("file:///etc/passwd".to_owned(), "`file` is not a protocol that is spoken here"),
        (
            format!("http://x:y@registry.example:{}/", inner.port()),
            "the server names an address on `registry.example` with a user name in it",
        ),
    ] {
        let server = with_realm(realm);
        let host = format!("registry.example:{}", server.port());
        let config = format!(r#"{{"auths":{{"{host}":{{"username":"joe","password":"pw"}}}}}}"#);
        let routes = Routes { insecure_registries: vec![host.clone()], ..Routes::default() };
        let error = resolve_error(&client(&config, routes), &format!("{host}/app:1"));
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(inner.lines(), Vec::<String>::new());
}

#[test]
fn a_realm_on_another_port_of_the_registry_is_fine() {
    let realm = Server::start(|request| {
        assert_eq!(request.header("authorization"), "Basic am9lOnB3");
        answer(200).body(r#"{"access_token":"good","expires_in":60}"#)
    });
    let server = with_realm(format!("http://127.0.0.1:{}/token?x=y", realm.port()));
    let host = server.host();
    let config = format!(r#"{{"auths":{{"{host}":{{"username":"joe","password":"pw"}}}}}}"#);
    let registry = client(&config, Routes::default());
    let pulled = resolved(&registry, &format!("{host}/app:1"), "linux/amd64");
    assert_eq!(contents(&pulled.image), contents(&amd64()));
    let targets: Vec<String> = realm.received().iter().map(|r| r.target.clone()).collect();
    let query = "/token?x=y&service=s&scope=repository%3Aapp%3Apull&account=joe";
    assert_eq!(targets, [query], "one token serves the whole pull");
}

#[test]
fn a_refresh_token_is_posted_and_not_carried_along_a_redirect() {
    let bodies = |server: &Server| -> Vec<String> {
        let received = server.received();
        received.iter().map(|r| String::from_utf8_lossy(&r.body).into_owned()).collect()
    };
    let realm = Server::start(|_| answer(200).body(r#"{"access_token":"good"}"#));
    let server = with_realm(format!("http://127.0.0.1:{}/token", realm.port()));
    let host = server.host();
    let config = format!(r#"{{"auths":{{"{host}":{{"identitytoken":"re fresh"}}}}}}"#);
    resolved(&client(&config, Routes::default()), &format!("{host}/app:1"), "linux/amd64");
    let form = "grant_type=refresh_token&client_id=ebiko&service=s&\
                scope=repository%3Aapp%3Apull&refresh_token=re+fresh";
    assert_eq!(bodies(&realm), [form]);

    let thief = Server::start(|_| answer(200).body(r#"{"access_token":"good"}"#));
    let target = format!("http://127.0.0.1:{}/", thief.port());
    let realm = Server::start(move |_| answer(307).header("Location", target.clone()));
    let server = with_realm(format!("http://127.0.0.1:{}/token", realm.port()));
    let host = server.host();
    let config = format!(r#"{{"auths":{{"{host}":{{"identitytoken":"re fresh"}}}}}}"#);
    let error = resolve_error(&client(&config, Routes::default()), &format!("{host}/app:1"));
    assert!(error.contains("the token service of"), "{error}");
    assert_eq!(thief.lines(), Vec::<String>::new());
}

#[test]
fn a_registry_token_is_shown_at_once_and_a_loop_of_401_ends() {
    let server = with_realm("http://127.0.0.1:1/token".into());
    let host = server.host();
    let config = format!(r#"{{"auths":{{"{host}":{{"registrytoken":"good"}}}}}}"#);
    resolved(&client(&config, Routes::default()), &format!("{host}/app:1"), "linux/amd64");

    let realm = Server::start(|_| answer(200).body(r#"{"token":"bad"}"#));
    let server = with_realm(format!("http://127.0.0.1:{}/token", realm.port()));
    let error =
        resolve_error(&client("{}", Routes::default()), &format!("{}/app:1", server.host()));
    assert!(error.contains("denies pulling `app` without credentials"), "{error}");
    assert_eq!((server.lines().len(), realm.lines().len()), (3, 1));
}

#[test]
fn a_token_service_that_fails_is_named() {
    for (status, body, reason) in [
        (200, "{}", "answers without a token"),
        (200, "<html>", "answers something that is not JSON"),
        (404, r#"{"details":"no such service"}"#, "answers 404 Not Found: no such service"),
        (
            401,
            r#"{"details":"bad password"}"#,
            "denies pulling `app` with the credentials of the entry",
        ),
    ] {
        let realm = Server::start(move |_| answer(status).body(body));
        let server = with_realm(format!("http://127.0.0.1:{}/token", realm.port()));
        let host = server.host();
        let config =
            format!(r#"{{"auths":{{"{host}":{{"username":"joe","password":"s3cret"}}}}}}"#);
        let error = resolve_error(&client(&config, Routes::default()), &format!("{host}/app:1"));
        assert!(error.contains(reason) && !error.contains("s3cret"), "{error}");
    }
}

#[test]
fn a_denial_says_who_was_asked_for_credentials_and_what_they_had() {
    let server = Server::start(|_| answer(401).header("WWW-Authenticate", "Basic realm=\"x\""));
    let host = server.host();
    let config = format!(r#"{{"credHelpers":{{"{host}":"pass"}}}}"#);
    let error = resolve_error(&client(&config, Routes::default()), &format!("{host}/app:1"));
    let expected = format!(
        "`{host}` denies pulling `app` without credentials (`docker-credential-pass` was not asked"
    );
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn two_logins_with_one_prefix_are_never_mixed_up() {
    let format = ImageFormat::Oci;
    let image = ImageBuilder::from_scratch(platform("linux/amd64"), format)
        .layer(layer(format, b"small"), "RUN true")
        .finish(timestamp());
    let digest = image.digest();
    // Who may read what.
    let users = [("org/", "org"), ("org/b/", "deep"), ("org-b/", "sibling")];
    let server = Server::start(move |request| {
        let Some(name) = request.target.strip_prefix("/v2/").filter(|name| !name.is_empty()) else {
            return answer(200);
        };
        let users = users.iter().filter(|(prefix, _)| name.starts_with(prefix));
        let user = users.max_by_key(|(prefix, _)| prefix.len()).map_or("nobody", |(_, user)| user);
        if request.header("authorization") != basic(user) {
            return answer(401).header("WWW-Authenticate", "Basic realm=\"x\"");
        }
        let app = Received {
            target: format!("/v2/app/{}", name.split_once("/app/").map_or("", |(_, rest)| rest)),
            ..request.clone()
        };
        honest(&image, &app)
    });
    let host = server.host();
    let auths: Vec<_> = users
        .iter()
        .map(|(prefix, user)| {
            let key = format!("http://{host}/{}", prefix.trim_end_matches('/'));
            format!(r#""{key}":{{"username":"{user}","password":"p"}}"#)
        })
        .collect();
    let config = format!(r#"{{"auths":{{{}}}}}"#, auths.join(","));
    let transport = Transport::new(&options()).expect("the options are right");
    for run in 0..200 {
        let credentials = Credentials::from_docker_config(config.as_bytes()).expect("it is right");
        let registry = Registry::new(transport.clone(), credentials, Routes::default());
        for name in ["org/app", "org/b/app", "org-b/app"] {
            let pulled = resolved(&registry, &format!("{host}/{name}:1"), "linux/amd64");
            assert_eq!(pulled.digest, digest, "{name} in run {run}");
        }
    }
}

/// The header of `user`, whose password is `p`.
fn basic(user: &str) -> String {
    use base64::Engine;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:p"));
    format!("Basic {pair}")
}

/// A registry that takes uploads. `script` may answer instead; it is told how many requests of
/// that method came before.
fn taking(script: impl Fn(&Received, usize) -> Option<Answer> + Send + Sync + 'static) -> Server {
    let counts: Arc<[AtomicUsize; 4]> = Arc::default();
    Server::start(move |request: &Received| {
        let method = ["HEAD", "POST", "PATCH", "PUT"].iter().position(|m| *m == request.method);
        let before = method.map_or(0, |index| counts[index].fetch_add(1, Ordering::Relaxed));
        if let Some(answer) = script(request, before) {
            return answer;
        }
        match request.method.as_str() {
            "HEAD" => answer(404),
            "POST" => answer(202).header("Location", "/v2/app/blobs/uploads/u?_state=a%2Fb%3D"),
            "PATCH" => answer(202).header("Location", "/v2/app/blobs/uploads/u?_state=c%2Fd%3D"),
            "PUT" => answer(201),
            _ => answer(200),
        }
    })
}

fn push(server: &Server) -> Result<Events, String> {
    let events = Events::default();
    let destination = reference(&format!("{}/app:1", server.host()));
    client("{}", Routes::default())
        .push(&amd64(), &[destination], &events)
        .map(|()| events)
        .map_err(|error| chain(&error))
}

fn of_large_layer(server: &Server) -> Vec<String> {
    let received = server.received();
    let large = |request: &&Received| request.method == "PATCH" || request.body.len() > 1_000_000;
    received.iter().filter(large).map(|r| format!("{} {}", r.method, r.target)).collect()
}

#[test]
fn the_state_of_an_upload_is_kept_to_the_letter() {
    let server = taking(|_, _| None);
    push(&server).expect("it is pushed");
    let received = server.received();
    let patch = received.iter().find(|r| r.method == "PATCH").expect("the large layer is streamed");
    assert_eq!(patch.target, "/v2/app/blobs/uploads/u?_state=a%2Fb%3D");
    assert_eq!(Digest::of(&patch.body), amd64().layers()[0].descriptor.digest);
    let digest = amd64().layers()[0].descriptor.digest.to_string().replace(':', "%3A");
    let end = format!("/v2/app/blobs/uploads/u?_state=c%2Fd%3D&digest={digest}");
    assert!(received.iter().any(|r| r.method == "PUT" && r.target == end), "{:?}", server.lines());
    let last = received.last().expect("there were requests");
    assert_eq!(last.line(), "PUT /v2/app/manifests/1", "the manifest comes after all blobs");
    assert_eq!(last.body, amd64().manifest().bytes);
}

#[test]
fn an_upload_is_never_sent_to_a_private_address_of_another_host() {
    let inner = Server::start(|_| answer(201));
    let port = inner.port();
    let server = taking(move |request, _| {
        let location = format!("http://evil.example:{port}/u");
        (request.method == "POST").then(|| answer(202).header("Location", location))
    });
    let error = push(&server).expect_err("it must not go there");
    assert!(error.contains("whose address 127.0.0.1 is not public"), "{error}");
    assert_eq!(inner.lines(), Vec::<String>::new());
}

#[test]
fn an_upload_that_breaks_starts_again() {
    type Fault = fn() -> Answer;
    let answers: [(&str, Fault); 4] = [
        ("PATCH", Answer::hang_up),
        ("PATCH", || answer(503)),
        ("PATCH", || answer(404).body(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#)),
        ("POST", || answer(429).header("Retry-After", "0")),
    ];
    for (method, fault) in answers {
        let server =
            taking(move |request, before| (request.method == method && before == 0).then(fault));
        let events = push(&server).expect("the second try arrives");
        assert_eq!(events.count("sent"), 3, "{:?}", events.lines());
    }
    let server = taking(|request, _| (request.method == "PATCH").then(|| answer(502)));
    let error = push(&server).expect_err("it never arrives");
    assert!(error.contains("answers 502 Bad Gateway to the upload of a blob"), "{error}");
    assert_eq!(of_large_layer(&server).len(), 3);
    assert!(server.lines().iter().all(|line| !line.contains("/manifests/")));
}

#[test]
fn a_layer_that_a_registry_made_up_is_not_handed_on() {
    let (from, registry) = pulling(|image, request| {
        let mut bytes = contents(image).expect("the layers are in memory").swap_remove(0);
        bytes[2_000_000] ^= 1;
        is_large_layer(image, request).then(|| answer(200).body(bytes))
    });
    let pulled = resolved(&registry, &format!("{}/app:1", from.host()), "linux/amd64");
    let to = taking(|_, _| None);
    let destination = reference(&format!("{}/app:1", to.host()));
    let error = registry
        .push(&pulled.image, &[destination], &Events::default())
        .expect_err("it is another layer");
    let error = chain(&error);
    assert!(error.contains("is not what it is called: its content is sha256:"), "{error}");
    let received = to.received();
    let is_tag = |request: &Received| request.target.contains("/manifests/");
    assert!(!received.iter().any(is_tag), "no tag names what is not complete");
}

#[test]
fn a_registry_without_patch_gets_the_blob_in_one_request() {
    let server = taking(|request, _| (request.method == "PATCH").then(|| answer(405)));
    push(&server).expect("it is pushed");
    let large = of_large_layer(&server);
    assert_eq!(large.len(), 2, "{large:?}");
    assert!(large[1].starts_with("PUT /v2/app/blobs/uploads/u?_state=a%2Fb%3D&digest=sha256%3A"));
}

#[test]
fn a_registry_that_stores_another_manifest_is_caught() {
    let server = taking(|request, _| {
        let lie = format!("sha256:{}", "0".repeat(64));
        let is_manifest = request.target.contains("/manifests/");
        is_manifest.then(|| answer(201).header("Docker-Content-Digest", lie))
    });
    let error = push(&server).expect_err("the tag names something else");
    assert!(error.contains("stored the manifest as sha256:0000"), "{error}");
}

#[test]
fn plain_http_is_only_spoken_where_it_is_allowed() {
    let server = taking(|_, _| None);
    let host = format!("registry.example:{}", server.port());
    let error = resolve_error(&client("{}", Routes::default()), &format!("{host}/app:1"));
    assert!(error.contains(&format!("`{host}` cannot be reached")), "{error}");
    assert_eq!(server.lines(), Vec::<String>::new(), "nothing was sent in the clear");

    let image = amd64();
    let destination = reference(&format!("{host}/app:1"));
    let allowed = Routes { insecure_push: true, ..Routes::default() };
    client("{}", allowed)
        .push(&image, &[destination], &Events::default())
        .expect("the user allowed it");
}
