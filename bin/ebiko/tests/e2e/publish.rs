//! Commands that publish without building: `push` and `index create`.

use std::process::Command;

use testkit::base::{BaseImage, busybox};
use testkit::command::capture;
use testkit::oracle::two_platforms;
use testkit::{Auth, Output, Registry, Sandbox};

/// The program in a sandbox, and a registry.
struct Publisher {
    sandbox: Sandbox,
    registry: Registry,
    base: BaseImage,
}

impl Publisher {
    fn new() -> Self {
        let base = busybox().unwrap();
        let registry = Registry::builder().image(base.clone()).start().unwrap();
        Self { sandbox: Sandbox::new(env!("CARGO_BIN_EXE_ebiko")), registry, base }
    }

    fn push(&self, path: &str, name: &str) -> Output {
        let destination = format!("--destination={}", self.registry.reference(name));
        self.sandbox.ebiko(["push", path, &destination, "--digest-file=digest"])
    }

    /// What skopeo reads under a name, as it is.
    fn raw(&self, name: &str) -> Vec<u8> {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "inspect", "--raw", "--tls-verify=false"]);
        capture(command.arg(format!("docker://{}", self.registry.reference(name)))).unwrap()
    }

    /// Pushes the images of two platforms to repositories of their own.
    fn push_platforms(&self) -> [String; 2] {
        let both = self.sandbox.path("both");
        two_platforms(&self.base.layout(), &both).unwrap();
        let source = format!("oci:{}:image", both.display());
        ["amd64", "arm64"].map(|architecture| {
            let name = self.registry.reference(&format!("part/{architecture}:1"));
            let mut command = Command::new("skopeo");
            command.args(["--insecure-policy", "copy", "--dest-tls-verify=false"]);
            command.args([format!("--override-arch={architecture}"), source.clone()]);
            capture(command.arg(format!("docker://{name}"))).unwrap();
            name
        })
    }
}

fn sum(bytes: &[u8], publisher: &Publisher) -> String {
    publisher.sandbox.write("sum", bytes);
    let output = capture(Command::new("sha256sum").arg(publisher.sandbox.path("sum"))).unwrap();
    format!("sha256:{}", String::from_utf8(output).unwrap().split(' ').next().unwrap())
}

#[test]
fn a_layout_and_an_archive_of_it_are_pushed_with_their_digest() {
    let publisher = Publisher::new();
    two_platforms(&publisher.base.layout(), &publisher.sandbox.path("both")).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(publisher.sandbox.path("both")).arg("-cf");
    capture(tar.arg(publisher.sandbox.path("both.tar")).arg(".")).unwrap();
    let index: serde_json::Value =
        serde_json::from_str(&publisher.sandbox.read("both/index.json")).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    for (path, name) in [("both", "layout:1"), ("both.tar", "archive:1")] {
        publisher.push(path, name).assert_success();
        assert_eq!(publisher.sandbox.read("digest"), digest);
        assert_eq!(sum(&publisher.raw(name), &publisher), digest, "{path}");
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--all", "--src-tls-verify=false"]);
        command.arg(format!("docker://{}", publisher.registry.reference(name)));
        let copy = publisher.sandbox.path(format!("copy-{path}"));
        capture(command.arg(format!("oci:{}:all", copy.display()))).unwrap();
    }
}

#[test]
fn a_docker_archive_is_pushed_under_every_destination() {
    let publisher = Publisher::new();
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy", &publisher.base.source()]);
    let archive = publisher.sandbox.path("image.tar");
    capture(command.arg(format!("docker-archive:{}:a/b:1", archive.display()))).unwrap();
    let (one, two) = (publisher.registry.reference("one:1"), publisher.registry.reference("two:2"));
    let output = publisher.sandbox.ebiko([
        "push",
        "image.tar",
        &format!("-d={one}"),
        "-d",
        &two,
        "--digest-file=deep/digest",
        "--image-name-with-digest-file=names",
        "--image-name-tag-with-digest-file=tags",
    ]);
    output.assert_success();
    let image = publisher.registry.image("one:1").unwrap();
    assert_eq!(image.layers.len(), 1);
    let digest = image.manifest_digest.unwrap();
    assert_eq!(publisher.registry.image("two:2").unwrap().manifest_digest.as_ref(), Some(&digest));
    assert_eq!(publisher.sandbox.read("deep/digest"), digest);
    assert_eq!(publisher.sandbox.read("tags"), format!("{one}@{digest}\n{two}@{digest}\n"));
    let name = |text: &str| text.rsplit_once(':').unwrap().0.to_owned();
    let expected = format!("{}@{digest}\n{}@{digest}\n", name(&one), name(&two));
    assert_eq!(publisher.sandbox.read("names"), expected);
}

/// As `cargo xtask images` writes a layout: an image with documents about it.
#[test]
fn the_documents_of_a_layout_are_pushed_with_its_image() {
    let publisher = Publisher::new();
    let layout = publisher.sandbox.path("layout");
    capture(Command::new("cp").arg("-a").arg(publisher.base.layout()).arg(&layout)).unwrap();
    let mut index: serde_json::Value =
        serde_json::from_str(&publisher.sandbox.read("layout/index.json")).unwrap();
    let image = index["manifests"][0].clone();
    let write = |bytes: &[u8], kind: &str| {
        let digest = sum(bytes, &publisher);
        publisher.sandbox.write(format!("layout/blobs/{}", digest.replace(':', "/")), bytes);
        serde_json::json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/spdx+json",
        "config": write(b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": [write(b"{\"parts\":[]}", "application/spdx+json")],
        "subject": {
            "mediaType": image["mediaType"], "digest": image["digest"], "size": image["size"],
        },
    });
    let about =
        write(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json");
    let digest = about["digest"].as_str().unwrap().to_owned();
    index["manifests"].as_array_mut().unwrap().push(about);
    publisher.sandbox.write("layout/index.json", index.to_string());

    let output = publisher.push("layout", "app:1").assert_success();
    assert!(output.stderr.contains("and a manifest about it"), "{output}");
    let image = image["digest"].as_str().unwrap();
    assert_eq!(publisher.sandbox.read("digest"), image);
    assert_eq!(sum(&publisher.raw("app:1"), &publisher), image);
    // docker-registry keeps no lists, so there is a tag for who looks for documents.
    let list: serde_json::Value =
        serde_json::from_slice(&publisher.raw(&format!("app:{}", image.replace(':', "-"))))
            .unwrap();
    assert_eq!(list["manifests"][0]["digest"], digest);
    assert_eq!(list["manifests"][0]["artifactType"], "application/spdx+json");
    // skopeo reads the document and all that belongs to it.
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy", "--all", "--src-tls-verify=false"]);
    command.arg(format!("docker://{}/app@{digest}", publisher.registry.host()));
    let copy = publisher.sandbox.path("copy");
    capture(command.arg(format!("oci:{}:document", copy.display()))).unwrap();
}

#[test]
fn what_cannot_be_pushed_is_named_with_the_reason() {
    let publisher = Publisher::new();
    publisher.sandbox.write("text", "no image");
    publisher.sandbox.write("empty/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    publisher.sandbox.write("empty/index.json", r#"{"schemaVersion":2,"manifests":[]}"#);
    for (path, reason) in [
        ("missing", "No such file or directory"),
        ("text", "it is not a tar"),
        ("empty", "it names 0 images"),
    ] {
        let output = publisher.push(path, "x:1");
        assert_eq!(output.code, 1, "{output}");
        assert!(output.stderr.contains(path) && output.stderr.contains(reason), "{output}");
        assert!(!publisher.sandbox.exists("digest"), "nothing is written");
    }
    let pinned = format!("--destination=x@sha256:{}", "0".repeat(64));
    let output = publisher.sandbox.ebiko(["push", "text", &pinned]);
    assert!(output.code == 1 && output.stderr.contains("has a digest"), "{output}");
}

#[test]
fn a_destination_that_may_not_be_pushed_to_is_found_out_before_anything_is_read_or_written() {
    let publisher = Publisher::new();
    let auth = Auth::Basic { user: "joe", password: "pass:word" };
    let closed = Registry::builder().auth(auth).start().unwrap();
    let destination = format!("--destination={}", closed.reference("x:1"));
    let image = publisher.registry.reference("library/busybox:latest");
    for command in [&["push", "missing"][..], &["index", "create", &image]] {
        let flags = [&*destination, "--digest-file=digest"];
        let output = publisher.sandbox.ebiko([command, &flags].concat());
        assert_eq!(output.code, 1, "{output}");
        assert!(output.stderr.contains("the repository would not take it"), "{output}");
        assert!(!publisher.sandbox.exists("digest"), "{output}");
        let flags = [&flags[..], &["--skip-push-permission-check"]].concat();
        let output = publisher.sandbox.ebiko([command, &flags].concat());
        assert!(output.code == 1 && !output.stderr.contains("would not take it"), "{output}");
    }
}

#[test]
fn images_of_two_platforms_become_one_index() {
    let publisher = Publisher::new();
    let [amd, arm] = publisher.push_platforms();
    let name = publisher.registry.reference("app:1");
    let create = |images: &[&str]| {
        let mut command = vec!["index", "create", "-d", &*name, "--annotation=team=a=b"];
        command.extend(["--digest-file=digest", "--image-name-tag-with-digest-file=tags"]);
        command.extend(images);
        publisher.sandbox.ebiko(command)
    };
    let output = create(&[&amd, &arm]).assert_success();
    let bytes = publisher.raw("app:1");
    let digest = sum(&bytes, &publisher);
    assert_eq!(publisher.sandbox.read("digest"), digest);
    assert_eq!(publisher.sandbox.read("tags"), format!("{name}@{digest}\n"));
    assert!(
        output.stderr.contains(&format!("Pushed {}@{digest}", name.trim_end_matches(":1"))),
        "{output}"
    );
    let index: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(index["annotations"]["team"], "a=b");
    assert_eq!(index["manifests"][1]["platform"]["architecture"], "arm64");
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);

    let again = create(&[&amd, &arm, &arm]);
    assert_eq!(again.code, 1, "{again}");
    assert!(again.stderr.contains("it is for linux/arm64"), "{again}");
    let missing = create(&[&publisher.registry.reference("none:1")]);
    assert!(missing.code == 1 && missing.stderr.contains("none:1"), "{missing}");
}
