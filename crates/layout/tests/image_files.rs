//! What a path may hold: archives and layouts of this crate, of skopeo and of GNU tar, and what is wrong with others.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at files and run the programs that make them"
)]

mod support;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ebiko_layout::{ImageFileKind, read_image_file, write_archive, write_layout};
use ebiko_oci::{Digest, Image, ImageTree, ManifestBytes};
use support::{chain, image, index, reference};

/// Writes a layout of an index with two images.
fn write_both(directory: &Path) -> (ManifestBytes, [Image; 2]) {
    let images = ["linux/amd64", "linux/arm64"].map(image);
    for image in &images {
        write_layout(directory, image, &[]).unwrap();
    }
    let index = index(&images.each_ref());
    fs::write(blob(directory, index.digest), &index.bytes).unwrap();
    let entry = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{}","size":{}}}]}}"#,
        index.media_type,
        index.digest,
        index.bytes.len()
    );
    fs::write(directory.join("index.json"), entry).unwrap();
    (index, images)
}

fn blob(directory: &Path, digest: Digest) -> PathBuf {
    directory.join("blobs/sha256").join(digest.hex())
}

fn tar(directory: &Path, archive: &Path) {
    let mut tar = Command::new("tar");
    let status = tar.arg("-C").arg(directory).arg("-cf").arg(archive).arg(".").status();
    assert!(status.unwrap().success());
}

fn error(path: &Path) -> String {
    let error = chain(&read_image_file(path).unwrap_err());
    error.replace(&*path.to_string_lossy(), "PATH")
}

/// Reads every blob to its end.
fn read_all(tree: &ImageTree) -> Result<u64, String> {
    let mut size = 0;
    for blob in &tree.blobs {
        let mut reader = blob.source.open().map_err(|error| chain(&*error))?;
        size += std::io::copy(&mut reader, &mut std::io::sink()).map_err(|error| chain(&error))?;
    }
    Ok(size)
}

#[test]
fn an_index_in_a_layout_keeps_its_digest_and_everything_beneath_it() {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    let (index, images) = write_both(&layout);
    let archive = directory.path().join("layout.tar");
    tar(&layout, &archive);
    for (path, expected) in
        [(&layout, ImageFileKind::Layout), (&archive, ImageFileKind::LayoutArchive)]
    {
        let (kind, tree) = read_image_file(path).unwrap();
        assert_eq!((kind, &tree.root), (expected, &index));
        let beneath: Vec<_> = tree.beneath.iter().map(|manifest| manifest.digest).collect();
        assert_eq!(beneath, [images[0].digest(), images[1].digest()]);
        assert_eq!(tree.blobs.len(), 6);
        read_all(&tree).unwrap();
    }
}

#[test]
fn an_image_in_a_docker_archive_keeps_its_layers() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (directory.path().join("ours.tar"), directory.path().join("theirs.tar"));
    let image = image("linux/amd64");
    write_archive(&ours, &image, &[reference("app:1")]).unwrap();
    let copied = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "-q"])
        .arg(format!("docker-archive:{}", ours.display()))
        .arg(format!("docker-archive:{}:app:1", theirs.display()))
        .status();
    assert!(copied.unwrap().success());
    for path in [&ours, &theirs] {
        let (kind, tree) = read_image_file(path).unwrap();
        assert_eq!(kind, ImageFileKind::DockerArchive);
        let digests: Vec<_> = tree.blobs.iter().map(|blob| blob.descriptor.digest).collect();
        let layers = image.layers().iter().map(|layer| layer.descriptor.digest);
        assert_eq!(digests[..2], layers.collect::<Vec<_>>());
        assert!(tree.beneath.is_empty());
        read_all(&tree).unwrap();
    }
}

#[test]
fn a_tar_that_is_both_is_read_as_a_docker_archive() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, archive) = (directory.path().join("layout"), directory.path().join("both.tar"));
    let image = image("linux/amd64");
    write_layout(&layout, &image, &[]).unwrap();
    let blob = |digest: Digest| format!("blobs/sha256/{}", digest.hex());
    let layers = image.layers().iter().map(|layer| blob(layer.descriptor.digest));
    let manifest = serde_json::json!([{
        "Config": blob(image.config_digest()),
        "RepoTags": ["app:1"],
        "Layers": layers.collect::<Vec<_>>(),
    }]);
    fs::write(layout.join("manifest.json"), manifest.to_string()).unwrap();
    // What newer versions of Docker leave: an index that names more than is there.
    fs::write(layout.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    tar(&layout, &archive);
    let (kind, tree) = read_image_file(&archive).unwrap();
    assert_eq!((kind, tree.blobs.len()), (ImageFileKind::DockerArchive, 3));
}

#[test]
fn what_is_not_one_image_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    let check = |expected: &str| {
        let error = error(&path);
        assert!(error.starts_with("cannot read an image from `PATH`: "), "{error}");
        assert!(error.contains(expected), "{error}");
    };
    check("cannot look at it: No such file or directory");
    fs::create_dir(&path).unwrap();
    check("cannot read `oci-layout`");
    let (index, images) = write_both(&path);
    fs::remove_file(blob(&path, images[1].digest())).unwrap();
    check(&format!("it has no blob {}", images[1].digest()));
    fs::write(blob(&path, index.digest), "{}").unwrap();
    check("has other content");
    write_both(&path);
    fs::write(blob(&path, images[0].layers()[1].descriptor.digest), "short").unwrap();
    check("should have 17 bytes, and has 5");
    fs::write(path.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    check("it names 0 images, and exactly one is wanted");

    fs::remove_dir_all(&path).unwrap();
    fs::write(&path, "no tar at all").unwrap();
    check("it is not a tar");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&[0; 5000]).unwrap();
    fs::write(&path, [gzip.finish().unwrap(), vec![0; 600]].concat()).unwrap();
    check("it is compressed; decompress it first");
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    tar(&empty, &path);
    check("neither `manifest.json` nor `oci-layout`");
    fs::remove_file(&path).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    check("it is neither a file nor a directory");
    drop(socket);
}

#[test]
fn a_blob_with_other_content_ends_with_an_error_that_names_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let (_, images) = write_both(directory.path());
    let digest = images[0].layers()[0].descriptor.digest;
    fs::write(blob(directory.path(), digest), "below LINUX/amd64").unwrap();
    let (_, tree) = read_image_file(directory.path()).unwrap();
    let error = read_all(&tree).unwrap_err();
    let file = blob(directory.path(), digest);
    assert!(error.contains(&*file.to_string_lossy()), "{error}");
    assert!(error.contains("has other content, whose digest is"), "{error}");
}

/// Writes a manifest about `subject` into a layout and returns its line for `index.json`.
fn write_about(directory: &Path, subject: Digest, text: &str) -> (Digest, String) {
    let document = Digest::of(text.as_bytes());
    fs::write(blob(directory, document), text).unwrap();
    fs::write(blob(directory, Digest::of(b"{}")), "{}").unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "text/plain",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": Digest::of(b"{}"),
            "size": 2,
        },
        "layers": [{"mediaType": "text/plain", "digest": document, "size": text.len()}],
        "subject": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": subject,
            "size": 1,
        },
    })
    .to_string();
    let digest = Digest::of(manifest.as_bytes());
    fs::write(blob(directory, digest), &manifest).unwrap();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    (digest, format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{}}}"#, manifest.len()))
}

#[test]
fn what_is_about_an_image_goes_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path();
    let (index, images) = write_both(layout);
    let kind = &index.media_type;
    let root = format!(
        r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#,
        index.digest,
        index.bytes.len()
    );
    let list = |lines: &[&str]| {
        let lines = lines.join(",");
        fs::write(
            layout.join("index.json"),
            format!(r#"{{"schemaVersion":2,"manifests":[{lines}]}}"#),
        )
        .unwrap();
    };
    let (one, one_line) = write_about(layout, index.digest, "about all of it");
    let (two, two_line) = write_about(layout, images[1].digest(), "about a part");
    let (deep, deep_line) = write_about(layout, one, "about a document");
    // In whatever order they are listed, each comes after what it is about.
    list(&[&deep_line, &two_line, &root, &one_line, &one_line]);
    let (_, tree) = read_image_file(layout).unwrap();
    assert_eq!(tree.root, index);
    let about: Vec<_> = tree.referrers.iter().map(|it| (it.manifest.digest, it.subject)).collect();
    assert_eq!(about, [(two, images[1].digest()), (one, index.digest), (deep, one)]);
    assert_eq!(tree.blobs.len(), 6 + 3 + 1, "three documents, and one empty config");
    read_all(&tree).unwrap();

    list(&[&one_line]);
    assert_eq!(read_image_file(layout).unwrap().1.root.digest, one, "it is alone there");
    let (stray, stray_line) = write_about(layout, Digest::of(b"gone"), "about nothing");
    list(&[&root, &stray_line]);
    assert!(error(layout).contains(&format!("{stray} is about nothing that is there")));
    list(&[&one_line, &two_line]);
    assert!(error(layout).contains("it names 2 images, and exactly one is wanted"));
    let first = images[0].manifest();
    let image_line = format!(
        r#"{{"mediaType":"{}","digest":"{}","size":{}}}"#,
        first.media_type,
        first.digest,
        first.bytes.len()
    );
    list(&[&root, &image_line, &one_line]);
    assert!(error(layout).contains("it names 2 images, and exactly one is wanted"));
}
