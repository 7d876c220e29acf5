//! docker-registry behind nginx: redirects to a storage that takes no login, limits on bodies and on requests.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::time::Duration;

use ebiko_oci::{Image, ImageBuilder, ImageFormat};
use ebiko_registry::{Credentials, Registry, Routes};
use ebiko_transport::{Options, Retries, Transport};
use testkit::{Auth, Nginx, Registry as Server};

use crate::support::{
    Events, client, contents, image, layer, noise, options, platform, reference, resolved,
    timestamp,
};

const JOE: Auth = Auth::Basic { user: "joe", password: "pass:word" };

/// The config of a client that knows the user at the front of the registry.
fn config(server: &Server, host: &str) -> String {
    server.docker_config().replace(&server.host(), host)
}

#[test]
fn a_storage_behind_a_presigned_address_sees_no_login() {
    let server = Server::builder().auth(JOE).start().unwrap();
    let storage = server.storage();
    let upstream = server.host();
    let nginx = Nginx::start(2, |ports| {
        let (front, store) = (ports[0], ports[1]);
        format!(
            "server {{\n listen 127.0.0.1:{front};\n client_max_body_size 0;\n\
             location ~ ^/v2/.+/blobs/sha256:([0-9a-f][0-9a-f])([0-9a-f]+)$ {{\n\
             if ($request_method = GET) {{ return 307 http://localhost:{store}/docker/registry/v2/blobs/sha256/$1/$1$2/data?signature=abc; }}\n\
             proxy_pass http://{upstream};\n proxy_set_header Host $http_host;\n }}\n\
             location / {{ proxy_pass http://{upstream}; proxy_set_header Host $http_host; }}\n}}\n\
             server {{\n listen 127.0.0.1:{store};\n root {};\n\
             if ($http_authorization) {{ return 400; }}\n if ($arg_signature = '') {{ return 403; }}\n}}\n",
            storage.display()
        )
    })
    .unwrap();
    let host = nginx.host(0);
    let registry = client(&config(&server, &host), Routes::default());
    let image = image(ImageFormat::Oci, "linux/amd64");
    let name = reference(&format!("{host}/team/app:1"));
    registry.push(&image, std::slice::from_ref(&name), &Events::default()).unwrap();

    let registry = client(&config(&server, &host), Routes::default());
    let pulled = resolved(&registry, &name.to_string(), "linux/amd64");
    assert_eq!(pulled.image.digest(), image.digest());
    assert_eq!(contents(&pulled.image), contents(&image));
    let store = nginx.host(1).replace("localhost:", "");
    let requests = nginx.requests();
    let stored: Vec<&String> = requests.iter().filter(|line| line.starts_with(&store)).collect();
    assert_eq!(stored.len(), 3, "a config and two layers: {requests:#?}");
    assert!(stored.iter().all(|line| line.ends_with(" 200 -")), "{stored:#?}");
    assert!(
        requests.iter().any(|line| line.contains(" Basic ")),
        "the front wants it: {requests:#?}"
    );
}

/// An image with layers of 5 MiB and of a few bytes.
fn large() -> Image {
    ImageBuilder::from_scratch(platform("linux/amd64"), ImageFormat::Oci)
        .layer(layer(ImageFormat::Oci, &noise(1, 5 << 20)), "large")
        .layer(layer(ImageFormat::Oci, &noise(2, 100)), "small")
        .finish(timestamp())
}

#[test]
fn a_front_that_takes_small_bodies_and_few_requests_gets_the_image_all_the_same() {
    let server = Server::builder().start().unwrap();
    let upstream = server.host();
    let nginx = Nginx::start(1, |ports| {
        format!(
            "limit_req_zone $server_port zone=all:1m rate=20r/s;\n\
             server {{\n listen 127.0.0.1:{};\n client_max_body_size 1m;\n\
             limit_req zone=all burst=3 nodelay;\n limit_req_status 429;\n\
             location / {{ proxy_pass http://{upstream}; proxy_set_header Host $http_host; proxy_request_buffering off; }}\n}}\n",
            ports[0]
        )
    })
    .unwrap();
    let host = nginx.host(0);
    // As patient as the program is, in a hurry.
    let retries = Retries {
        first_wait: Duration::from_millis(200),
        longest_wait: Duration::from_secs(4),
        ..Retries::default()
    };
    let transport = Transport::new(&Options { retries, ..options() }).unwrap();
    let registry = Registry::new(transport, Credentials::default(), Routes::default());
    let image = large();
    registry.push(&image, &[reference(&format!("{host}/team/app:1"))], &Events::default()).unwrap();
    assert_eq!(server.image("team/app:1").unwrap().layers.len(), 2);
    let requests = nginx.requests();
    let count = |status: &str| requests.iter().filter(|line| line.contains(status)).count();
    assert!(count(" 413 ") > 0, "what is too large was refused: {requests:#?}");
    assert!(count(" 429 ") > 0, "what came too fast was refused: {requests:#?}");
    let dir = testkit::scratch_dir("pulled-").unwrap();
    server.pull("team/app:1", dir.path(), "x").expect("skopeo finds all blobs, and verifies them");
}
