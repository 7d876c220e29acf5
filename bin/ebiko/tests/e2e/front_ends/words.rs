//! Front ends that hand words to the executor.

use testkit::{GitRepository, GitServer, Nginx, Pod, Registry, certificate};

use super::{DOCKERFILE, archived, bench, bench_with, command, limited, pushed, run};
use crate::bench::Bench;

/// An ordinary pod of such a system, with the login as a Secret is mounted.
fn pod(bench: &Bench) -> Pod {
    with_login(bench, limited(bench, bench.pod()), "/kaniko/.docker")
}

fn with_login(bench: &Bench, pod: Pod, directory: &str) -> Pod {
    std::fs::create_dir_all(bench.out("login")).unwrap();
    std::fs::write(bench.out("login/config.json"), bench.registry.docker_config()).unwrap();
    pod.bind_read_only(bench.out("login"), directory)
}

/// The program with which Tekton and Argo start what a step says: it comes on a volume, waits for the command and leaves there
/// how that ended.
fn wrapped(bench: &Bench, pod: &Pod, volume: &str, words: &[&str]) {
    let source = bench.out(&volume.replace('/', "-"));
    std::fs::create_dir_all(&source).unwrap();
    std::fs::copy("/bin/busybox", source.join("busybox")).unwrap();
    let program = format!("{volume}/busybox");
    let script = format!("\"$@\"; {program} echo $? > {volume}/exitcode");
    let start = [&*program, "sh", "-c", &script, "entrypoint"].map(str::to_owned);
    let command = start.into_iter().chain(command(bench, words));
    let output = pod.clone().bind(&source, volume).run(command).unwrap();
    let code = std::fs::read_to_string(source.join("exitcode")).unwrap_or_default();
    assert_eq!((code.as_str(), output.code), ("0\n", 0), "{output}");
}

/// Versions 0.6 and 0.7 of the task differ in how they write the array of extra words, and not in the command line.
#[test]
fn privileged_tekton() {
    let bench = bench();
    let results = testkit::scratch_dir("results-").unwrap();
    let pod = with_login(&bench, limited(&bench, bench.executor.pod()), "/kaniko/.docker")
        .user(0, 0)
        .bind_read_only(bench.context(), "/workspace/source")
        .bind(results.path(), "/tekton/results")
        .work_dir("/workspace/source");
    let words = [
        "--build-arg=A=1",
        "--verbosity=debug",
        "--dockerfile=./Dockerfile",
        "--context=/workspace/source/./",
        "--destination=<IMAGE>:tekton",
        "--digest-file=/tekton/results/IMAGE_DIGEST",
    ];
    wrapped(&bench, &pod, "/tekton/bin", &words);
    // The digest is a result, without a line end.
    let result = std::fs::read_to_string(results.path().join("IMAGE_DIGEST")).unwrap();
    assert_eq!(result, pushed(&bench, "tekton"));
}

#[test]
fn privileged_shipwright() {
    let bench = bench();
    let names = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "SETFCAP", "KILL"];
    let pod = with_login(&bench, bench.pod(), "/tekton/home/.docker")
        .env("KANIKO_REGISTRY_MIRROR", &bench.registry.host())
        .env("HOME", "/tekton/home")
        .env("DOCKER_CONFIG", "/tekton/home/.docker")
        .capabilities(names.map(|name| format!("CAP_{name}")))
        .no_new_privileges()
        .memory(1 << 30)
        .cpus(0.5);
    let words = [
        "--skip-tls-verify=true",
        "--dockerfile=Dockerfile",
        "--context=/workspace",
        "--destination=<IMAGE>:shipwright",
        "--snapshot-mode=redo",
        "--no-push",
        "--tar-path=/out/shipwright.tar",
        "--ignore-path=/product_uuid",
    ];
    run(&bench, &pod, &words);
    archived(&bench, "shipwright.tar");
}

#[test]
fn privileged_argo() {
    let bench = bench();
    // kaniko takes `git://` for TLS, and so must this.
    let repositories = testkit::scratch_dir("repositories-").unwrap();
    let repository = GitRepository::init(&repositories.path().join("team/app")).unwrap();
    repository.write("Dockerfile", DOCKERFILE).unwrap();
    repository.commit("first").unwrap();
    let git = GitServer::smart(repositories.path()).unwrap();
    let tls = testkit::scratch_dir("tls-").unwrap();
    let certificate = certificate(tls.path(), &["localhost"]).unwrap();
    let nginx = Nginx::start(1, |ports| {
        let (port, upstream) = (ports[0], git.url(""));
        let (chain, key) = (certificate.chain.display(), certificate.key.display());
        format!(
            "server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {chain}; ssl_certificate_key {key}; \
             location / {{ proxy_pass {upstream}; }} }}\n"
        )
    })
    .unwrap();
    let pod = pod(&bench).bind_read_only(&certificate.authority, "/kaniko/ssl/certs/git.crt");
    let context = format!("--context=git://{}/team/app/.git#refs/heads/master", nginx.host(0));
    let words = [
        &*context,
        "--destination=<IMAGE>:argo",
        "--no-push",
        "--tar-path=/out/argo.tar",
        "--cache",
        "--cache-repo=<IMAGE>/cache",
        "--cache-run-layers",
        "--registry-mirror=<HOST>",
        "--skip-default-registry-fallback",
    ];
    wrapped(&bench, &pod, "/var/run/argo", &words);
    archived(&bench, "argo.tar");
    let requests = nginx.requests();
    assert!(requests.iter().any(|line| line.contains("git-upload-pack")), "{requests:#?}");

    // An artifact is a directory.
    let words = [&["--context=/workspace"], &words[1..2], &words[4..]].concat();
    wrapped(&bench, &pod, "/var/run/argo", &words);
    pushed(&bench, "argo");
}

#[test]
fn privileged_skaffold() {
    let bench = bench_with(Registry::builder().tls());
    // An init container has put it there, on a volume of the pod.
    std::fs::create_dir_all(bench.out("buildcontext")).unwrap();
    std::fs::write(bench.out("buildcontext/Dockerfile"), DOCKERFILE).unwrap();
    let authority = bench.registry.certificate_authority().unwrap();
    for (how, words) in [("push", &[][..]), ("tar", &["--no-push"])] {
        let pod = pod(&bench)
            .bind_read_only(&authority, "/kaniko/authority.crt")
            .env("UPSTREAM_CLIENT_TYPE", "UpstreamClient(skaffold-v2)")
            .env("GOOGLE_APPLICATION_CREDENTIALS", "/secret/kaniko-secret");
        let context = bench.out("buildcontext");
        let pod = match how {
            "push" => pod.bind(context, "/kaniko/buildcontext"),
            _ => pod.bind_read_only(context, "/kaniko/buildcontext"),
        };
        let words = skaffold(words);
        let output = run(&bench, &pod, &words);
        assert!(bench.out("buildcontext/Dockerfile").is_file(), "the context is the user's");
        archived(&bench, "skaffold.tar");
        if how == "push" {
            let digest = pushed(&bench, "skaffold");
            assert_eq!(output.termination_message, digest);
            let name = bench.registry.reference("team/app");
            assert_eq!(bench.read("name"), format!("{name}@{digest}\n"));
        }
    }
}

/// Every flag that Skaffold knows, in the order of its own list, with a value as a word of its own wherever one is taken.
fn skaffold<'a>(push: &[&'a str]) -> Vec<&'a str> {
    let first = [
        "--destination",
        "<IMAGE>:skaffold",
        "--dockerfile",
        "Dockerfile",
        "--context",
        "dir:///kaniko/buildcontext",
        "--build-arg",
        "A=1",
        "--cache",
        "--cache-repo",
        "<IMAGE>/cache",
        "--cache-dir",
        "/cache",
        "--cache-ttl",
        "24h",
        "--cache-copy-layers",
        "--target",
        "app",
        "--cleanup",
        "--digest-file",
        "/dev/termination-log",
        "--force",
        "--image-fs-extract-retry",
        "1",
        "--image-name-with-digest-file",
        "/out/name",
        "--insecure",
        "--insecure-pull",
        "--insecure-registry",
        "<HOST>",
        "--label",
        "a=b",
        "--log-format",
        "text",
        "--log-timestamp",
    ];
    let last = [
        "--oci-layout-path",
        "/out/layout",
        "--push-retry",
        "1",
        "--registry-certificate",
        "<HOST>=/kaniko/authority.crt",
        "--registry-mirror",
        "<HOST>",
        "--reproducible",
        "--single-snapshot",
        "--skip-tls-verify",
        "--skip-tls-verify-pull",
        "--skip-tls-verify-registry",
        "<HOST>",
        "--skip-unused-stages",
        "--snapshot-mode",
        "redo",
        "--tar-path",
        "/out/skaffold.tar",
        "--use-new-run",
        "--verbosity",
        "info",
        "--whitelist-var-run",
        "-v",
        "info",
    ];
    [&first[..], push, &last[..]].concat()
}

#[test]
fn privileged_kaniko_action_of_int128() {
    let bench = bench();
    let pod = with_login(&bench, limited(&bench, bench.executor.pod()), "/kaniko/.docker/")
        .bind_read_only(bench.context(), "/kaniko/action/context")
        .bind(bench.out(""), "/kaniko/action/outputs")
        .env("container", "docker");
    let words = [
        "--context",
        "dir:///kaniko/action/context/",
        "--dockerfile",
        "Dockerfile",
        "--digest-file",
        "/kaniko/action/outputs/digest",
        "--build-arg",
        "A=1",
        "--label",
        "org.opencontainers.image.title=app",
        "--destination",
        "<IMAGE>:action",
        "--cache=true",
        "--cache-repo",
        "<IMAGE>/cache",
    ];
    run(&bench, &pod, &words);
    assert_eq!(bench.read("digest"), pushed(&bench, "action"));
}

#[test]
fn privileged_vela() {
    let bench = bench();
    let pod = pod(&bench);
    assert!(run(&bench, &pod, &["version"]).stdout.starts_with("Kaniko version"));
    let words = [
        "--build-arg=A=1",
        "--cache",
        "--cache-repo=<IMAGE>/cache",
        "--compression=gzip",
        "--compression-level=3",
        "--context=/workspace",
        "--custom-platform=linux/amd64",
        "--destination=<IMAGE>:vela",
        "--dockerfile=Dockerfile",
        "--force-build-metadata",
        "--ignore-path=/ignored",
        "--ignore-var-run=true",
        "--insecure",
        "--insecure-pull",
        "--insecure-registry=<HOST>",
        "--label",
        "io.vela.build.number=1",
        "--log-timestamp",
        "--no-push",
        "--registry-mirror=<HOST>",
        "--single-snapshot",
        "--snapshot-mode=full",
        "--tar-path=/out/vela.tar",
        "--target=app",
        "--use-new-run",
        "--verbosity=info",
    ];
    run(&bench, &pod, &words);
    archived(&bench, "vela.tar");
    // Few readers of archives know zstd, so it is for what is pushed.
    let words = words.into_iter().filter(|word| *word != "--no-push" && !word.starts_with("--tar"));
    let words = words.map(|word| word.replace("=gzip", "=zstd"));
    let words: Vec<String> = words.collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    run(&bench, &pod, &words);
    pushed(&bench, "vela");
    let image = bench.registry.image("team/app:vela").unwrap();
    assert_eq!(image.config_json()["config"]["Labels"]["io.vela.build.number"], "1");
}

#[test]
fn privileged_google_cloud_build() {
    let bench = bench();
    let pod = pod(&bench).env("BUILDER_OUTPUT", "/builder/outputs");
    let outputs = testkit::scratch_dir("outputs-").unwrap();
    let pod = pod.bind(outputs.path(), "/builder/outputs");
    run(&bench, &pod, &["--destination=<IMAGE>:1", "--destination=<IMAGE>:2", "--cache=true"]);
    let digest = pushed(&bench, "1");
    let images = std::fs::read_to_string(outputs.path().join("images")).unwrap();
    let images: Vec<serde_json::Value> =
        images.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = ["1", "2"].map(|tag| {
        let name = bench.registry.reference(&format!("team/app:{tag}"));
        serde_json::json!({"name": name, "digest": digest})
    });
    assert_eq!(images, expected);
}
