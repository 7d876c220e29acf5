//! What users ask for with flags: the check before a push, tags that stay, certificates, places, patience.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../transport/tests/server/mod.rs"]
mod server;
mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ebiko_oci::{Digest, Event, Image, ImageFormat, Observer, Reference};
use ebiko_registry::{Credentials, Registry, Routes, Settings, advice_on};
use ebiko_transport::{HostTls, Options, Transport};
use server::{Received, Server as Scripted, answer};
use support::{Events, chain, client, image, options, reference, resolve_error, resolved};
use testkit::{Auth, Registry as Server};

const TOKEN: Auth = Auth::Token { user: "joe", password: "pass:word" };

fn amd64() -> Image {
    image(ImageFormat::Oci, "linux/amd64")
}

fn references(host: &str, names: &[&str]) -> Vec<Reference> {
    names.iter().map(|name| reference(&format!("{host}/{name}"))).collect()
}

/// A registry that takes uploads, unless `script` answers.
fn taking(
    script: impl Fn(&Received) -> Option<server::Answer> + Send + Sync + 'static,
) -> Scripted {
    Scripted::start(move |request| {
        script(request).unwrap_or_else(|| match request.method.as_str() {
            "HEAD" => answer(404),
            "POST" | "PATCH" => answer(202).header("Location", "/v2/app/blobs/uploads/u?s=1"),
            "PUT" => answer(201),
            _ => answer(200),
        })
    })
}

#[test]
fn every_repository_is_asked_once_whether_it_may_be_pushed_to() {
    let server = Server::builder().auth(TOKEN).start().expect("docker-registry starts");
    let destinations = references(&server.host(), &["app:1", "app:2", "team/app:1"]);
    let registry = client(&server.docker_config(), Routes::default());
    registry.check_push(&destinations).expect("the user may");
    let mut asked: Vec<String> = server
        .requests()
        .into_iter()
        .filter(|line| line.ends_with(" 202") || line.starts_with("DELETE"))
        .map(|line| line.split("/uploads/").next().unwrap().to_owned())
        .collect();
    asked.sort();
    let expected = ["DELETE", "DELETE", "POST", "POST"];
    let methods: Vec<&str> = asked.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(methods, expected, "{asked:?}");
    registry.check_push(&[]).expect("there is nothing to ask");

    let stranger = client("{}", Routes::default());
    let error = stranger.check_push(&destinations).expect_err("a stranger may not");
    let host = server.host();
    assert!(
        chain(&error).starts_with(&format!(
            "cannot push to `{host}/app:1`: the repository would not take it, so nothing is begun: `{host}` denies pushing \
             to `app` without credentials"
        )),
        "{}",
        chain(&error)
    );
    assert!(error.hint().is_some());
}

#[test]
fn an_upload_that_cannot_be_cancelled_is_no_reason_not_to_build() {
    for status in [404, 405, 500, 401] {
        let server = taking(move |request| (request.method == "DELETE").then(|| answer(status)));
        let destinations = references(&server.host(), &["app:1"]);
        client("{}", Routes::default()).check_push(&destinations).expect("it may be pushed to");
        assert_eq!(server.lines().last().unwrap(), "DELETE /v2/app/blobs/uploads/u");
    }
    let server = taking(|request| {
        let body = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such repository"}]}"#;
        (request.method == "POST").then(|| answer(404).body(body))
    });
    let error = client("{}", Routes::default())
        .check_push(&references(&server.host(), &["app:1"]))
        .expect_err("there is no such repository");
    assert!(chain(&error).contains("NAME_UNKNOWN: no such repository"), "{}", chain(&error));
    assert!(error.hint().unwrap().contains("created before it is pushed to"));
}

/// Writes down warnings and what was pushed.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Warning { text } => self.0.lock().unwrap().push(format!("warning {text}")),
            Event::Pushed { reference, .. } => {
                self.0.lock().unwrap().push(format!("pushed {reference}"));
            }
            _ => {}
        }
    }
}

#[test]
fn a_tag_that_must_stay_is_passed_over_where_the_user_wants_that() {
    // Google Artifact Registry, Amazon ECR, Harbor.
    for (status, message) in [
        (400, "The repository has enabled tag immutability. The tag '1' has already been tagged"),
        (
            400,
            "The image tag '1' already exists in the 'app' repository and cannot be overwritten because the tag is immutable.",
        ),
        (412, "Failed to process request due to 'app:1' configured as immutable."),
        (403, "The requested tag already exists and cannot be overwritten."),
    ] {
        let server = taking(move |request| {
            let body = serde_json::json!({"errors": [{"code": "X", "message": message}]});
            let is_kept = request.target.ends_with("/manifests/1");
            is_kept.then(|| answer(status).body(body.to_string()))
        });
        let host = server.host();
        let destinations = references(&host, &["app:1", "app:2"]);
        let push = |registry: Registry| {
            let told = Told::default();
            let result = registry.push(&amd64(), &destinations, &told);
            let mut told = told.0.into_inner().unwrap();
            told.sort();
            (result, told)
        };
        let (result, told) = push(client("{}", Routes::default()));
        let error = chain(&result.expect_err("the flag is not there"));
        assert!(error.contains(message), "{error}");
        assert_eq!(told, [format!("pushed {host}/app:2")], "the other tag is another matter");

        let settings = Settings { ignores_immutable_tags: true, ..Settings::default() };
        let (result, told) = push(client("{}", Routes::default()).with_settings(settings));
        result.expect("the user does not mind");
        assert_eq!(told[0], format!("pushed {host}/app:2"));
        assert!(
            told[1].starts_with(&format!("warning `{host}/app:1` is left as it is")),
            "{told:?}"
        );
    }

    // Another refusal is one, and so is the same text where no tag is meant.
    for (target, message) in
        [("/manifests/1", "denied"), ("/blobs/uploads/", "configured as immutable")]
    {
        let server = taking(move |request| {
            let body = serde_json::json!({"errors": [{"code": "X", "message": message}]});
            request.target.contains(target).then(|| answer(403).body(body.to_string()))
        });
        let settings = Settings { ignores_immutable_tags: true, ..Settings::default() };
        client("{}", Routes::default())
            .with_settings(settings)
            .push(&amd64(), &references(&server.host(), &["app:1"]), &Events::default())
            .expect_err("it is not pushed");
    }
}

#[test]
fn one_destination_that_fails_is_told_and_the_others_too() {
    let (good, bad) = (
        taking(|_| None),
        taking(|request| request.target.contains("/manifests/").then(|| answer(403))),
    );
    let destinations: Vec<Reference> = [&bad, &good]
        .iter()
        .flat_map(|server| references(&server.host(), &["app:1"]))
        .chain(references(&bad.host(), &["app:2"]))
        .collect();
    let told = Told::default();
    let error = client("{}", Routes::default())
        .push(&amd64(), &destinations, &told)
        .expect_err("one registry refuses");
    assert_eq!(error.destination, destinations[0].to_string(), "the first in the user's order");
    let told = told.0.into_inner().unwrap();
    assert!(told.iter().any(|line| line.contains("app:2") && line.starts_with("warning")));
}

#[test]
fn patience_is_as_long_as_the_user_wants() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let server = taking(move |request| {
        let is_counted = request.target.contains("/manifests/");
        is_counted.then(|| {
            counted.fetch_add(1, Ordering::Relaxed);
            answer(503).header("Retry-After", "0")
        })
    });
    let name = format!("{}/app:1", server.host());
    for (settings, pulls, pushes) in [
        (Settings::default(), 3, 3),
        (Settings { push_retries: 4, ..Settings::default() }, 3, 7),
        (Settings { download_retries: 2, ..Settings::default() }, 5, 3),
    ] {
        let registry = client("{}", Routes::default()).with_settings(settings);
        resolve_error(&registry, &name);
        assert_eq!(count.swap(0, Ordering::Relaxed), pulls, "{settings:?}");
        registry.push(&amd64(), &[reference(&name)], &Events::default()).expect_err("it fails");
        assert_eq!(count.swap(0, Ordering::Relaxed), pushes, "{settings:?}");
    }
}

#[expect(clippy::disallowed_methods, reason = "the test stands in for the program's start")]
fn authority(server: &Server) -> Vec<u8> {
    std::fs::read(server.certificate_authority().expect("it serves TLS")).expect("it is a file")
}

fn with(options: &Options, routes: Routes) -> Registry {
    let transport = Transport::new(options).expect("the options are right");
    Registry::new(transport, Credentials::default(), routes)
}

#[test]
fn certificates_are_believed_or_not_as_the_user_says_for_each_registry() {
    let server = Server::builder().tls().start().expect("docker-registry starts");
    let name = server.reference("app:1");
    let push = |options: &Options, routes: Routes| {
        with(options, routes).push(&amd64(), &[reference(&name)], &Events::default())
    };
    let error = push(&options(), Routes::default()).expect_err("nobody knows the issuer");
    let hint = error.hint().expect("there is something to do");
    let host = server.host();
    for flag in [
        format!("--registry-certificate={host}=FILE"),
        format!("--skip-tls-verify-registry={host}"),
    ] {
        assert!(hint.contains(&flag), "{hint}");
    }
    assert_eq!(advice_on(&error), Some(hint));

    let of =
        |host: &str| HostTls { host: host.into(), roots: vec![authority(&server)], identity: None };
    let special = |host: &str| Options { hosts_with_special_tls: vec![of(host)], ..options() };
    push(&special(&host), Routes::default()).expect("the issuer is known");
    push(&special("other.example"), Routes::default()).expect_err("that is another host");

    let other = vec!["localhost:1".to_owned()];
    push(&options(), Routes { unverified_registries: other, ..Routes::default() })
        .expect_err("that is another host");
    push(&options(), Routes { unverified_pull: true, ..Routes::default() })
        .expect_err("a push is no pull");
    let named = vec![host];
    for routes in [
        Routes { unverified_registries: named, ..Routes::default() },
        Routes { unverified: true, ..Routes::default() },
    ] {
        push(&options(), routes).expect("the user said so");
    }
    let unverified = Routes { unverified_pull: true, ..Routes::default() };
    resolved(&with(&options(), unverified), &name, "linux/amd64");
}

#[test]
fn a_storage_at_a_private_address_is_used_where_the_user_allows_it() {
    let pushed = amd64();
    let blobs = support::contents(&pushed).unwrap();
    let storage = Scripted::start(move |request| {
        let name = request.target.rsplit('/').next().unwrap();
        let blob = blobs.iter().find(|bytes| Digest::of(bytes).to_string() == name);
        blob.map_or_else(|| answer(404), |bytes| answer(200).body(bytes.clone()))
    });
    let target = format!("http://evil.example:{}", storage.port());
    let image = amd64();
    let server = Scripted::start(move |request| match request.target.as_str() {
        "/v2/" => answer(200),
        path if path.contains("/manifests/") => answer(200)
            .header("Content-Type", image.manifest().media_type.to_string())
            .body(image.manifest().bytes.clone()),
        path if path.ends_with(&image.config_digest().to_string()) => {
            answer(200).body(image.config_bytes())
        }
        path => answer(307).header("Location", format!("{target}{path}")),
    });
    let name = format!("{}/app:1", server.host());
    let fetch = |options: &Options| {
        let pulled = resolved(&with(options, Routes::default()), &name, "linux/amd64");
        pulled.image.layers()[0].blob.open().map(drop)
    };
    let error = fetch(&options()).expect_err("the address is private");
    assert!(chain(&*error).contains("whose address 127.0.0.1 is not public"), "{}", chain(&*error));
    let hint = advice_on(&*error).expect("there is something to do");
    assert!(hint.contains("--registry-redirect=evil.example"), "{hint}");
    assert_eq!(storage.lines(), Vec::<String>::new());

    let allowed_hosts = vec!["evil.example".parse().unwrap()];
    fetch(&Options { allowed_hosts, ..options() }).expect("the user allowed it");
}

#[test]
fn both_versions_of_http_work_and_one_can_be_forbidden() {
    let server = Server::builder().tls().start().expect("docker-registry starts");
    let routes = || Routes { unverified: true, ..Routes::default() };
    for (is_http1_only, spoken, tag) in [(false, "HTTP/2.0", "app:1"), (true, "HTTP/1.1", "app:2")]
    {
        let options = Options { is_http1_only, ..options() };
        with(&options, routes())
            .push(&amd64(), &[reference(&server.reference(tag))], &Events::default())
            .expect("it is pushed");
        let line = format!("/manifests/{} {spoken}", tag.split(':').nth(1).unwrap());
        assert!(server.log().contains(&line), "{line}");
    }
}

#[test]
fn credentials_of_a_registry_are_not_shown_to_its_mirrors() {
    let challenge = |request: &Received| {
        let is_known = request.header("authorization") == "Basic am9lOnB3";
        (!is_known && request.target != "/v2/")
            .then(|| answer(401).header("WWW-Authenticate", "Basic realm=\"x\""))
    };
    let mirror = Scripted::start(move |request| challenge(request).unwrap_or_else(|| answer(404)));
    let origin = Scripted::start(move |request| challenge(request).unwrap_or_else(|| answer(404)));
    let login =
        |host: &str| format!(r#"{{"auths":{{"{host}":{{"username":"joe","password":"pw"}}}}}}"#);
    let mut routes = Routes::default();
    routes.add_map(&format!("{}={}/proxy", origin.host(), mirror.host())).expect("it is right");
    let shown = |server: &Scripted| {
        server.received().iter().filter(|r| r.headers.contains_key("authorization")).count()
    };
    let name = format!("{}/app:1", origin.host());
    resolve_error(&client(&login(&origin.host()), routes.clone()), &name);
    assert_eq!((shown(&mirror), shown(&origin)), (0, 1), "{:?}", mirror.lines());
    assert!(mirror.lines().contains(&"GET /v2/proxy/app/manifests/1".to_owned()));

    resolve_error(&client(&login(&mirror.host()), routes), &name);
    assert_eq!((shown(&mirror), shown(&origin)), (1, 1), "where it is meant for the mirror");
}
