//! The step of Harness and Drone, as their pods start it: an entrypoint, variables, a workspace, 500 MiB and 0.4 processors.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use testkit::base::busybox;
use testkit::oracle::{docker_archive_layers, skopeo_inspect};
use testkit::{Auth, Pod, PodOutput, Registry, Tree, yaml};

use crate::bench::{Bench, host};
use crate::deployment::blocks;

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
    let requests = step.bench.registry.requests();
    assert!(
        !requests.iter().any(|line| line.starts_with("PUT ") || line.starts_with("POST ")),
        "{requests:?}"
    );
    let variables = step.bench.read("output.env");
    let digest = variables.split("digest=\"").nth(1).unwrap().trim_end_matches("\"\n").to_owned();
    let tar = step.bench.context().join("new/image_name.tar");
    assert!(skopeo_inspect(&format!("docker-archive:{}", tar.display())).is_ok());

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
fn privileged_the_examples_with_secrets_and_keys_run_without_privilege_and_leave_nothing() {
    let step = Step::new();
    host(
        "ssh-keygen",
        &["-q", "-t", "ed25519", "-N", "", "-f", "id_ed25519"],
        &step.bench.context(),
    );
    let key = std::fs::read_to_string(step.bench.context().join("id_ed25519")).unwrap();
    let dockerfile = "FROM busybox\n\
        RUN --mount=type=secret,id=USERNAME --mount=type=secret,id=PASSWORD,required \
        test \"$(wc -c < /run/secrets/USERNAME)\" = 11 && test \"$(wc -c < /run/secrets/PASSWORD)\" = 15\n\
        RUN test ! -e /run/secrets/USERNAME\n\
        RUN --mount=type=ssh,id=sshkey,required test -S \"$SSH_AUTH_SOCK\"\n\
        RUN test -z \"$SSH_AUTH_SOCK\" && ! env | grep -q -e PLUGIN -e THE_USER && env > /environment\n";
    step.bench.tree(
        &Tree::new()
            .file("Dockerfile", dockerfile)
            .file(".dockerignore", "*\n")
            .file("password", "secret-password"),
    );
    let variables = [
        ("PLUGIN_NO_PUSH", "true"),
        ("PLUGIN_TAR_PATH", "/addon/image.tar"),
        ("PLUGIN_SECRETS_FROM_ENV", "USERNAME=THE_USER"),
        ("PLUGIN_SECRETS_FROM_FILE", "PASSWORD=/harness/password"),
        ("PLUGIN_BUILDX_OPTIONS", "--ssh=sshkey=/harness/id_ed25519"),
        ("THE_USER", "secret-user"),
    ];
    let output = step.run("kaniko-docker", &variables).assert_success();
    let archive = format!("docker-archive:{}", step.bench.out("image.tar").display());
    let unpacked = testkit::oracle::unpack(&archive).unwrap();
    let config = skopeo_inspect(&archive).unwrap().to_string();
    for secret in ["secret-user", "secret-password", key.lines().nth(2).unwrap()] {
        let search = format!("! grep -rqF -e {secret} .");
        host("sh", &["-c", &search], &unpacked.root());
        assert!(!config.contains(secret) && !output.to_string().contains(secret), "{secret}");
    }
    let environment = std::fs::read_to_string(unpacked.root().join("environment")).unwrap();
    assert!(!environment.contains("PLUGIN"), "{environment}");
}

#[test]
fn privileged_a_registry_with_tokens_gets_the_login_and_nobody_else_sees_it() {
    let auth = Auth::Token { user: "joe", password: "pass:word" };
    let registry = Registry::builder().auth(auth).image(busybox().unwrap()).start().unwrap();
    let step = Step::with(Bench::with_registry(registry));
    // The command waits until this test has looked.
    let dockerfile = "FROM busybox\nRUN touch /harness/running; while [ ! -e /harness/seen ]; do sleep 0.1; done; \
                      cat /proc/1/environ 2>/dev/null | tr -d '\\0' | grep -q . && exit 7; env > /environment\n";
    step.bench.write("Dockerfile", dockerfile);
    step.bench.write(".dockerignore", "*\n");
    let repository = step.bench.registry.reference("ns/img");
    let connector = format!("http://{}/other", step.bench.registry.host());
    let variables = [
        ("PLUGIN_REPO", repository.as_str()),
        ("PLUGIN_REGISTRY", &connector),
        ("PLUGIN_USERNAME", "joe"),
        ("PLUGIN_PASSWORD", "pass:word"),
        ("PLUGIN_TAGS", "1,2,latest"),
    ];
    let target = format!("--custom-labels=test={repository}");
    let pod = step.pod(&variables).spawn(["/kaniko/kaniko-docker", &target]).unwrap();
    let running = step.bench.context().join("running");
    for _ in 0..1200 {
        if running.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // Root of the machine may read the environment of every process; there is none.
    let mut count = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        if String::from_utf8_lossy(&read("cmdline")).contains(&target) {
            let program = std::fs::read_link(entry.path().join("exe")).unwrap_or_default();
            if program.ends_with("runc") {
                continue;
            }
            count += 1;
            let environment = read("environ");
            assert!(
                environment.iter().all(|byte| *byte == 0),
                "{}",
                String::from_utf8_lossy(&environment)
            );
        }
    }
    assert!(count > 0, "the step was not found among the processes");
    std::fs::write(step.bench.context().join("seen"), "").unwrap();
    let (output, config) =
        pod.wait_and_inspect(|root| root.join("kaniko/.docker/config.json").exists()).unwrap();
    let output = output.assert_success();
    assert!(!config, "a login is a file\n{output}");
    assert!(!output.to_string().contains("pass:word"), "{output}");
    let digest = step.digest("ns/img:1");
    assert_eq!([step.digest("ns/img:2"), step.digest("ns/img:latest")], [digest.clone(), digest]);
    let puts = step.bench.registry.requests();
    let count = |what: &str| {
        puts.iter().filter(|line| line.starts_with("PUT ") && line.contains(what)).count()
    };
    assert_eq!(count("/manifests/"), 3, "{puts:#?}");
    assert_eq!(count("/blobs/uploads/"), 2, "layer and config once each: {puts:#?}");

    let wrong = [&variables[..3], &[("PLUGIN_PASSWORD", "not-the-password")]].concat();
    let output = step.run("kaniko-docker", &wrong);
    assert_eq!(output.code, 1, "{output}");
    assert!(
        output.stderr.contains("ns/img") && output.stderr.ends_with("exit status 1\n"),
        "{output}"
    );
    assert!(!output.to_string().contains("not-the-password"), "{output}");
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
}

/// A value of YAML as it is in a variable.
fn variable(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(variable).collect::<Vec<_>>().join(","),
        // A secret of the system.
        Value::Object(fields) if fields.contains_key("from_secret") => "secret".to_owned(),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(key, value)| format!("{key}={}", variable(value)));
            pairs.collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

/// The only block of a page, with the registry of the bench in the place of this one.
fn page(step: &Step, name: &str, registry: &str) -> Value {
    let text = blocks(name)[0].replace(registry, &step.bench.registry.host());
    yaml(&text).unwrap().remove(0)
}

#[test]
fn privileged_the_step_of_the_page_for_harness_runs() {
    let step = Step::new();
    step.bench.write("Dockerfile", "FROM busybox\nARG VERSION\nRUN echo $VERSION > /v\n");
    let page = page(&step, "harness.md", "ghcr.io");
    let spec = page.pointer("/0/step/spec").unwrap();
    let text = |field: &str| variable(&spec[field]).replace("<+pipeline.sequenceId>", "7");
    // As Harness makes variables of them.
    let registry = format!("http://{}", step.bench.registry.host());
    let (repository, tags, labels, arguments) =
        (text("repo"), text("tags"), text("labels"), text("buildArgs"));
    let (dockerfile, context, cache) =
        (text("dockerfile"), text("context"), text("remoteCacheRepo"));
    assert_eq!(spec["optimize"], json!(true));
    let output = step.run(
        "kaniko-docker",
        &[
            ("PLUGIN_REGISTRY", registry.as_str()),
            ("PLUGIN_USERNAME", "u"),
            ("PLUGIN_PASSWORD", "secret"),
            ("PLUGIN_REPO", &repository),
            ("PLUGIN_TAGS", &tags),
            ("PLUGIN_CUSTOM_LABELS", &labels),
            ("PLUGIN_BUILD_ARGS", &arguments),
            ("PLUGIN_DOCKERFILE", &dockerfile),
            ("PLUGIN_CONTEXT", &context),
            ("PLUGIN_SNAPSHOT_MODE", "redo"),
            ("PLUGIN_ENABLE_CACHE", "true"),
            ("PLUGIN_CACHE_REPO", &cache),
        ],
    );
    output.assert_success();
    assert_eq!(step.digest("team/app:7"), step.digest("team/app:latest"));
}

#[test]
fn privileged_the_step_of_the_page_for_drone_runs() {
    let step = Step::new();
    step.bench.write("Dockerfile", "FROM busybox\nRUN echo 1 > /v\n");
    let page = page(&step, "drone.md", "registry.example");
    let settings = page.pointer("/steps/0/settings").and_then(Value::as_object).unwrap();
    let variables: Vec<(String, String)> = settings
        .iter()
        .map(|(name, value)| (format!("PLUGIN_{}", name.to_uppercase()), variable(value)))
        .collect();
    let mut variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    variables.push(("DRONE_COMMIT_REF", "refs/tags/v1.2.3"));
    let output = step.run("kaniko-docker", &variables).assert_success();
    assert!(!output.stderr.contains("is ignored"), "{output}");
    let mut tags = step.bench.registry.tags("team/app").unwrap();
    tags.sort_unstable();
    assert_eq!(tags, ["1", "1.2", "1.2.3"]);
}
