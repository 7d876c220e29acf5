//! What is about an image, at registries that know of that and at one that does not: Debian's `docker-registry`.

#[path = "../../transport/tests/server/mod.rs"]
mod server;
mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ebiko_oci::{
    BlobSource, BytesBlob, Descriptor, Digest, ImageFormat, ImageTree, ManifestBytes, MediaType,
    TreeError, TreeSource,
};
use ebiko_registry::Routes;
use serde_json::{Value, json};
use server::{Answer, Received, Server, answer};
use support::{Events, chain, client, image, reference};
use testkit::Registry as Real;

/// Blobs and manifests by their digests.
#[derive(Default)]
struct Store(BTreeMap<Digest, Vec<u8>>);

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("it is not there")]
    Missing,
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl TreeSource for Store {
    type Error = Failure;

    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Failure> {
        self.0.get(&descriptor.digest).cloned().ok_or(Failure::Missing)
    }

    fn blob(&mut self, descriptor: &Descriptor) -> Result<Arc<dyn BlobSource>, Failure> {
        Ok(Arc::new(BytesBlob::new(self.manifest(descriptor)?)))
    }
}

/// An image with a document and a signature, which has no artifact type but that of its config.
fn tree() -> ImageTree {
    let image = image(ImageFormat::Oci, "linux/amd64");
    let mut store = Store::default();
    let mut keep = |bytes: &[u8]| {
        store.0.insert(Digest::of(bytes), bytes.to_vec());
        Digest::of(bytes)
    };
    for layer in image.layers() {
        let mut bytes = Vec::new();
        let mut reader = layer.blob.open().expect("it is in memory");
        std::io::copy(&mut reader, &mut bytes).expect("it is in memory");
        keep(&bytes);
    }
    keep(image.config_bytes());
    let root = image.manifest().clone();
    let mut about = Vec::new();
    for (kind, artifact) in [("application/a", Some("text/plain")), ("application/b", None)] {
        let config = json!({"mediaType": kind, "digest": keep(b"{}"), "size": 2});
        let text = kind.as_bytes();
        let layer = json!({"mediaType": "text/plain", "digest": keep(text), "size": text.len()});
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::OciManifest.to_string(),
            "config": config,
            "layers": [layer],
            "subject": {
                "mediaType": root.media_type.to_string(),
                "digest": root.digest,
                "size": root.bytes.len(),
            },
            "annotations": {"kind": kind},
        });
        if let Some(artifact) = artifact {
            manifest["artifactType"] = artifact.into();
        }
        let bytes = manifest.to_string().into_bytes();
        about.push(Descriptor::new(MediaType::OciManifest, keep(&bytes), bytes.len() as u64));
    }
    let mut tree = ImageTree::collect(root, &mut store).expect("everything is there");
    for descriptor in &about {
        tree.add_referrer(descriptor, &mut store).expect("everything is there");
    }
    tree
}

fn get(host: &str, path: &str) -> Option<(String, Vec<u8>)> {
    let registry = client("{}", Routes::default());
    let name = reference(&format!("{host}/app:{path}"));
    let found = registry.fetch_tree(&name).ok()?;
    let ManifestBytes { media_type, bytes, .. } = found.root;
    Some((media_type.to_string(), bytes))
}

#[test]
fn a_registry_that_keeps_no_lists_gets_one_under_a_tag() {
    let real = Real::builder().start().expect("docker-registry starts");
    let tree = tree();
    let list = format!("sha256-{}", tree.root.digest.hex());
    let push = || {
        let registry = client("{}", Routes::default());
        let destination = reference(&real.reference("app:1"));
        registry
            .push_tree(&tree, &[destination], &Events::default())
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
    };
    push();
    let (media_type, bytes) = get(&real.host(), &list).expect("the list is there");
    assert_eq!(media_type, MediaType::OciIndex.to_string());
    let index: Value = serde_json::from_slice(&bytes).expect("it is JSON");
    let lines: Vec<Value> = tree
        .referrers
        .iter()
        .zip([("text/plain", "application/a"), ("application/b", "application/b")])
        .map(|(referrer, (artifact, kind))| {
            json!({
                "mediaType": MediaType::OciManifest.to_string(),
                "digest": referrer.manifest.digest,
                "size": referrer.manifest.bytes.len(),
                "annotations": {"kind": kind},
                "artifactType": artifact,
            })
        })
        .collect();
    assert_eq!(index["manifests"], json!(lines));
    assert_eq!(get(&real.host(), "1").expect("the image is there").1, tree.root.bytes);
    // What is listed is not listed twice.
    push();
    assert_eq!(get(&real.host(), &list).expect("the list is there").1, bytes);
}

#[test]
fn what_somebody_else_has_under_the_tag_of_a_list_stays() {
    let real = Real::builder().start().expect("docker-registry starts");
    let tree = tree();
    let list = format!("sha256-{}", tree.root.digest.hex());
    let registry = client("{}", Routes::default());
    let taken = reference(&format!("{}/app:{list}", real.host()));
    let other = image(ImageFormat::Oci, "linux/arm64");
    registry.push(&other, &[taken], &Events::default()).expect("it is pushed");
    let destination = reference(&real.reference("app:1"));
    let error = registry.push_tree(&tree, &[destination], &Events::default());
    let error = chain(&error.expect_err("there is no place for the list"));
    assert!(error.contains(&format!("what is under `{list}` is no list of referrers")), "{error}");
    assert_eq!(get(&real.host(), &list).expect("it is there").1, other.manifest().bytes);
    assert!(get(&real.host(), "1").is_none(), "nothing has a tag that lacks what belongs to it");
}

/// A registry that has all blobs and takes all manifests; `also` may answer in its place.
fn scripted(
    also: impl Fn(&Received) -> Option<Answer> + Send + Sync + 'static,
) -> (Server, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    let server = Server::start(move |request| {
        let line = request.line();
        if line.contains("/manifests/") || line.contains("/referrers/") {
            seen.lock().expect("nobody panicked").push(line);
        }
        also(request).unwrap_or_else(|| match &*request.method {
            "HEAD" | "GET" if request.target.contains("/blobs/") => answer(200),
            "GET" if request.target == "/v2/" => answer(200),
            "PUT" => answer(201),
            _ => answer(404),
        })
    });
    (server, lines)
}

/// The digests that are sent, by what they are, in the order of the requests.
fn sent(lines: &Mutex<Vec<String>>, tree: &ImageTree) -> Vec<String> {
    let name = |line: &String| {
        let mut line = line.replace("/v2/app/", "");
        line = line.replace(&tree.root.digest.to_string(), "ROOT");
        line = line.replace(&format!("sha256-{}", tree.root.digest.hex()), "LIST");
        for (number, referrer) in tree.referrers.iter().enumerate() {
            line = line.replace(&referrer.manifest.digest.to_string(), &format!("ABOUT{number}"));
        }
        line
    };
    lines.lock().expect("nobody panicked").iter().map(name).collect()
}

fn push(server: &Server, tree: &ImageTree) -> Result<(), String> {
    let destination = reference(&format!("{}/app:1", server.host()));
    let registry = client("{}", Routes::default());
    registry.push_tree(tree, &[destination], &Events::default()).map_err(|error| chain(&error))
}

#[test]
fn a_registry_that_says_that_it_knows_gets_no_list() {
    let tree = tree();
    let root = tree.root.digest.to_string();
    let (server, lines) = scripted(move |request| {
        let body: Value = serde_json::from_slice(&request.body).ok()?;
        let is_about = request.method == "PUT" && body["subject"]["digest"] == *root;
        is_about.then(|| answer(201).header("OCI-Subject", &*root))
    });
    push(&server, &tree).expect("it is pushed");
    assert_eq!(
        sent(&lines, &tree),
        ["PUT manifests/ROOT", "PUT manifests/ABOUT0", "PUT manifests/ABOUT1", "PUT manifests/1"]
    );
}

#[test]
fn a_registry_that_answers_who_is_about_an_image_gets_no_list_either() {
    let tree = tree();
    let (server, lines) = scripted(|request| {
        let empty = r#"{"schemaVersion":2,"manifests":[]}"#;
        let is_question = request.target.contains("/referrers/");
        let kind = "application/vnd.oci.image.index.v1+json";
        is_question.then(|| answer(200).header("Content-Type", kind).body(empty))
    });
    push(&server, &tree).expect("it is pushed");
    assert_eq!(
        sent(&lines, &tree)[1..],
        ["PUT manifests/ABOUT0", "PUT manifests/ABOUT1", "GET referrers/ROOT", "PUT manifests/1"]
    );
}

#[test]
fn a_list_that_cannot_be_read_is_not_written_over() {
    let tree = tree();
    let (server, lines) = scripted(|request| {
        let is_list = request.method == "GET" && request.target.contains("/manifests/sha256-");
        is_list.then(|| answer(400).body("no"))
    });
    let error = push(&server, &tree).expect_err("who knows what is there");
    assert!(error.contains("cannot read the list of referrers `sha256-"), "{error}");
    let sent = sent(&lines, &tree);
    assert_eq!(sent.last().map(String::as_str), Some("GET manifests/LIST"), "{sent:?}");
}
