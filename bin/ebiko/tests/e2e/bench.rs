//! What every test needs: an executor image, a registry with base images, a context, a place for outputs.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::base::{BaseImage, busybox};
use testkit::oracle::{docker_archive_layers, docker_archive_layers_with_times};
use testkit::{Executor, ImageFacts, Pod, PodOutput, Registry, RegistryBuilder, Tree};

/// What builds that are repeated take for the time: 2023-11-14 22:13:20 UTC.
pub(crate) const EPOCH: &str = "1700000000";

/// The context is `/workspace`, read-only; `/out` is for what the build writes. Both are kept until the bench goes.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) registry: Registry,
    pub(crate) executor: Executor,
    dir: tempfile::TempDir,
}

impl Bench {
    /// An open registry that has busybox.
    pub(crate) fn new() -> Self {
        Self::with(&[busybox().unwrap()])
    }

    /// An open registry that has these images.
    pub(crate) fn with(images: &[BaseImage]) -> Self {
        let builder = images.iter().cloned().fold(Registry::builder(), RegistryBuilder::image);
        Self::with_registry(builder.start().unwrap())
    }

    pub(crate) fn with_registry(registry: Registry) -> Self {
        let dir = testkit::scratch_dir("bench-").unwrap();
        for name in ["context", "out"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { registry, executor: Executor::new().unwrap(), dir }
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.dir.path().join("context")
    }

    /// A path below what the pod has as `/out`.
    pub(crate) fn out(&self, name: &str) -> PathBuf {
        self.dir.path().join("out").join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.out(name))
            .unwrap_or_else(|error| panic!("cannot read `{name}`: {error}"))
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        self.tree(&Tree::new().file(path, content));
    }

    pub(crate) fn tree(&self, tree: &Tree) {
        tree.write_to(&self.context()).unwrap();
    }

    /// Copies a program of the host and its libraries into the context's `tools`, and returns how to start it from `/tools`.
    pub(crate) fn tool(&self, program: &str) -> String {
        let tools = self.context().join("tools");
        std::fs::create_dir_all(&tools).unwrap();
        let libraries = host("ldd", &[program], &tools);
        let mut loader = None;
        for file in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            let name = Path::new(file).file_name().unwrap().to_str().unwrap();
            if name.starts_with("ld-") {
                loader = Some(name.to_owned());
            }
            std::fs::copy(file, tools.join(name)).unwrap();
        }
        let name = Path::new(program).file_name().unwrap().to_str().unwrap();
        std::fs::copy(program, tools.join(name)).unwrap();
        format!("/tools/{} --library-path /tools /tools/{name}", loader.unwrap())
    }

    /// An ordinary root pod with the context and the place for outputs.
    pub(crate) fn pod(&self) -> Pod {
        self.mounted(self.executor.pod())
    }

    /// Any pod with the same mounts.
    pub(crate) fn mounted(&self, pod: Pod) -> Pod {
        pod.bind_read_only(self.context(), "/workspace").bind(self.out(""), "/out")
    }

    /// The flags that every build here has: where the context is, and that Docker Hub is the registry of this bench.
    pub(crate) fn flags(&self, extra: &[&str]) -> Vec<String> {
        let host = self.registry.host();
        let mut flags = vec![
            "--context=dir:///workspace".to_owned(),
            format!("--registry-mirror={host}"),
            format!("--insecure-registry={host}"),
        ];
        flags.extend(extra.iter().map(|&flag| flag.to_owned()));
        flags
    }

    /// Writes the Dockerfile and builds it in `pod`.
    #[must_use = "an output that nobody looks at tests nothing"]
    pub(crate) fn build_in(&self, pod: &Pod, dockerfile: &str, extra: &[&str]) -> PodOutput {
        self.write("Dockerfile", dockerfile);
        let command = [vec!["/kaniko/executor".to_owned()], self.flags(extra)].concat();
        pod.run(command).unwrap()
    }

    #[must_use = "an output that nobody looks at tests nothing"]
    pub(crate) fn build(&self, dockerfile: &str, extra: &[&str]) -> PodOutput {
        self.build_in(&self.pod(), dockerfile, extra)
    }

    /// As [`Bench::archive`], twice: on one processor and on all. Both must give the same image, so everything in the build
    /// needs a time that is given: sources have [`testkit::FIXED_TIME`], `RUN` uses `touch`.
    #[track_caller]
    pub(crate) fn reproduced(&self, dockerfile: &str, extra: &[&str]) -> Archive {
        let (one, all) = self.twice(dockerfile, extra);
        let text = |archive: &Archive| {
            let layers = docker_archive_layers_with_times(&archive.path).unwrap();
            let config = serde_json::to_string_pretty(&archive.facts().config_json()).unwrap();
            layers.join("\n") + &config
        };
        let (first, second) = (text(&one), text(&all));
        for (first, second) in first.lines().zip(second.lines()) {
            assert_eq!(first, second, "the second build gave another image");
        }
        assert_eq!(self.read("one.digest"), self.read("image.digest"));
        all
    }

    /// Builds into `/out/image.tar` without pushing; the build must succeed.
    ///
    /// It is built twice. What a RUN makes is as old as the build, so layers need not be the same to the byte; but they
    /// have the same entries, and where the times agree too, the digests must.
    #[track_caller]
    pub(crate) fn archive(&self, dockerfile: &str, extra: &[&str]) -> Archive {
        let (again, archive) = self.twice(dockerfile, extra);
        assert_eq!(again.layers(), archive.layers(), "the second build gave other layers");
        let config = |archive: &Archive| archive.facts().config_json()["config"].clone();
        assert_eq!(config(&again), config(&archive), "the second build gave another config");
        let with_times =
            |archive: &Archive| docker_archive_layers_with_times(&archive.path).unwrap();
        if with_times(&again) == with_times(&archive) {
            assert_eq!(self.read("one.digest"), self.read("image.digest"));
        }
        archive
    }

    /// The same build on one processor and on all.
    fn twice(&self, dockerfile: &str, extra: &[&str]) -> (Archive, Archive) {
        let build = |name: &str, pod: Pod| {
            let flags = [
                format!("--tar-path=/out/{name}.tar"),
                format!("--digest-file=/out/{name}.digest"),
            ];
            let flags = [&["--no-push", &flags[0], &flags[1]], extra].concat();
            let output = self.build_in(&pod.env("SOURCE_DATE_EPOCH", EPOCH), dockerfile, &flags);
            Archive { output: output.assert_success(), path: self.out(&format!("{name}.tar")) }
        };
        (build("one", self.pod().cpus(1.0)), build("image", self.pod()))
    }
}

/// A docker archive that a build wrote.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) output: PodOutput,
    pub(crate) path: PathBuf,
}

impl Archive {
    pub(crate) fn facts(&self) -> ImageFacts {
        ImageFacts::from_docker_archive(&self.path).unwrap()
    }

    /// The entries of each layer, base first.
    pub(crate) fn layers(&self) -> Vec<String> {
        docker_archive_layers(&self.path).unwrap()
    }

    /// The entries of the last layer.
    pub(crate) fn last_layer(&self) -> String {
        self.layers().pop().unwrap_or_default()
    }

    pub(crate) fn source(&self) -> String {
        format!("docker-archive:{}", self.path.display())
    }
}

/// A path of this workspace.
pub(crate) fn workspace(path: &str) -> PathBuf {
    testkit::workspace_dir().join(path)
}

/// Runs a program of the host that must succeed.
#[track_caller]
pub(crate) fn host(program: &str, args: &[&str], dir: &Path) -> String {
    match testkit::command::capture_text(Command::new(program).args(args).current_dir(dir)) {
        Ok(text) => text,
        Err(error) => panic!("{error:#}"),
    }
}
