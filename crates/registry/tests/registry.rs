//! Against Debian's `docker-registry`, with skopeo to judge what was pushed.

mod support;

use ebiko_oci::{Digest, Image, ImageBuilder, ImageFormat, ImageSource};
use ebiko_registry::{Credentials, Registry, Routes};
use ebiko_transport::{Body, Method, Options, Request, Transport, Url, header};
use support::{
    Events, chain, client, contents, image, layer, noise, options, platform, reference,
    resolve_error, resolved, timestamp,
};
use testkit::{Auth, Registry as Server};

const AUTHS: [Auth; 3] = [
    Auth::Anonymous,
    Auth::Basic { user: "joe", password: "pass:word" },
    Auth::Token { user: "joe", password: "pass:word" },
];

fn start(auth: Auth) -> Server {
    Server::builder().auth(auth).start().expect("docker-registry starts")
}

fn logged_in(server: &Server) -> Registry {
    client(&server.docker_config(), Routes::default())
}

#[test]
fn what_is_pushed_is_what_skopeo_and_a_pull_find() {
    for auth in AUTHS {
        let server = start(auth);
        for (format, name) in [(ImageFormat::Oci, "team/oci:1"), (ImageFormat::Docker, "docker:1")]
        {
            let image = image(format, "linux/amd64");
            let events = Events::default();
            let destination = reference(&server.reference(name));
            logged_in(&server)
                .push(&image, std::slice::from_ref(&destination), &events)
                .unwrap_or_else(|error| panic!("{auth:?} {name}: {}", chain(&error)));
            assert_eq!(events.count("sent"), 3, "{:?}", events.lines());
            assert_eq!(events.count("pushed"), 1);

            let facts = server.image(name).expect("skopeo reads it");
            assert_eq!(facts.manifest.as_deref(), Some(&*image.manifest().bytes));
            assert_eq!(facts.config, image.config_bytes());

            // skopeo copies only what matches its digest.
            let dir = testkit::scratch_dir("pulled-").expect("there is room");
            server.pull(name, dir.path(), "x").expect("skopeo pulls it");

            let pulled = resolved(&logged_in(&server), &server.reference(name), "linux/amd64");
            assert_eq!(pulled.digest, image.digest());
            assert_eq!(pulled.image.manifest(), image.manifest());
            assert_eq!(pulled.image.format(), format);
            assert_eq!(contents(&pulled.image), contents(&image));
        }
    }
}

#[test]
fn several_tags_and_a_second_push_send_no_blob_twice() {
    let server = start(AUTHS[2]);
    let image = image(ImageFormat::Oci, "linux/amd64");
    let destinations: Vec<_> = ["app:1", "app:2", "other/app:1"]
        .iter()
        .map(|name| reference(&server.reference(name)))
        .collect();
    let registry = logged_in(&server);
    let events = Events::default();
    registry.push(&image, &destinations, &events).expect("all destinations take it");
    let sent = "one repository gets them, and the other takes them from there";
    assert_eq!(
        (events.count("sent"), events.count("exists")),
        (3, 3),
        "{sent}: {:?}",
        events.lines()
    );
    assert_eq!(events.count("pushed"), 3, "{:?}", events.lines());
    assert_eq!(server.tags("app").expect("skopeo lists them"), ["1", "2"]);

    let events = Events::default();
    logged_in(&server).push(&image, &destinations, &events).expect("all destinations take it");
    assert_eq!((events.count("sent"), events.count("exists")), (0, 6), "{:?}", events.lines());
    let tokens = server.token_requests();
    let ours = tokens.iter().filter(|line| line.starts_with("user ") && line.contains("pull,push"));
    let why = "one for each repository and push, and one to take blobs from the other repository";
    assert_eq!(ours.count(), 5, "{why}: {tokens:#?}");
}

#[test]
fn base_layers_are_streamed_from_where_the_base_is() {
    let from = start(AUTHS[2]);
    let to = start(AUTHS[1]);
    let base = image(ImageFormat::Docker, "linux/amd64");
    logged_in(&from)
        .push(&base, &[reference(&from.reference("base:1"))], &Events::default())
        .expect("the base is pushed");

    let both = format!(
        r#"{{"auths":{{"{}":{{"username":"joe","password":"pass:word"}},"{}":{{"username":"joe","password":"pass:word"}}}}}}"#,
        from.host(),
        to.host(),
    );
    let registry = client(&both, Routes::default());
    let pulled = resolved(&registry, &from.reference("base:1"), "linux/amd64");
    let built = ImageBuilder::from_base(&pulled.image)
        .layer(layer(ImageFormat::Docker, &noise(42, 5000)), "RUN true")
        .finish(timestamp());
    let events = Events::default();
    registry.push(&built, &[reference(&to.reference("built:1"))], &events).expect("it is pushed");
    assert_eq!(events.count("sent"), 4, "{:?}", events.lines());
    let dir = testkit::scratch_dir("pulled-").expect("there is room");
    to.pull("built:1", dir.path(), "x").expect("skopeo pulls it");

    // The base's own registry has the base layers already.
    let events = Events::default();
    registry.push(&built, &[reference(&from.reference("base:2"))], &events).expect("it is pushed");
    assert_eq!((events.count("sent"), events.count("exists")), (2, 2), "{:?}", events.lines());
}

#[test]
fn a_blob_of_another_repository_is_mounted_where_that_may_be_read() {
    for auth in AUTHS {
        let server = start(auth);
        let base = image(ImageFormat::Oci, "linux/amd64");
        let registry = logged_in(&server);
        let push = |name: &str, image: &Image| {
            let events = Events::default();
            registry.push(image, &[reference(&server.reference(name))], &events).unwrap();
            (events.count("sent"), events.count("exists"))
        };
        push("base:1", &base);
        let pulled = resolved(&registry, &server.reference("base:1"), "linux/amd64");
        let built = ImageBuilder::from_base(&pulled.image)
            .layer(layer(ImageFormat::Oci, &noise(42, 5000)), "RUN true")
            .finish(timestamp());
        assert_eq!(push("team/built:1", &built), (2, 2), "the base's layers are not sent");
        let dir = testkit::scratch_dir("pulled-").unwrap();
        server.pull("team/built:1", dir.path(), "x").expect("skopeo finds all blobs");
    }
}

/// Puts an index of `entries` (digest, size, platform as JSON) under `name`.
fn put_index(
    server: &Server,
    repository: &str,
    tag: &str,
    entries: &[(Digest, usize, &str)],
) -> Digest {
    let entries: Vec<String> = entries
        .iter()
        .map(|(digest, size, platform)| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{size},"platform":{platform}}}"#
            )
        })
        .collect();
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{}]}}"#,
        entries.join(",")
    );
    let url = format!("http://{}/v2/{repository}/manifests/{tag}", server.host());
    let request = Request::new(Method::PUT, Url::parse(&url).expect("it is a URL"))
        .with_header(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type))
        .with_body(Body::Bytes(index.clone().into_bytes()));
    let transport = Transport::new(&options()).expect("the options are right");
    let response = transport.send(&request).expect("the registry answers");
    assert_eq!(response.status().as_u16(), 201);
    Digest::of(index.as_bytes())
}

#[test]
fn an_index_leads_to_the_image_for_the_platform_with_one_request_for_each_manifest() {
    let server = start(Auth::Anonymous);
    let registry = client("{}", Routes::default());
    let mut entries = Vec::new();
    for (on, json) in [
        ("linux/amd64", r#"{"os":"linux","architecture":"amd64"}"#),
        ("linux/arm/v6", r#"{"os":"linux","architecture":"arm","variant":"v6"}"#),
        ("linux/arm/v7", r#"{"os":"linux","architecture":"arm","variant":"v7"}"#),
    ] {
        let image = image(ImageFormat::Oci, on);
        let name = format!("multi:{}", on.replace('/', "-"));
        registry
            .push(&image, &[reference(&server.reference(&name))], &Events::default())
            .expect("it is pushed");
        entries.push((image.digest(), image.manifest().bytes.len(), json));
    }
    let index = put_index(&server, "multi", "1", &entries);

    let name = server.reference("multi:1");
    let by_digest = server.reference(&format!("multi@{index}"));
    let registry = client("{}", Routes::default());
    for (wanted, found) in [("linux/amd64", 0), ("linux/arm/v7", 2), ("linux/arm/v6", 1)] {
        for name in [&name, &by_digest, &name] {
            let resolved = resolved(&registry, name, wanted);
            assert_eq!(resolved.digest, index);
            assert_eq!(resolved.image.digest(), entries[found].0, "{wanted}");
            assert_eq!(resolved.image.config().platform, platform(wanted));
        }
    }
    let error =
        registry.resolve(&reference(&name), &platform("linux/s390x")).expect_err("not there");
    assert_eq!(
        chain(&*error),
        format!(
            "cannot pull `{name}`: the index cannot be used: no image for linux/s390x; there is \
             linux/amd64, linux/arm/v6, linux/arm/v7"
        )
    );
    let mut asked: Vec<String> = server
        .requests()
        .into_iter()
        .filter(|line| line.starts_with("GET") && line.contains("/manifests/"))
        .collect();
    assert_eq!(asked.len(), 5, "tag, digest and three children: {asked:#?}");
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 5, "{asked:#?}");
}

#[test]
fn a_missing_image_and_missing_rights_say_what_is_missing() {
    let server = start(AUTHS[1]);
    let (host, name) = (server.host(), server.reference("a/b:1"));
    let missing = resolve_error(&logged_in(&server), &name);
    assert_eq!(
        missing,
        format!(
            "cannot pull `{name}`: there is no such image in `{host}` (MANIFEST_UNKNOWN: manifest \
             unknown)"
        )
    );
    assert_eq!(
        resolve_error(&client("{}", Routes::default()), &name),
        format!(
            "cannot pull `{name}`: `{host}` denies pulling `a/b` without credentials: \
             UNAUTHORIZED: authentication required"
        )
    );
    let wrong =
        format!(r#"{{"auths":{{"http://{host}/a":{{"username":"joe","password":"s3cret"}}}}}}"#);
    let wrong = client(&wrong, Routes::default());
    assert_eq!(
        resolve_error(&wrong, &name),
        format!(
            "cannot pull `{name}`: `{host}` denies pulling `a/b` with the credentials of the entry \
             `http://{host}/a` of the docker config: UNAUTHORIZED: authentication required"
        )
    );
    let image = image(ImageFormat::Oci, "linux/amd64");
    let error = wrong.push(&image, &[reference(&name)], &Events::default()).expect_err("refused");
    assert!(chain(&error).contains("denies pushing to `a/b`"), "{}", chain(&error));
    assert!(!format!("{error:?}").contains("s3cret"));
}

#[test]
fn a_stranger_may_pull_where_the_token_service_lets_him_and_not_push() {
    let server = start(AUTHS[2]);
    let image = image(ImageFormat::Oci, "linux/amd64");
    let name = server.reference("app:1");
    logged_in(&server)
        .push(&image, &[reference(&name)], &Events::default())
        .expect("the user may push");
    let stranger = client("{}", Routes::default());
    assert_eq!(resolved(&stranger, &name, "linux/amd64").digest, image.digest());
    let error = stranger
        .push(&image, &[reference(&server.reference("other:1"))], &Events::default())
        .expect_err("a stranger may not");
    assert!(
        chain(&error).contains("denies pushing to `other` without credentials"),
        "{}",
        chain(&error)
    );
    assert!(error.hint().is_some());
}

#[test]
fn tls_works_with_the_authority_of_the_registry() {
    let server = Server::builder().tls().start().expect("docker-registry starts");
    let authority = server.certificate_authority().expect("it serves TLS");
    #[expect(clippy::disallowed_methods, reason = "the test stands in for the program's start")]
    let pem = std::fs::read(authority).expect("it is a file");
    let image = image(ImageFormat::Oci, "linux/amd64");
    let name = server.reference("app:1");

    let options = Options { roots: vec![pem], ..options() };
    let transport = Transport::new(&options).expect("the options are right");
    let registry = Registry::new(transport, Credentials::default(), Routes::default());
    registry.push(&image, &[reference(&name)], &Events::default()).expect("the issuer is trusted");
    assert_eq!(server.image("app:1").expect("skopeo reads it").layers.len(), 2);

    // Also on loopback, a wrong certificate is no reason to go on without encryption.
    let error = resolve_error(&client("{}", Routes::default()), &name);
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_itself_when_the_mirror_fails() {
    let hub = start(Auth::Anonymous);
    let image = image(ImageFormat::Oci, "linux/amd64");
    client("{}", Routes::default())
        .push(&image, &[reference(&hub.reference("proxy/library/debian:1"))], &Events::default())
        .expect("it is pushed");

    let mut routes = Routes::default();
    // Port 1 (tcpmux) is closed wherever tests run.
    routes.add_map("docker.io=127.0.0.1:1").expect("it is right");
    routes.add_mirror(&format!("{}/proxy", hub.host())).expect("it is right");
    let warnings = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = std::sync::Arc::clone(&warnings);
    let registry = client("{}", routes).with_warnings(move |text| {
        heard.lock().expect("nobody panicked").push(text.to_owned());
    });
    let pulled = resolved(&registry, "debian:1", "linux/amd64");
    assert_eq!(pulled.digest, image.digest());
    assert_eq!(contents(&pulled.image), contents(&image));
    let warnings = warnings.lock().expect("nobody panicked");
    assert!(warnings[0].starts_with("127.0.0.1:1: "), "{warnings:?}");
    assert!(warnings[0].ends_with(&format!("; trying {}", hub.host())), "{warnings:?}");

    let mut routes = Routes::default();
    routes.add_map(&format!("{0}=127.0.0.1:1", hub.host())).expect("it is right");
    let registry = client("{}", routes);
    let name = hub.reference("proxy/library/debian:1");
    assert_eq!(resolved(&registry, &name, "linux/amd64").digest, image.digest());
    let missing = resolve_error(&registry, &hub.reference("none:1"));
    assert!(missing.contains("none of its 2 places has it: 127.0.0.1:1: "), "{missing}");
}

#[test]
fn an_empty_layer_is_pushed_like_any_other() {
    let server = start(Auth::Anonymous);
    let image = ImageBuilder::from_scratch(platform("linux/amd64"), ImageFormat::Oci)
        .layer(layer(ImageFormat::Oci, b""), "nothing")
        .layer(layer(ImageFormat::Oci, b""), "nothing again")
        .finish(timestamp());
    let name = server.reference("empty:1");
    let registry = client("{}", Routes::default());
    let events = Events::default();
    registry.push(&image, &[reference(&name)], &events).expect("it is pushed");
    assert_eq!(events.count("sent"), 2, "one blob for both layers, and the config");
    let pulled = resolved(&registry, &name, "linux/amd64");
    assert_eq!(contents(&pulled.image), Ok(vec![vec![], vec![]]));
}
