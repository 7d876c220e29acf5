//! The command lines with which other systems start kaniko, word for word, in pods as small as theirs.
//!
//! Each front end has one test, or one part of a test, with its name: those that hand words to the executor are in [`words`],
//! those that bring a script and need a shell in [`scripts`]. Harness and Drone have a program of their own, `kaniko-docker`, and
//! with it a file of their own: `harness.rs`. What else the image with a shell must be able to do is in `own_image.rs`, and the
//! YAML of the guides is run by `deployment.rs`.

mod scripts;
mod words;

use testkit::base::busybox;
use testkit::oracle::{docker_archive_layers, tar_entries};
use testkit::{Auth, Pod, PodOutput, Registry, RegistryBuilder};

use crate::bench::Bench;

/// A file of a RUN and one of a COPY, and nothing else.
const DOCKERFILE: &str = "FROM busybox AS app\nARG A=0\nRUN echo \"$A\" > /a\nCOPY Dockerfile /d\n";

const MEMORY: u64 = 500 << 20;
const CPUS: f64 = 0.4;

/// A bench whose registry wants a login for everything, so that a front end's way to give one is part of its test.
fn bench() -> Bench {
    bench_with(Registry::builder())
}

fn bench_with(builder: RegistryBuilder) -> Bench {
    let auth = Auth::Basic { user: "joe", password: "pass:word" };
    let registry = builder.auth(auth).image(busybox().unwrap()).start().unwrap();
    let bench = Bench::with_registry(registry);
    bench.write("Dockerfile", DOCKERFILE);
    bench
}

/// What pods of these systems have: limits, and a mirror of Docker Hub, which the lines themselves do not name.
fn limited(bench: &Bench, pod: Pod) -> Pod {
    pod.memory(MEMORY).cpus(CPUS).env("KANIKO_REGISTRY_MIRROR", &bench.registry.host())
}

/// Runs `/kaniko/executor` with these words, where `<IMAGE>` is a repository of the bench and `<HOST>` its registry.
#[track_caller]
fn run(bench: &Bench, pod: &Pod, words: &[&str]) -> PodOutput {
    pod.run(command(bench, words)).unwrap().assert_success()
}

fn command(bench: &Bench, words: &[&str]) -> Vec<String> {
    let (image, host) = (bench.registry.reference("team/app"), bench.registry.host());
    let words = words.iter().map(|word| word.replace("<IMAGE>", &image).replace("<HOST>", &host));
    std::iter::once("/kaniko/executor".to_owned()).chain(words).collect()
}

/// The digest of a pushed image that has the files of the Dockerfile beside its base, and nothing of the container's.
#[track_caller]
fn pushed(bench: &Bench, tag: &str) -> String {
    let image = bench.registry.image(&format!("team/app:{tag}")).unwrap();
    let layers = image.layers.iter().map(|layer| tar_entries(&bench.registry.blob(layer)).unwrap());
    assert_files(&layers.collect::<Vec<_>>());
    image.manifest_digest.unwrap()
}

/// As [`pushed`], of what is in `/out`.
#[track_caller]
fn archived(bench: &Bench, name: &str) {
    assert_files(&docker_archive_layers(&bench.out(name)).unwrap());
}

#[track_caller]
fn assert_files(layers: &[String]) {
    let own = layers[1..].iter().flat_map(|layer| layer.lines());
    let names: Vec<&str> = own.filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(names, ["a", "d"], "{layers:#?}");
}
