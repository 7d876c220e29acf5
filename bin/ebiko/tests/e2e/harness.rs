//! The step of Harness and Drone, as their pods start it: an entrypoint, variables, a workspace, 500 MiB and 0.4 processors.

mod amazon;
mod keys;
mod pages;
mod registries;
mod settings;

use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use testkit::oracle::{docker_archive_layers, skopeo_inspect};
use testkit::{Pod, PodOutput, Tree};

use crate::bench::Bench;

/// A bench whose executor has the names of the steps. Its context is what Harness has as `/harness`, its place for outputs
/// what Harness has as `/addon`.
struct Step {
    bench: Bench,
}

impl Step {
    fn new() -> Self {
        Self::with(Bench::new())
    }

    fn with(bench: Bench) -> Self {
        for name in ["docker", "gar", "ecr", "gcr", "acr"] {
            let link = bench.executor.root().join(format!("kaniko/kaniko-{name}"));
            symlink("executor", link).unwrap();
        }
        Self { bench }
    }

    /// A pod of Harness with these variables; the registry of the bench is reached without TLS and stands for Docker Hub.
    fn pod(&self, variables: &[(&str, &str)]) -> Pod {
        let host = self.bench.registry.host();
        let pod = self
            .bench
            .executor
            .pod()
            .bind(self.bench.context(), "/harness")
            .bind(self.bench.out(""), "/addon")
            .work_dir("/harness")
            .memory(500 << 20)
            .cpus(0.4)
            .env("PLUGIN_INSECURE_REGISTRY", &host)
            .env("PLUGIN_REGISTRY_MIRRORS", &host)
            .env("DRONE_OUTPUT", "/addon/output.env")
            .env("PLUGIN_ARTIFACT_FILE", "/addon/tmp/.plugin/artifact");
        variables.iter().fold(pod, |pod, (name, value)| pod.env(name, value))
    }

    fn run(&self, name: &str, variables: &[(&str, &str)]) -> PodOutput {
        self.pod(variables).run([format!("/kaniko/{name}")]).unwrap()
    }

    /// Waits until a RUN has made this file in the workspace.
    fn wait_for(&self, name: &str) {
        let file = self.bench.context().join(name);
        for _ in 0..1200 {
            if file.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("no RUN has made `{name}`");
    }

    fn artifact(&self) -> Value {
        serde_json::from_str(&self.bench.read("tmp/.plugin/artifact")).unwrap()
    }

    fn digest(&self, name: &str) -> String {
        self.bench.registry.image(name).unwrap().manifest_digest.unwrap()
    }
}

#[test]
fn privileged_the_example_for_gar_runs_to_the_end() {
    let step = Step::new();
    let dockerfile = "FROM busybox AS dev-env\nARG foo\nARG hello\nRUN echo $foo $hello > /made\nFROM busybox\nRUN exit 9\n";
    step.bench.write("harnessDockerfile", dockerfile);
    let registry =
        format!("{}/gar-prod-setup/harness-public/some-gcp-project", step.bench.registry.host());
    let variables = [
        ("PLUGIN_REGISTRY", registry.as_str()),
        ("PLUGIN_REPO", "some-image-name"),
        ("PLUGIN_TAGS", "1.0,1.2"),
        ("PLUGIN_BUILD_ARGS", "foo=bar,hello=world"),
        ("PLUGIN_CUSTOM_LABELS", "foo=bar,hello=world"),
        ("PLUGIN_TARGET", "dev-env"),
        ("PLUGIN_CONTEXT", "."),
        ("PLUGIN_DOCKERFILE", "harnessDockerfile"),
        ("PLUGIN_ENABLE_CACHE", "true"),
        ("PLUGIN_CACHE_REPO", "test/cache"),
        ("PLUGIN_SNAPSHOT_MODE", "redo"),
        ("PLUGIN_JSON_KEY", "{\"type\":\"service_account\"}"),
        ("PLUGIN_TAR_PATH", "./harnesstarpath"),
        ("PLUGIN_IMAGE_DOWNLOAD_RETRY", "2"),
        ("PLUGIN_COMPRESSED_CACHING", "false"),
        ("PLUGIN_USE_NEW_RUN", "true"),
        ("PLUGIN_GARBAGE", "yoyo"),
    ];
    let output = step.run("kaniko-gar", &variables).assert_success();
    assert_eq!(output.stderr.matches("PLUGIN_GARBAGE").count(), 1, "{output}");
    assert!(
        output.stdout.starts_with("+ /kaniko/executor --dockerfile=harnessDockerfile "),
        "{output}"
    );

    let name = "gar-prod-setup/harness-public/some-gcp-project/some-image-name";
    let digest = step.digest(&format!("{name}:1.0"));
    assert_eq!(step.digest(&format!("{name}:1.2")), digest);
    let image = step.bench.registry.image(&format!("{name}:1.0")).unwrap();
    assert_eq!(image.config_json()["config"]["Labels"], json!({"foo": "bar", "hello": "world"}));
    let layers = docker_archive_layers(&step.bench.context().join("harnesstarpath")).unwrap();
    assert!(layers.last().unwrap().contains("made"), "{layers:?}");
    assert!(
        !layers.concat().contains("harness"),
        "nothing of the workspace is in the image: {layers:?}"
    );
    assert_eq!(
        step.bench.read("output.env"),
        format!("IMAGE_TAR_PATH=\"./harnesstarpath\"\ndigest=\"{digest}\"\n")
    );
    let images = ["1.0", "1.2"]
        .map(|tag| json!({"image": format!("some-image-name:{tag}"), "digest": digest}));
    assert_eq!(
        step.artifact(),
        json!({"kind": "docker/v1", "data": {"registryType": "GAR", "registryUrl": registry, "images": images}})
    );

    // Again, with what was kept.
    let again = step.run("kaniko-gar", &variables).assert_success();
    assert!(
        again.stderr.contains("Using caching version of cmd: RUN echo bar world > /made"),
        "{again}"
    );
    let made_again = step.bench.registry.image(&format!("{name}:1.0")).unwrap();
    assert_eq!(made_again.config_json()["rootfs"], image.config_json()["rootfs"]);
}

#[test]
fn privileged_a_tar_is_built_without_a_push_and_pushed_without_a_build() {
    let step = Step::new();
    step.bench
        .tree(&Tree::new().file("docker/Dockerfile", "FROM busybox\nCOPY docker/Dockerfile /d\n"));
    let repository = step.bench.registry.reference("ns/img");
    let registry = format!("http://{}/ns", step.bench.registry.host());
    let login = [
        ("PLUGIN_REPO", repository.as_str()),
        ("PLUGIN_REGISTRY", &registry),
        ("PLUGIN_USERNAME", "u"),
        ("PLUGIN_PASSWORD", "p"),
        ("PLUGIN_TAGS", "linux-amd64"),
    ];
    let build = [
        ("PLUGIN_DOCKERFILE", "./docker/Dockerfile"),
        ("PLUGIN_TAR_PATH", "/harness/new/image_name.tar"),
        ("PLUGIN_NO_PUSH", "true"),
    ];
    step.run("kaniko-docker", &[&login[..], &build].concat()).assert_success();
    let variables = step.bench.read("output.env");
    let digest = variables.split("digest=\"").nth(1).unwrap().trim_end_matches("\"\n").to_owned();
    let tar = step.bench.context().join("new/image_name.tar");
    assert!(skopeo_inspect(&format!("docker-archive:{}", tar.display())).is_ok());
    assert!(docker_archive_layers(&tar).unwrap().last().unwrap().ends_with(" d\n"));

    // Neither a login nor a name is needed for it.
    let nothing =
        [build[0], ("PLUGIN_NO_PUSH", "true"), ("DRONE_OUTPUT", ""), ("PLUGIN_ARTIFACT_FILE", "")];
    step.run("kaniko-docker", &nothing).assert_success();
    let requests = step.bench.registry.requests();
    assert!(
        requests.iter().all(|line| line.starts_with("GET ") || line.starts_with("HEAD ")),
        "{requests:?}"
    );

    let push = [
        ("PLUGIN_PUSH_ONLY", "true"),
        ("PLUGIN_SOURCE_TAR_PATH", "new/image_name.tar"),
        ("PLUGIN_INSECURE", "true"),
    ];
    step.run("kaniko-docker", &[&login[..], &push].concat()).assert_success();
    assert_eq!(
        step.digest("ns/img:linux-amd64"),
        digest,
        "the digest of the build is that of the push"
    );
    assert_eq!(step.artifact()["data"]["images"][0]["digest"], json!(digest));
}

#[test]
fn privileged_the_status_of_a_run_is_the_steps_and_another_user_gets_no_error_of_a_config() {
    let step = Step::new();
    step.bench.write("Dockerfile", "FROM busybox\nRUN exit 42\n");
    let output = step.run("kaniko-docker", &[("PLUGIN_NO_PUSH", "true")]);
    assert_eq!(output.code, 42, "{output}");
    assert_eq!(output.stderr.lines().last(), Some("exit status 42"), "{output}");

    let login = [
        ("PLUGIN_REPO", "r.io/a"),
        ("PLUGIN_REGISTRY", "r.io"),
        ("PLUGIN_USERNAME", "u"),
        ("PLUGIN_PASSWORD", "p"),
    ];
    let pod = step.pod(&login).user(1000, 1000);
    let output = pod.run(["/kaniko/kaniko-docker", "--print-config"]).unwrap().assert_success();
    assert_eq!(output.stdout, "{\"auths\":{\"r.io\":{\"auth\":\"dTpw\"}}}");

    // Nor when it is to build, where nobody but root may write to the builder's directory.
    let output = step.pod(&login).user(1000, 1000).run(["/kaniko/kaniko-docker"]).unwrap();
    assert_eq!(output.code, 1, "{output}");
    assert!(!output.to_string().contains("docker config"), "{output}");

    let version = |words: [&str; 2]| step.pod(&[]).run(words).unwrap().assert_success().stdout;
    let (own, kaniko) =
        (version(["/kaniko/kaniko-docker", "--version"]), version(["/kaniko/executor", "version"]));
    let number = own.trim().strip_prefix("kaniko-docker ").unwrap();
    assert!(kaniko.starts_with(&format!("Kaniko version :  v{number}\n")), "{kaniko}");
}
