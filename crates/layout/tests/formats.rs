//! Images written as files, judged by other programs: skopeo, umoci, GNU tar and the oci-spec crate.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at files and run the programs that judge them"
)]

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use ebiko_layout::{find_in_layout, read_archive, read_layout, write_archive, write_layout};
use ebiko_oci::{
    BytesBlob, ConfigEdit, Descriptor, DiffId, Digest, Image, ImageBuilder, ImageFormat, Layer,
    LayerCompression, Platform, Reference, Timestamp,
};

/// A layer with one file, stored as `compression` says.
fn layer(
    format: ImageFormat,
    compression: LayerCompression,
    name: &str,
    content: &[u8],
) -> (Layer, Vec<u8>) {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_size(content.len() as u64);
    header.set_mode(0o640);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, content).unwrap();
    let tar = builder.into_inner().unwrap();
    let diff_id = DiffId::of(&tar);
    let blob = match compression {
        LayerCompression::None => tar,
        LayerCompression::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&tar).unwrap();
            gzip.finish().unwrap()
        }
        LayerCompression::Zstd => unreachable!("no oracle here reads it"),
    };
    let descriptor =
        Descriptor::new(format.layer(compression), Digest::of(&blob), blob.len() as u64);
    let source = Arc::new(BytesBlob::new(blob.clone()));
    (Layer { descriptor, diff_id, blob: source }, blob)
}

/// Two layers, the first of them twice.
fn image(format: ImageFormat) -> Image {
    let (first, _) = layer(format, LayerCompression::Gzip, "hello", b"hello\n");
    let (second, _) = layer(format, LayerCompression::None, "plain", &[b'x'; 5000]);
    ImageBuilder::from_scratch(Platform::linux("amd64"), format)
        .layer(first.clone(), "COPY hello /")
        .layer(second, "COPY plain /")
        .layer(first, "COPY hello /")
        .edit(&ConfigEdit::Labels(vec![("a".into(), "b".into())]))
        .finish(Timestamp::from_seconds(1_600_000_000).unwrap())
}

/// An image whose layer is not what its descriptor says.
fn broken_image(size: u64) -> Image {
    let (mut layer, blob) = layer(ImageFormat::Oci, LayerCompression::Gzip, "a", b"a");
    layer.descriptor.size = size;
    let other = blob.iter().map(|byte| !byte).collect::<Vec<_>>();
    layer.blob = Arc::new(BytesBlob::new(other));
    ImageBuilder::from_scratch(Platform::linux("amd64"), ImageFormat::Oci)
        .layer(layer, "COPY a /")
        .finish(Timestamp::from_seconds(0).unwrap())
}

/// Runs a program of the distribution and returns what it printed.
#[track_caller]
fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} is not installed: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    output.stdout
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn references(names: &[&str]) -> Vec<Reference> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn file_names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn skopeo_finds_the_manifest_and_config_of_a_layout_as_they_are() {
    for format in [ImageFormat::Oci, ImageFormat::Docker] {
        let directory = tempfile::tempdir().unwrap();
        let image = image(format);
        write_layout(directory.path(), &image, &[]).unwrap();
        let source = format!("oci:{}", text(directory.path()));
        assert_eq!(run("skopeo", &["inspect", "--raw", &source]), image.manifest().bytes);
        let config = run("skopeo", &["inspect", "--raw", "--config", &source]);
        assert_eq!(config, image.config_bytes());
    }
}

#[test]
fn skopeo_reads_every_blob_of_a_layout() {
    let directory = tempfile::tempdir().unwrap();
    let image = image(ImageFormat::Oci);
    write_layout(&directory.path().join("in"), &image, &["v1"]).unwrap();
    let to = directory.path().join("out");
    let source = format!("oci:{}:v1", text(&directory.path().join("in")));
    run("skopeo", &["copy", "--quiet", &source, &format!("dir:{}", text(&to))]);
    assert_eq!(fs::read(to.join("manifest.json")).unwrap(), image.manifest().bytes);
    for layer in image.layers() {
        let blob = fs::read(to.join(layer.descriptor.digest.hex())).unwrap();
        assert_eq!(Digest::of(&blob), layer.descriptor.digest);
    }
}

#[test]
fn umoci_lists_and_unpacks_a_layout_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    write_layout(&layout, &image(ImageFormat::Oci), &["latest", "v1", "latest"]).unwrap();
    assert_eq!(run("umoci", &["ls", "--layout", text(&layout)]), b"latest\nv1\n");
    let bundle = directory.path().join("bundle");
    let name = format!("{}:v1", text(&layout));
    run("umoci", &["unpack", "--rootless", "--image", &name, text(&bundle)]);
    assert_eq!(fs::read(bundle.join("rootfs/hello")).unwrap(), b"hello\n");
    assert_eq!(fs::read(bundle.join("rootfs/plain")).unwrap(), [b'x'; 5000]);
}

#[test]
fn the_oci_crate_reads_a_layout() {
    let directory = tempfile::tempdir().unwrap();
    let image = image(ImageFormat::Oci);
    write_layout(directory.path(), &image, &[]).unwrap();
    let layout = oci_spec::image::OciLayout::from_file(directory.path().join("oci-layout"));
    assert_eq!(layout.unwrap().image_layout_version(), "1.0.0");
    let index = oci_spec::image::ImageIndex::from_file(directory.path().join("index.json"));
    let index = index.unwrap();
    assert_eq!(index.manifests().len(), 1);
    assert_eq!(index.manifests()[0].digest().to_string(), image.digest().to_string());
    assert_eq!(index.manifests()[0].annotations(), &None);
    let blob = directory.path().join("blobs/sha256").join(image.digest().hex());
    let manifest = oci_spec::image::ImageManifest::from_file(blob).unwrap();
    assert_eq!(manifest.layers().len(), 3);
}

#[test]
fn a_layout_that_is_written_again_names_only_the_new_image() {
    let directory = tempfile::tempdir().unwrap();
    write_layout(directory.path(), &image(ImageFormat::Docker), &["old"]).unwrap();
    let before = file_names(&directory.path().join("blobs/sha256"));
    let new = image(ImageFormat::Oci);
    write_layout(directory.path(), &new, &[]).unwrap();
    assert_eq!(read_layout(directory.path()).unwrap().digest(), new.digest());
    let after = file_names(&directory.path().join("blobs/sha256"));
    assert!(before.iter().all(|name| after.contains(name)), "other blobs stay");
    assert_eq!(file_names(directory.path()), ["blobs", "index.json", "oci-layout"]);
}

#[test]
fn a_stored_blob_with_wrong_content_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let image = image(ImageFormat::Oci);
    write_layout(directory.path(), &image, &[]).unwrap();
    let layer = &image.layers()[0].descriptor;
    let path = directory.path().join("blobs/sha256").join(layer.digest.hex());
    let content = fs::read(&path).unwrap();
    fs::write(&path, vec![0; content.len()]).unwrap();
    write_layout(directory.path(), &image, &[]).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content);
}

#[test]
fn a_failure_leaves_the_previous_index() {
    let directory = tempfile::tempdir().unwrap();
    let good = image(ImageFormat::Oci);
    write_layout(directory.path(), &good, &["v1"]).unwrap();
    let index = fs::read(directory.path().join("index.json")).unwrap();
    let blobs = file_names(&directory.path().join("blobs/sha256"));
    let whole = broken_image(1).layers()[0].descriptor.digest;
    for (size, expected) in [
        (1, format!("the blob {whole} should have 1 bytes, and has more")),
        (9999, format!("the blob {whole} should have 9999 bytes, and has ")),
    ] {
        let error = write_layout(directory.path(), &broken_image(size), &["v2"]).unwrap_err();
        assert!(error.source.to_string().starts_with(&expected), "{}", error.source);
        assert_eq!(fs::read(directory.path().join("index.json")).unwrap(), index);
        assert_eq!(file_names(&directory.path().join("blobs/sha256")), blobs);
    }
}

#[test]
fn an_image_read_from_a_layout_is_the_same_image() {
    for format in [ImageFormat::Oci, ImageFormat::Docker] {
        let directory = tempfile::tempdir().unwrap();
        let image = image(format);
        write_layout(directory.path(), &image, &["a", "b"]).unwrap();
        let again = read_layout(directory.path()).unwrap();
        assert_eq!(again.digest(), image.digest());
        assert_eq!(again.config(), image.config());
        let elsewhere = tempfile::tempdir().unwrap();
        write_layout(elsewhere.path(), &again, &["a", "b"]).unwrap();
        assert_eq!(
            fs::read(elsewhere.path().join("index.json")).unwrap(),
            fs::read(directory.path().join("index.json")).unwrap()
        );
    }
}

#[test]
fn an_image_is_found_in_a_layout_by_name_or_digest_or_because_it_is_the_only_one() {
    let directory = tempfile::tempdir().unwrap();
    let image = image(ImageFormat::Oci);
    write_layout(directory.path(), &image, &["a", "b"]).unwrap();
    let linux = Platform::linux("amd64");
    let find = |name: &str| {
        let found = find_in_layout(directory.path(), &name.parse().unwrap(), &linux);
        found.map(|found| found.digest).map_err(|error| error.source.to_string())
    };
    assert_eq!(find("x:a"), Ok(image.digest()));
    assert_eq!(find(&format!("x@{}", image.digest())), Ok(image.digest()));
    assert_eq!(find("x:c"), Err("it has no image of the name `c`".to_owned()));
    assert_eq!(find("x"), Err("it has no image of the name `latest`".to_owned()), "which one?");
    write_layout(directory.path(), &image, &[]).unwrap();
    assert_eq!(find("x"), Ok(image.digest()));
}

#[test]
fn a_layout_with_a_pipe_in_it_is_refused_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    write_layout(directory.path(), &image(ImageFormat::Oci), &["a"]).unwrap();
    let index = directory.path().join("index.json");
    fs::remove_file(&index).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&index).status().unwrap();
    assert!(made.success());
    let error = read_layout(directory.path()).unwrap_err();
    assert_eq!(error.source.to_string(), "cannot read `index.json`");
}

#[test]
fn a_layout_that_is_damaged_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let image = image(ImageFormat::Oci);
    write_layout(directory.path(), &image, &[]).unwrap();
    let blob = |digest: Digest| directory.path().join("blobs/sha256").join(digest.hex());
    let check = |expected: &str| {
        let error = read_layout(directory.path()).unwrap_err();
        assert_eq!(error.source.to_string(), expected);
    };

    let layer = blob(image.layers()[0].descriptor.digest);
    let content = fs::read(&layer).unwrap();
    fs::write(&layer, [content.as_slice(), b"tail"].concat()).unwrap();
    let read = read_layout(directory.path()).expect("layers are verified by whoever reads them");
    let copied = write_layout(&directory.path().join("copy"), &read, &[]).unwrap_err();
    assert!(copied.source.to_string().ends_with("and has more"), "{}", copied.source);

    let config = image.config_digest();
    fs::write(blob(config), "{}").unwrap();
    let actual = Digest::of(b"{}");
    check(&format!("the blob {config} has other content, whose digest is {actual}"));
    let index = directory.path().join("index.json");
    fs::write(&index, r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    check("it names 0 images, and exactly one is wanted");
    fs::remove_file(&index).unwrap();
    check("cannot read `index.json`");
    fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"2"}"#).unwrap();
    check("layout version `2` is not supported (only 1.0.0 is)");
}

#[test]
fn gnu_tar_lists_an_archive_as_kaniko_would_write_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    let image = image(ImageFormat::Docker);
    write_archive(&path, &image, &references(&["debian:12"])).unwrap();
    let listed = run("tar", &["--utc", "-tvf", text(&path)]);
    let listed = String::from_utf8(listed).unwrap();
    let members: Vec<Vec<&str>> =
        listed.lines().map(|line| line.split_whitespace().collect()).collect();
    let layers: Vec<String> =
        image.layers().iter().map(|layer| layer.descriptor.digest.hex()).collect();
    let names: Vec<&str> = members.iter().map(|member| member[5]).collect();
    assert_eq!(
        names,
        [
            image.config_digest().to_string(),
            format!("{}.tar.gz", layers[0]),
            format!("{}.tar", layers[1]),
            "manifest.json".to_owned(),
        ]
    );
    for member in &members {
        assert_eq!(member[..2], ["-rw-r--r--", "0/0"]);
        assert_eq!(member[3..5], ["1970-01-01", "00:00"]);
    }
    let manifest = run("tar", &["-xOf", text(&path), "manifest.json"]);
    assert_eq!(
        json(&manifest),
        serde_json::json!([{
            "Config": image.config_digest().to_string(),
            "RepoTags": ["debian:12"],
            "Layers": [names[1], names[2], names[1]],
        }])
    );
}

#[test]
fn names_in_an_archive_are_those_that_docker_shows() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    let digest = Digest::of(b"x");
    for (names, expected) in [
        (&["busybox"][..], serde_json::json!(["busybox:latest"])),
        (&["index.docker.io/library/a:1", "me/a:1"], serde_json::json!(["a:1", "me/a:1"])),
        (&["localhost:5000/x/y:v1"], serde_json::json!(["localhost:5000/x/y:v1"])),
        (&["a:1", "docker.io/library/a:1"], serde_json::json!(["a:1"])),
        (&[&format!("a:1@{digest}")], serde_json::json!(["a:1"])),
        (&[&format!("a@{digest}")], serde_json::Value::Null),
        (&[], serde_json::Value::Null),
    ] {
        write_archive(&path, &image(ImageFormat::Docker), &references(names)).unwrap();
        let manifest = run("tar", &["-xOf", text(&path), "manifest.json"]);
        assert_eq!(json(&manifest)[0]["RepoTags"], expected, "{names:?}");
    }
}

#[test]
fn skopeo_finds_config_and_layers_in_an_archive() {
    for format in [ImageFormat::Docker, ImageFormat::Oci] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.tar");
        let image = image(format);
        write_archive(&path, &image, &references(&["localhost:5000/a:v1", "b"])).unwrap();
        let source = format!("docker-archive:{}:localhost:5000/a:v1", text(&path));
        let config = run("skopeo", &["inspect", "--raw", "--config", &source]);
        assert_eq!(config, image.config_bytes());
        let to = directory.path().join("oci");
        let target = format!("oci:{}:copied", text(&to));
        run("skopeo", &["copy", "--quiet", &source, &target]);
        let copied = read_layout(&to).unwrap();
        assert_eq!(copied.config().rootfs.diff_ids, image.config().rootfs.diff_ids);
    }
}

#[test]
fn the_same_image_gives_the_same_archive() {
    let directory = tempfile::tempdir().unwrap();
    let names = references(&["a:1"]);
    let write = |name: &str| {
        let path = directory.path().join(name);
        write_archive(&path, &image(ImageFormat::Docker), &names).unwrap();
        fs::read(path).unwrap()
    };
    assert_eq!(write("first.tar"), write("second.tar"));
}

#[test]
fn no_half_written_archive_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    write_archive(&path, &broken_image(9999), &[]).unwrap_err();
    assert_eq!(file_names(directory.path()), Vec::<String>::new());
    write_archive(&path, &image(ImageFormat::Docker), &[]).unwrap();
    let before = fs::read(&path).unwrap();
    let error = write_archive(&path, &broken_image(1), &[]).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot write the image to `{}`", text(&path)));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(file_names(directory.path()), ["image.tar"]);
}

#[test]
fn an_archive_can_be_written_to_a_pipe() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    run("mkfifo", &[text(&pipe)]);
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || {
            let mut bytes = Vec::new();
            fs::File::open(pipe).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        }
    });
    let image = image(ImageFormat::Docker);
    write_archive(&pipe, &image, &[]).unwrap();
    let file = directory.path().join("file.tar");
    write_archive(&file, &image, &[]).unwrap();
    assert_eq!(reader.join().unwrap(), fs::read(file).unwrap());
}

#[test]
fn an_image_read_from_an_archive_is_the_same_image() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    let image = image(ImageFormat::Docker);
    write_archive(&path, &image, &references(&["a:1"])).unwrap();
    let again = read_archive(&path).unwrap();
    assert_eq!(again.digest(), image.digest());
    let copy = directory.path().join("copy.tar");
    write_archive(&copy, &again, &references(&["a:1"])).unwrap();
    assert_eq!(fs::read(copy).unwrap(), fs::read(path).unwrap());
}

#[test]
fn an_archive_that_skopeo_wrote_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    let image = image(ImageFormat::Docker);
    write_layout(&layout, &image, &[]).unwrap();
    let path = directory.path().join("image.tar");
    let target = format!("docker-archive:{}:a:1", text(&path));
    run("skopeo", &["copy", "--quiet", &format!("oci:{}", text(&layout)), &target]);
    let read = read_archive(&path).unwrap();
    assert_eq!(read.config_digest(), image.config_digest());
    let layers: Vec<(String, DiffId)> = read
        .layers()
        .iter()
        .map(|layer| (layer.descriptor.media_type.to_string(), layer.diff_id))
        .collect();
    let plain = ImageFormat::Docker.layer(LayerCompression::None).to_string();
    let diff_ids = image.layers().iter().map(|layer| layer.diff_id);
    assert_eq!(layers, diff_ids.map(|id| (plain.clone(), id)).collect::<Vec<_>>());
    for layer in read.layers() {
        assert_eq!(layer.descriptor.digest.hex(), layer.diff_id.hex(), "skopeo stores plain tars");
    }
}

#[test]
fn an_archive_that_is_not_one_image_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    let check = |members: &[(&str, &str)], expected: &str| {
        let mut builder = tar::Builder::new(fs::File::create(&path).unwrap());
        for (name, content) in members {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        builder.finish().unwrap();
        let error = read_archive(&path).unwrap_err();
        assert_eq!(error.source.to_string(), expected);
    };
    check(&[("x", "")], "it has no `manifest.json`");
    check(&[("manifest.json", "{")], "`manifest.json` is not valid JSON of its kind");
    check(&[("manifest.json", "[]")], "it holds 0 images, and exactly one is wanted");
    check(
        &[("manifest.json", r#"[{"Config":"a"},{"Config":"b"}]"#)],
        "it holds 2 images, and exactly one is wanted",
    );
    check(
        &[("manifest.json", r#"[{"Config":"../../etc/passwd"}]"#)],
        "it has no `../../etc/passwd`",
    );
    check(
        &[("manifest.json", r#"[{"Config":"c","Layers":["l"]}]"#), ("c", "{}"), ("l", "BZh9")],
        "the layer `l` is compressed in a way that is not supported",
    );
    fs::write(&path, b"\x1f\x8b").unwrap();
    let error = read_archive(&path).unwrap_err();
    assert_eq!(
        error.source.to_string(),
        "it is not a tar: it ends in the middle of the member at byte 0"
    );
}
