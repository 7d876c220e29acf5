//! How layers are stored, and who can read them: skopeo and umoci as a whole, containers/storage file by file.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testkit::base::busybox;
use testkit::command::run_for;
use testkit::oracle::unpack;
use testkit::{Registry, Tree, listing};

use crate::bench::{Bench, host};

/// A base with OCI media types, files of several chunks, and one of everything that a layer may hold.
const DOCKERFILE: &str = "FROM oci-busybox\n\
    COPY tree /tree\n\
    RUN cd /tree && rm sub/f1 && rm -r gone && ln sub/f2 hard && ln -s sub/f3 link && mknod null c 1 3 && mkfifo pipe && \
        chown 12:34 sub/f4 && chmod 4755 sub/f5 && mkdir -m 1777 sticky && : > empty && \
        touch -h -d @1600000000 hard link null pipe sticky empty sub/f4 sub/f5 sub .\n";

/// A bench whose registry has busybox with OCI media types, and with Docker's.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.registry.push(&busybox().unwrap().source(), "library/oci-busybox:latest", "oci").unwrap();
    let tree = (0..200).fold(Tree::new(), |tree, index| {
        tree.file(format!("tree/sub/f{index}"), format!("file {index}\n").repeat(index))
    });
    let large: String = (0..1_300_000).map(|number: u32| number.to_string() + "\n").collect();
    bench.tree(&tree.file("tree/large", large).file("tree/gone/deep/file", "x"));
    bench
}

/// The manifest of what a build pushed.
fn manifest(registry: &Registry, name: &str) -> Value {
    serde_json::from_slice(&registry.image(name).unwrap().manifest.unwrap()).unwrap()
}

fn media_types(manifest: &Value) -> Vec<String> {
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["mediaType"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn push(bench: &Bench, dockerfile: &str, name: &str, extra: &[&str]) -> testkit::PodOutput {
    let destination = format!("--destination={}", bench.registry.reference(name));
    bench.build(dockerfile, &[&[destination.as_str()], extra].concat()).assert_success()
}

const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

#[test]
fn privileged_every_compression_gives_the_same_files() {
    let bench = bench();
    push(&bench, DOCKERFILE, "x:gzip", &[]);
    let root = |name: &str| {
        let unpacked = unpack(&format!("docker://{}", bench.registry.reference(name))).unwrap();
        without_own(&listing(&unpacked.root()).unwrap())
    };
    let layers = |name: &str| Pulled::pull(&bench.registry, name, false).layers(true);
    let (expected, expected_layers) = (root("x:gzip"), layers("x:gzip"));
    assert!(expected.contains("tree/hard") && !expected.contains("tree/gone"), "{expected}");
    for (kind, tag, suffix) in [
        ("none", "none", ""),
        ("zstd", "zstd", "+zstd"),
        ("estargz", "estargz", "+gzip"),
        ("zstd:chunked", "chunked", "+zstd"),
    ] {
        let name = format!("x:{tag}");
        push(&bench, DOCKERFILE, &name, &[&format!("--compression={kind}")]);
        let types = media_types(&manifest(&bench.registry, &name));
        // The base's layer stays as it is.
        let new = format!("{OCI_LAYER}{suffix}");
        assert_eq!(types, [format!("{OCI_LAYER}+gzip"), new.clone(), new], "{kind}");
        let found: Vec<String> = layers(&name).iter().map(|layer| without_own(layer)).collect();
        assert_same(&found, &expected_layers, kind);
        // Debian's umoci knows no zstd.
        if suffix != "+zstd" {
            assert_same(&[root(&name)], std::slice::from_ref(&expected), kind);
        }
    }
}

/// A listing without the two files that are in an eStargz layer besides the image's.
fn without_own(listing: &str) -> String {
    let own = |line: &&str| {
        !line.contains(".no.prefetch.landmark ") && !line.contains("stargz.index.json ")
    };
    listing.lines().filter(own).map(|line| line.to_owned() + "\n").collect()
}

/// Says in which line listings differ.
#[track_caller]
fn assert_same(found: &[String], expected: &[String], what: &str) {
    for (found, expected) in found.iter().zip(expected) {
        for (found, expected) in found.lines().zip(expected.lines()) {
            assert_eq!(found, expected, "{what}");
        }
    }
    assert_eq!(found, expected, "{what}");
}

/// What skopeo makes of an image in a storage of its own, where it may fetch parts of layers: a directory for each layer, and
/// what it says.
struct Pulled {
    dir: tempfile::TempDir,
    messages: String,
}

impl Pulled {
    fn pull(registry: &Registry, name: &str, in_parts: bool) -> Self {
        let dir = testkit::scratch_dir("storage-").unwrap();
        let path = |name: &str| dir.path().join(name);
        let config = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n[storage.options]\n\
             pull_options = {{enable_partial_images = \"{in_parts}\", use_hard_links = \"false\", ostree_repos = \"\"}}\n",
            path("root").display(),
            path("run").display()
        );
        std::fs::write(path("storage.conf"), config).unwrap();
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--debug", "--insecure-policy", "copy", "--src-tls-verify=false"]);
        skopeo.arg(format!("docker://{}", registry.reference(name)));
        skopeo.arg("containers-storage:localhost/pulled:1");
        skopeo.env("CONTAINERS_STORAGE_CONF", path("storage.conf"));
        skopeo.env("XDG_CACHE_HOME", path("cache")).env("HOME", dir.path());
        let output = run_for(&mut skopeo, std::time::Duration::from_mins(2)).unwrap();
        assert_eq!(output.code, 0, "{}", output.stderr);
        Self { dir, messages: output.stderr }
    }

    /// The files of each layer, base first.
    fn layers(&self, with_owners_and_times: bool) -> Vec<String> {
        let storage = self.dir.path().join("root");
        let layers = std::fs::read(storage.join("overlay-layers/layers.json")).unwrap();
        let layers: Vec<Value> = serde_json::from_slice(&layers).unwrap();
        // Each names the one beneath it.
        let mut ordered: Vec<String> = Vec::new();
        while let Some(next) = layers
            .iter()
            .find(|layer| layer["parent"].as_str() == ordered.last().map(String::as_str))
        {
            ordered.push(next["id"].as_str().unwrap().to_owned());
        }
        let files_of = |id: &String| {
            files(&storage.join("overlay").join(id).join("diff"), with_owners_and_times)
        };
        ordered.iter().map(files_of).collect()
    }
}

/// Everything beneath a directory: kind, mode, names, target, what is in files, and owners and times if they are wanted. What
/// stands for a removal has none of its own.
fn files(dir: &Path, with_owners_and_times: bool) -> String {
    let more = if with_owners_and_times { "%U:%G %T@" } else { "" };
    let list = format!(
        "find . -mindepth 1 \\( -type c -links 1 -size 0 ! -name null -printf 'removed %p\\n' \\) -o \
         \\( -type f -printf '%p %m {more} ' -exec sha256sum {{}} \\; \\) -o \
         -printf '%p %y %m {more} %l\\n' | LC_ALL=C sort"
    );
    host("sh", &["-c", &list], dir)
}

impl Drop for Pulled {
    fn drop(&mut self) {
        // The driver leaves its directory mounted on itself; nothing is there if it was not.
        let _not_mounted =
            Command::new("umount").arg(self.dir.path().join("root/overlay")).output();
    }
}

/// How often ranges of blobs, and whole blobs, were fetched.
fn fetched(registry: &Registry, name: &str) -> (usize, usize) {
    let prefix = format!("GET /v2/{name}/blobs/");
    let requests = registry.requests();
    let count = |status: &str| {
        requests.iter().filter(|line| line.starts_with(&prefix) && line.ends_with(status)).count()
    };
    (count(" 206"), count(" 200"))
}

#[test]
fn privileged_containers_storage_fetches_parts_of_an_estargz_layer() {
    let bench = bench();
    push(&bench, DOCKERFILE, "plain:1", &[]);
    push(&bench, DOCKERFILE, "seekable:1", &["--compression=estargz"]);
    check_parts(&bench);
}

#[test]
fn privileged_containers_storage_fetches_parts_of_a_zstd_chunked_layer() {
    let bench = bench();
    push(&bench, DOCKERFILE, "plain:1", &[]);
    push(&bench, DOCKERFILE, "first:1", &["--compression=zstd:chunked"]);
    // Debian's containers/storage is so old that the annotations have other names there.
    let layout = bench.out("layout");
    bench.registry.pull("first:1", &layout, "image").unwrap();
    let renamed = bench.out("renamed");
    testkit::oracle::edited(&layout, &renamed, |_, layers| {
        for layer in layers.as_array_mut().unwrap() {
            let Some(annotations) = layer["annotations"].as_object() else { continue };
            let old = |name: &String| name.replacen("io.github.containers.", "io.containers.", 1);
            let pairs = annotations.iter().map(|(name, value)| (old(name), value.clone()));
            layer["annotations"] = Value::Object(pairs.collect());
        }
    })
    .unwrap();
    bench.registry.push(&format!("oci:{}:image", renamed.display()), "seekable:1", "oci").unwrap();
    check_parts(&bench);
}

/// `plain:1` and `seekable:1` give the same files, and of the second one only ranges are fetched, but for the base and the
/// config.
#[track_caller]
fn check_parts(bench: &Bench) {
    let plain = Pulled::pull(&bench.registry, "plain:1", true);
    assert_eq!(fetched(&bench.registry, "plain").0, 0);
    let seekable = Pulled::pull(&bench.registry, "seekable:1", true);
    let retrieved = "Retrieved partial blob";
    assert_eq!(seekable.messages.matches(retrieved).count(), 2, "{}", seekable.messages);
    let (parts, wholes) = fetched(&bench.registry, "seekable");
    assert!(parts >= 4, "table and files of two layers: {parts}");
    assert_eq!(wholes, 2, "the config and the layer of the base");
    // Where it fetches parts, Debian's containers/storage restores neither owners nor times. Devices and pipes are left out by
    // that of today, too.
    let restored = |layers: Vec<String>| {
        let special = |line: &&str| !line.contains("/null c ") && !line.contains("/pipe p ");
        let only = |layer: String| layer.lines().filter(special).collect::<Vec<_>>().join("\n");
        layers.into_iter().map(only).collect::<Vec<_>>()
    };
    let (expected, found) = (restored(plain.layers(false)), restored(seekable.layers(false)));
    assert_eq!(expected.len(), 3);
    assert!(expected[2].contains("tree/hard"), "{}", expected[2]);
    assert_same(&found, &expected, "in parts");
}

#[test]
fn privileged_a_docker_base_has_no_zstd_and_no_estargz() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox\nRUN echo 1 > /f\n";
    for kind in ["zstd", "zstd:chunked"] {
        let output = push(&bench, dockerfile, "x:1", &[&format!("--compression={kind}")]);
        assert!(output.stderr.contains("which know no Zstandard"), "{output}");
        assert_eq!(media_types(&manifest(&bench.registry, "x:1")), [DOCKER_GZIP, DOCKER_GZIP]);
    }
    let output = bench.build(dockerfile, &["--no-push", "--compression=estargz"]);
    assert_eq!(output.code, 1, "{output}");
    assert!(
        output
            .stderr
            .contains("estargz needs those of OCI\nhint: leave `--compression=estargz` out"),
        "{output}"
    );
    let flags = ["--no-push", "--tar-path=/out/x.tar", "--compression=zstd"];
    let output = bench.build("FROM scratch\nCOPY Dockerfile /\n", &flags);
    assert_eq!(output.code, 1, "{output}");
    assert!(output.stderr.contains("`--oci-layout-path` takes it"), "{output}");
}

#[test]
fn privileged_a_level_that_is_higher_makes_layers_smaller() {
    let bench = bench();
    let size = |level: &str| {
        push(
            &bench,
            "FROM scratch\nCOPY tree /\n",
            "x:1",
            &[&format!("--compression-level={level}")],
        );
        manifest(&bench.registry, "x:1")["layers"][0]["size"].as_u64().unwrap()
    };
    let (default, fast, small) = (size("-1"), size("1"), size("9"));
    assert!(default == fast && small < fast, "{default} {fast} {small}");
}

#[test]
fn privileged_flags_that_change_nothing_are_accepted_and_said() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox\nRUN echo 1 > /f && touch -d @1600000000 /f && rm /etc/group\n";
    let digest = |flags: &[&str]| {
        let output = bench.build_in(
            &bench.pod().env("SOURCE_DATE_EPOCH", crate::bench::EPOCH),
            dockerfile,
            &[&["--no-push", "--rewrite-timestamp", "--digest-file=/out/digest", "-vdebug"], flags]
                .concat(),
        );
        (bench.read("digest"), output.assert_success().stderr)
    };
    let (expected, _) = digest(&[]);
    let flags = ["--use-new-run", "--compressed-caching=false"];
    let (found, messages) = digest(&flags);
    assert_eq!(found, expected);
    for flag in ["`--use-new-run` changes nothing", "`--compressed-caching` changes nothing"] {
        assert!(messages.contains(flag), "{messages}");
    }
}

#[test]
fn privileged_var_run_is_in_the_image_unless_it_is_ignored() {
    let bench = Bench::new();
    let dockerfile =
        "FROM busybox\nRUN mkdir -p /var/run/app && echo 1 > /var/run/app/pid && echo 2 > /kept\n";
    for (flags, is_in) in [
        (&[][..], true),
        (&["--ignore-var-run=false"], true),
        (&["--whitelist-var-run=false"], true),
        (&["--ignore-var-run=true"], false),
        (&["--ignore-var-run"], false),
        (&["--whitelist-var-run=true"], false),
    ] {
        let layer = bench.archive(dockerfile, flags).last_layer();
        assert_eq!(layer.contains("run/app/pid"), is_in, "{flags:?}\n{layer}");
        assert!(layer.contains(" kept\n"), "{flags:?}\n{layer}");
    }
}

#[test]
fn privileged_what_the_pod_has_in_var_run_is_in_no_image() {
    let bench = Bench::new();
    std::fs::create_dir(bench.out("token")).unwrap();
    std::fs::write(bench.out("token/token"), "secret").unwrap();
    let pod = bench
        .pod()
        .bind_read_only(bench.out("token"), "/var/run/secrets/kubernetes.io/serviceaccount");
    let flags = ["--no-push", "--tar-path=/out/image.tar"];
    bench.build_in(&pod, "FROM busybox\nRUN echo 1 > /var/run/mine\n", &flags).assert_success();
    let layers = testkit::oracle::docker_archive_layers(&bench.out("image.tar")).unwrap();
    let layer = layers.last().unwrap();
    assert!(layer.contains("run/mine") && !layer.contains("secrets"), "{layer}");
}

/// Everything that may be young in an image: files, directories, config, history.
const YOUNG: &str = "COPY tree /tree\nRUN echo 1 > /made && mkdir /made-too && rm -r /tree/gone && date > /dev/null\n\
                     WORKDIR /elsewhere\nENV A=1\n";

#[test]
fn privileged_reproducible_gives_one_digest_on_any_day_and_any_number_of_processors() {
    let bench = bench();
    for (base, format) in [("busybox", "docker"), ("oci-busybox", "oci")] {
        let dockerfile = format!("FROM {base}\n{YOUNG}");
        let base = registry_layers(&bench, base);
        for compression in
            ["gzip", "estargz"].iter().filter(|kind| format == "oci" || **kind == "gzip")
        {
            let build = |pod: testkit::Pod, extra: &[&str]| {
                let destination = format!("--destination={}", bench.registry.reference("x:1"));
                let kind = format!("--compression={compression}");
                let flags =
                    [&[&destination, "--reproducible", &kind, "--digest-file=/out/digest"], extra]
                        .concat();
                bench.build_in(&pod, &dockerfile, &flags).assert_success();
                bench.read("digest")
            };
            let first = build(bench.pod().cpus(1.0), &[]);
            // Times have seconds.
            std::thread::sleep(std::time::Duration::from_millis(1100));
            assert_eq!(build(bench.pod(), &[]), first, "on all processors, later");
            let image = manifest(&bench.registry, "x:1");
            let media_type = image["mediaType"].as_str().unwrap();
            assert!(media_type.contains(format), "{media_type}");
            assert_eq!(image["layers"][0]["digest"], base[0], "the base's layer is as it was");
            let config = bench.registry.image("x:1").unwrap().config_json();
            assert_eq!(config["created"], "1970-01-01T00:00:00Z");
            let last = config["history"].as_array().unwrap().last().unwrap().clone();
            assert_eq!(last["created"], "1970-01-01T00:00:00Z");

            let given = build(bench.pod(), &["--source-date-epoch=1700000000"]);
            assert_ne!(given, first);
            let config = bench.registry.image("x:1").unwrap().config_json();
            assert_eq!(config["created"], "2023-11-14T22:13:20Z");
            assert_eq!(build(bench.pod().cpus(1.0), &["--source-date-epoch=1700000000"]), given);
        }
    }
}

/// The digests of the layers of a base in the bench's registry.
fn registry_layers(bench: &Bench, base: &str) -> Vec<Value> {
    let image = bench.registry.image(&format!("library/{base}:latest")).unwrap();
    image.layers.into_iter().map(|digest| json!(digest)).collect()
}

#[test]
fn privileged_reproducible_makes_no_file_of_a_new_layer_younger_than_the_image() {
    let bench = bench();
    let dockerfile = format!("FROM busybox\n{YOUNG}RUN touch -d @-5 /before\n");
    for (flags, expected) in [
        (&["--reproducible"][..], "1970-01-01 00:00:00"),
        (&["--reproducible", "--source-date-epoch=86400"], "1970-01-02 00:00:00"),
    ] {
        let flags = [&["--no-push", "--tar-path=/out/image.tar"], flags].concat();
        bench.build(&dockerfile, &flags).assert_success();
        let archive = bench.out("image.tar");
        let layers = testkit::oracle::docker_archive_layers_with_times(&archive).unwrap();
        for layer in &layers[1..] {
            for line in
                layer.lines().filter(|line| !line.contains("/.wh.") && !line.ends_with(" before"))
            {
                assert!(line.contains(expected), "{flags:?}: {line}");
            }
        }
        assert!(layers.last().unwrap().contains("1969-12-31 23:59:55 before"), "older ones stay");
    }
}
