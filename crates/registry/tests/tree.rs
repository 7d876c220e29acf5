//! Indexes with everything beneath them, against Debian's `docker-registry` and judged by skopeo.
#![expect(clippy::disallowed_methods, reason = "runs the program that judges")]

mod support;

use std::collections::BTreeMap;
use std::process::Command;

use ebiko_oci::{
    Descriptor, Digest, Image, ImageFormat, ImageTree, JoinFault, MediaType, NameSource,
};
use ebiko_registry::{Registry, Routes};
use support::{Events, chain, client, contents, image, reference, resolved};
use testkit::command::capture;
use testkit::{Auth, Registry as Server};

const JOE: Auth = Auth::Token { user: "joe", password: "pass:word" };

fn start(auth: Auth) -> Server {
    Server::builder().auth(auth).start().expect("docker-registry starts")
}

fn logged_in(server: &Server) -> Registry {
    client(&server.docker_config(), Routes::default())
}

/// Pushes one image for each platform, each to a repository of its own, and returns their trees.
fn parts(server: &Server, platforms: &[(&str, ImageFormat)]) -> Vec<(String, ImageTree, Image)> {
    let registry = logged_in(server);
    let part = |(on, format): &(&str, ImageFormat)| {
        let name = server.reference(&format!("part/{}:1", on.replace('/', "-")));
        let image = image(*format, on);
        registry
            .push(&image, &[reference(&name)], &Events::default())
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
        let tree = registry.fetch_tree(&reference(&name)).expect("it was pushed");
        (name, tree, image)
    };
    platforms.iter().map(part).collect()
}

fn join(parts: &[(String, ImageTree, Image)]) -> Result<ImageTree, ebiko_oci::JoinError> {
    let parts = parts.iter().map(|(name, tree, _)| (name.clone(), tree.clone())).collect();
    ImageTree::join(parts, BTreeMap::from([("a".to_owned(), "b".to_owned())]))
}

/// What skopeo reads under a name, as it is.
fn raw(server: &Server, name: &str) -> Vec<u8> {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "inspect", "--raw", "--tls-verify=false"]);
    if server.docker_config() != "{}" {
        command.arg("--creds=joe:pass:word");
    }
    capture(command.arg(format!("docker://{}", server.reference(name)))).expect("skopeo reads it")
}

#[test]
fn images_of_other_repositories_become_one_index() {
    for auth in [Auth::Anonymous, JOE] {
        let server = start(auth);
        let parts = parts(
            &server,
            &[
                ("linux/amd64", ImageFormat::Oci),
                ("linux/arm/v6", ImageFormat::Docker),
                ("linux/arm/v7", ImageFormat::Oci),
            ],
        );
        let index = join(&parts).expect("three platforms");
        // Another run of the program, which remembers nothing.
        let registry = logged_in(&server);
        let destinations =
            ["app:1", "app:latest", "else/where:1"].map(|name| reference(&server.reference(name)));
        let events = Events::default();
        registry
            .push_tree(&index, &destinations, &events)
            .unwrap_or_else(|error| panic!("{auth:?}: {}", chain(&error)));
        assert_eq!(events.count("sent"), 0, "all blobs are mounted: {:?}", events.lines());
        assert_eq!((events.count("exists"), events.count("pushed")), (18, 3));

        for name in ["app:1", "app:latest", "else/where:1"] {
            let bytes = raw(&server, name);
            assert_eq!(Digest::of(&bytes), index.root.digest, "{name}");
            let read: serde_json::Value = serde_json::from_slice(&bytes).expect("it is JSON");
            assert_eq!(read["mediaType"], MediaType::OciIndex.to_string());
            assert_eq!(read["annotations"]["a"], "b");
            let platforms: Vec<String> = read["manifests"]
                .as_array()
                .expect("it is an index")
                .iter()
                .map(|entry| {
                    let part = |name: &str| entry["platform"][name].as_str().unwrap_or_default();
                    format!("{}/{}/{}", part("os"), part("architecture"), part("variant"))
                })
                .collect();
            assert_eq!(platforms, ["linux/amd64/", "linux/arm/v6", "linux/arm/v7"]);
            for (part, on) in parts.iter().zip(["linux/amd64", "linux/arm/v6", "linux/arm/v7"]) {
                let pulled = resolved(&logged_in(&server), &server.reference(name), on);
                assert_eq!(pulled.image.digest(), part.2.digest());
                assert_eq!(contents(&pulled.image), contents(&part.2));
            }
        }
        // skopeo follows every line of the index and reads every blob.
        let directory = testkit::scratch_dir("all-").expect("there is room");
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--all", "--src-tls-verify=false"]);
        if auth != Auth::Anonymous {
            command.arg("--src-creds=joe:pass:word");
        }
        command.arg(format!("docker://{}", server.reference("else/where:1")));
        capture(command.arg(format!("oci:{}:all", directory.path().display()))).expect("complete");
    }
}

#[test]
fn an_index_is_copied_to_another_registry_as_it_is() {
    let (from, to) = (start(Auth::Anonymous), start(Auth::Anonymous));
    let all = [("linux/amd64", ImageFormat::Oci), ("linux/arm64", ImageFormat::Docker)];
    let index = join(&parts(&from, &all)).expect("two platforms");
    let registry = logged_in(&from);
    let name = reference(&from.reference("app:1"));
    registry
        .push_tree(&index, std::slice::from_ref(&name), &Events::default())
        .expect("it is pushed");

    let tree = logged_in(&from).fetch_tree(&name).expect("it is there");
    let events = Events::default();
    let there = reference(&to.reference("copy:1"));
    logged_in(&to).push_tree(&tree, &[there], &events).expect("it is pushed");
    assert_eq!(events.count("sent"), 6, "{:?}", events.lines());
    assert_eq!(raw(&to, "copy:1"), index.root.bytes);

    // Taken apart, as one of several.
    let third = parts(&from, &[("linux/s390x", ImageFormat::Oci)]).remove(0);
    let more = vec![("app:1".to_owned(), tree), (third.0, third.1)];
    let more = ImageTree::join(more, BTreeMap::new()).expect("three platforms");
    let there = reference(&to.reference("more:1"));
    logged_in(&to).push_tree(&more, &[there], &Events::default()).expect("it is pushed");
    for on in ["linux/amd64", "linux/arm64", "linux/s390x"] {
        resolved(&logged_in(&to), &to.reference("more:1"), on);
    }
}

#[test]
fn two_images_of_one_platform_are_refused_and_so_is_a_missing_one() {
    let server = start(Auth::Anonymous);
    let mut same = parts(&server, &[("linux/arm64", ImageFormat::Oci)]);
    same.push(same[0].clone());
    let error = join(&same).expect_err("one of them would never be found");
    assert!(matches!(error.source, JoinFault::SamePlatform { .. }), "{}", chain(&error));
    let missing = logged_in(&server).fetch_tree(&reference(&server.reference("none:1")));
    let error = chain(&*missing.expect_err("nobody pushed it"));
    assert!(error.contains("there is no such image"), "{error}");
}

#[test]
fn a_name_is_looked_up_once_and_a_registry_that_is_gone_is_told_from_one_that_refuses() {
    let server = start(Auth::Anonymous);
    parts(&server, &[("linux/amd64", ImageFormat::Oci)]);
    let name = reference(&server.reference("part/linux-amd64:1"));
    let registry = logged_in(&server);
    let before = server.requests().len();
    let found = registry.look_up(&name).expect("it is there");
    resolved(&registry, &name.to_string(), "linux/amd64");
    let asked = server.requests().split_off(before);
    let manifests = asked.iter().filter(|line| line.contains("/manifests/")).count();
    assert_eq!(manifests, 1, "{asked:?}");

    let descriptor =
        Descriptor::new(MediaType::OciLayer(ebiko_oci::LayerCompression::None), found.digest, 1);
    let origins = registry.blob(&name, &descriptor).origins();
    assert_eq!(
        (&*origins[0].registry, &*origins[0].repository),
        (&*server.host(), "part/linux-amd64")
    );

    let none = reference(&server.reference("part/linux-amd64:2"));
    let error = registry.look_up(&none).expect_err("there is no such tag");
    assert!(!error.is_unreachable, "{error}");
    let host = server.host();
    drop(server);
    let mut routes = Routes::default();
    routes.add_map(&format!("registry.example:1={host}")).expect("it is right");
    let error = client("{}", routes.clone()).look_up(&name).expect_err("nobody is there");
    assert!(error.is_unreachable, "{error}");
    // A mirror that is gone, and behind it a name that nobody has.
    let error = client("{}", routes).look_up(&reference("registry.example:1/x:1"));
    assert!(error.is_err_and(|error| error.is_unreachable));
}

#[test]
fn a_registry_that_asks_for_a_login_is_within_reach() {
    let server = start(Auth::Basic { user: "joe", password: "pass:word" });
    let stranger = client("{}", Routes::default());
    let error = stranger.look_up(&reference(&server.reference("app:1")));
    assert!(error.is_err_and(|error| !error.is_unreachable));
}
