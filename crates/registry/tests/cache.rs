//! A layer cache in a repository of a real registry.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests arrange files on the host, and what fails there fails the test"
)]

mod support;

use ebiko_oci::{Digest, ImageFormat, LayerCache};
use ebiko_registry::Routes;
use testkit::{Auth, Registry as Server};

use crate::support::{chain, client, contents, image, reference};

const AUTHS: [Auth; 3] = [
    Auth::Anonymous,
    Auth::Basic { user: "joe", password: "pass:word" },
    Auth::Token { user: "joe", password: "pass:word" },
];

#[test]
fn what_is_kept_is_found_by_its_key_and_nothing_else_is() {
    for auth in AUTHS {
        let server = Server::builder().auth(auth).start().unwrap();
        let repository = reference(&server.reference("team/cache"));
        let image = image(ImageFormat::Oci, "linux/amd64");
        let (key, other) = (Digest::of(b"key"), Digest::of(b"other"));
        let cache = client(&server.docker_config(), Routes::default()).cache(&repository);
        assert!(cache.find(&key).unwrap().is_none(), "there is no such repository: {auth:?}");
        cache.keep(&key, &image).unwrap();

        let cache = client(&server.docker_config(), Routes::default()).cache(&repository);
        assert!(cache.find(&other).unwrap().is_none());
        let found = cache.find(&key).unwrap().unwrap();
        assert_eq!(found.digest(), image.digest());
        assert_eq!(contents(&found), contents(&image));
        let lost = server.blob(&image.layers()[1].descriptor.digest.to_string());
        std::fs::remove_dir_all(lost.parent().unwrap()).unwrap();
        let error = cache.find(&key).unwrap_err().to_string();
        assert!(error.contains("is no longer in"), "{error}");
    }
}

#[test]
fn who_may_not_read_is_told_so_and_who_may_not_write_too() {
    let server = Server::builder().auth(AUTHS[1]).start().unwrap();
    let repository = reference(&server.reference("team/cache"));
    let cache = client("{}", Routes::default()).cache(&repository);
    let key = Digest::of(b"key");
    let error = cache.find(&key).unwrap_err();
    let error = chain(&*error);
    assert!(error.contains("team/cache") && error.contains("without credentials"), "{error}");
    assert!(cache.keep(&key, &image(ImageFormat::Oci, "linux/amd64")).is_err());
}
