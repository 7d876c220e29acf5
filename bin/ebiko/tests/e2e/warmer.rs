//! Base images on a volume: the warmer, and builds that find them there.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use testkit::base::busybox;
use testkit::oracle::two_platforms;
use testkit::{Output, Registry, Sandbox};

use crate::bench::Bench;

/// The program under the name of the warmer, in a sandbox, with a registry that has busybox and an index of two platforms.
struct Warmer {
    sandbox: Sandbox,
    registry: Registry,
    // The link to the program goes with it.
    _directory: tempfile::TempDir,
}

impl Warmer {
    fn new() -> Self {
        let directory = testkit::scratch_dir("warmer-").unwrap();
        let program = directory.path().join("warmer");
        symlink(env!("CARGO_BIN_EXE_ebiko"), &program).unwrap();
        let base = busybox().unwrap();
        let registry = Registry::builder().image(base.clone()).start().unwrap();
        let both = directory.path().join("both");
        two_platforms(&base.layout(), &both).unwrap();
        registry.push(&format!("oci:{}:image", both.display()), "library/both:1", "oci").unwrap();
        Self { sandbox: Sandbox::new(program), registry, _directory: directory }
    }

    fn run(&self, flags: &[&str]) -> Output {
        let host = self.registry.host();
        let mut command = vec!["--cache-dir=cache".to_owned()];
        command
            .extend([format!("--registry-mirror={host}"), format!("--insecure-registry={host}")]);
        command.extend(flags.iter().map(|&flag| flag.to_owned()));
        self.sandbox.ebiko(command)
    }

    /// The entries of the directory: digests and what stands beside them.
    fn entries(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.sandbox.path("cache")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn layers_fetched(&self) -> usize {
        let requests = self.registry.requests();
        requests.iter().filter(|line| line.starts_with("GET") && line.contains("/blobs/")).count()
    }
}

#[test]
fn images_and_those_of_a_dockerfile_are_warmed_once() {
    let warmer = Warmer::new();
    warmer.sandbox.write(
        "Dockerfile",
        "ARG BASE=nothing\nFROM $BASE AS build\nFROM scratch\nCOPY --from=build /a /a\n\
         COPY --from=busybox /bin /bin\nFROM build\n",
    );
    let flags = ["-i=busybox", "--dockerfile=Dockerfile", "--build-arg=BASE=both:1"];
    warmer.run(&flags).assert_success();
    let digest = warmer.registry.image("library/busybox:latest").unwrap().manifest_digest.unwrap();
    let entries = warmer.entries();
    assert!(entries.contains(&digest), "{entries:?}");
    let images = entries.iter().filter(|name| name.starts_with("sha256:")).count();
    assert_eq!(images, 2, "{entries:?}");
    for name in [".warmer-indexes", ".warmer-locks", ".warmer-records"] {
        assert!(entries.iter().any(|entry| entry == name), "{entries:?}");
    }
    // skopeo says whether it is a layout.
    let entry = warmer.sandbox.path("entry");
    // To it, a colon in a path begins a tag.
    symlink(warmer.sandbox.path("cache").join(&digest), &entry).unwrap();
    testkit::oracle::skopeo_inspect(&format!("oci:{}", entry.display())).unwrap();

    let fetched = warmer.layers_fetched();
    let again = warmer.run(&flags).assert_success();
    assert!(again.stderr.contains("is there"), "{again}");
    // Configs, of which two belong to the two images.
    assert_eq!(warmer.layers_fetched(), fetched + 2, "no layer is fetched again");
    let forced = warmer.run(&[&flags[..], &["--force"]].concat()).assert_success();
    assert!(forced.stderr.contains("stored"), "{forced}");
    assert_eq!(warmer.layers_fetched(), fetched + 2 + 4);
}

#[test]
fn only_if_all_images_fail_the_warmer_fails() {
    let warmer = Warmer::new();
    let some = warmer.run(&["-i", "busybox", "-i", "missing:1", "-i", "scratch"]).assert_success();
    assert!(some.stderr.contains("cannot warm missing:1"), "{some}");
    assert!(some.stderr.contains("1 of 2 images could not be warmed"), "{some}");
    let all = warmer.run(&["-i", "missing:1", "-i", "missing:2", "-i", "Wrong"]);
    assert_eq!(all.code, 1, "{all}");
    assert!(all.stderr.contains("missing:2") && all.stderr.contains("`Wrong` is not"), "{all}");
    assert!(all.stderr.contains("none of 3 images"), "{all}");
    let none = warmer.run(&[]);
    assert!(none.code == 1 && none.stderr.contains("--image"), "{none}");
}

#[test]
fn the_platform_is_chosen_out_of_an_index() {
    let warmer = Warmer::new();
    for flag in ["--customPlatform=linux/arm64", "--custom-platform=linux/arm64"] {
        let output = warmer.run(&["-i=both:1", flag]).assert_success();
        assert!(output.stderr.contains("both:1 for linux/arm64"), "{output}");
    }
    let none = warmer.run(&["-i=both:1", "--custom-platform=linux/s390x"]);
    assert!(none.code == 1 && none.stderr.contains("linux/s390x"), "{none}");
}

/// Warms `images` into `out/cache` of the bench.
fn warm(bench: &Bench, images: &[&str]) -> PathBuf {
    let directory = testkit::scratch_dir("warmer-").unwrap();
    let program = directory.path().join("warmer");
    symlink(env!("CARGO_BIN_EXE_ebiko"), &program).unwrap();
    let cache = bench.out("cache");
    let host = bench.registry.host();
    let mut flags = vec![
        format!("--cache-dir={}", cache.display()),
        format!("--registry-mirror={host}"),
        format!("--insecure-registry={host}"),
    ];
    flags.extend(images.iter().map(|image| format!("--image={image}")));
    Sandbox::new(program).ebiko(flags).assert_success();
    cache
}

const CACHE: [&str; 3] = ["--cache", "--cache-repo=oci:/out/layers", "--no-push-cache"];

#[test]
fn privileged_layers_of_a_base_come_from_the_directory_which_is_only_read() {
    let bench = Bench::new();
    let cache = warm(&bench, &["busybox"]);
    let before = bench.registry.requests().len();
    let pod = bench.pod().bind_read_only(&cache, "/cache");
    let flags = [&CACHE[..], &["--no-push", "--tar-path=/out/image.tar"]].concat();
    bench
        .build_in(&pod, "FROM busybox\nRUN test -d /bin && echo 1 > /1\n", &flags)
        .assert_success();
    let requests = bench.registry.requests().split_off(before);
    assert!(!requests.iter().any(|line| line.contains("/blobs/")), "{requests:#?}");
    let manifests = requests.iter().filter(|line| line.contains("/manifests/")).count();
    assert_eq!(manifests, 1, "what the tag stands for is asked once: {requests:#?}");

    // Layers that are somewhere on that registry are mounted and not sent.
    let before = bench.registry.requests().len();
    let destination = format!("--destination={}", bench.registry.reference("team/app:1"));
    let from = bench.registry.reference("library/busybox");
    warm(&bench, &[&from]);
    bench
        .build_in(
            &pod,
            &format!("FROM {from}\nCOPY Dockerfile /\n"),
            &[&CACHE[..], &[&*destination]].concat(),
        )
        .assert_success();
    let requests = bench.registry.requests().split_off(before);
    assert!(
        requests.iter().any(|line| line.contains("mount=") && line.ends_with(" 201")),
        "{requests:#?}"
    );
}

#[test]
fn privileged_a_warmed_build_needs_no_registry() {
    let mut bench = Bench::new();
    let from = bench.registry.reference("library/busybox");
    let digest = bench.registry.image("library/busybox:latest").unwrap().manifest_digest.unwrap();
    let cache = warm(&bench, &[&from]);
    // From now on another registry is there, and nobody at the address of the first.
    bench.registry = Registry::builder().start().unwrap();
    let pod = bench.pod().bind_read_only(&cache, "/cache");
    let flags = [&CACHE[..], &["--no-push", "--tar-path=/out/image.tar"]].concat();
    let tag = bench.build_in(&pod, &format!("FROM {from}\nRUN echo 1 > /1\n"), &flags);
    assert!(tag.stderr.contains(&format!("is taken for {digest}")), "{tag}");
    tag.assert_success();
    let pinned = bench.build_in(&pod, &format!("FROM {from}@{digest}\nRUN echo 1 > /1\n"), &flags);
    assert!(!pinned.stderr.contains("warning"), "{pinned}");
    pinned.assert_success();
    let without = bench.build_in(&pod, &format!("FROM {from}\nENV A=1\n"), &["--no-push"]);
    assert_eq!(without.code, 1, "only with --cache: {without}");
    let expired = [&flags[..], &["--cache-ttl=0s"]].concat();
    let late = bench.build_in(&pod, &format!("FROM {from}\nENV A=1\n"), &expired);
    assert_eq!(late.code, 1, "{late}");
}

#[test]
fn privileged_a_damaged_entry_is_told_and_its_layer_is_found_when_it_is_unpacked() {
    let bench = Bench::new();
    let image = bench.registry.image("library/busybox:latest").unwrap();
    let cache = warm(&bench, &["busybox"]);
    let entry = cache.join(image.manifest_digest.as_ref().unwrap()).join("blobs/sha256");
    let damage = |digest: &str| {
        let path = entry.join(digest.trim_start_matches("sha256:"));
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
    };
    let pod = bench.pod().bind_read_only(&cache, "/cache");
    let flags = [&CACHE[..], &["--no-push"]].concat();
    damage(&image.layers[0]);
    let layer = bench.build_in(&pod, "FROM busybox\nRUN echo must not run\n", &flags);
    assert_eq!((layer.code, layer.stdout.as_str()), (1, ""), "{layer}");
    assert!(layer.stderr.contains(&image.layers[0]), "{layer}");
    damage(&image.config_digest());
    let config = bench.build_in(&pod, "FROM busybox\nRUN echo runs\n", &flags).assert_success();
    assert!(config.stderr.contains("cannot be used"), "{config}");
    assert_eq!(config.stdout, "runs\n");
}

#[test]
fn privileged_a_directory_that_is_not_there_or_is_not_asked_for_changes_nothing() {
    let bench = Bench::new();
    let flags = [&CACHE[..], &["--no-push", "--cache-dir=/nowhere"]].concat();
    bench.build("FROM busybox\nRUN test ! -e /nowhere\n", &flags).assert_success();
    let output = bench
        .build("FROM busybox\nENV A=1\n", &["--no-push", "--cache-dir=/nowhere", "-v=debug"])
        .assert_success();
    assert!(output.stderr.contains("`--cache-dir without --cache` changes nothing"), "{output}");
}
