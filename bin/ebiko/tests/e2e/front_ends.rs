//! The command lines with which other systems start kaniko.

use testkit::{Pod, PodOutput};

use crate::bench::Bench;

const DOCKERFILE: &str = "FROM busybox\nARG A\nRUN echo \"$A\" > /a\nCOPY Dockerfile /d\n";

/// A bench with a context, and what the names of its registry need in a pod.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("Dockerfile", DOCKERFILE);
    bench
}

fn pod(bench: &Bench) -> Pod {
    bench.pod().env("KANIKO_REGISTRY_MIRROR", &bench.registry.host())
}

/// Runs `/kaniko/executor` with these words, where `IMAGE` is a repository of the bench.
#[track_caller]
fn run(bench: &Bench, pod: &Pod, words: &[&str]) -> PodOutput {
    let image = bench.registry.reference("team/app");
    let words = words.iter().map(|word| word.replace("IMAGE", &image));
    pod.run(std::iter::once("/kaniko/executor".to_owned()).chain(words)).unwrap().assert_success()
}

#[track_caller]
fn digest(bench: &Bench, tag: &str) -> String {
    bench.registry.image(&format!("team/app:{tag}")).unwrap().manifest_digest.unwrap()
}

#[test]
fn privileged_a_script_of_gitlab_and_one_of_jenkins_build_in_one_shell() {
    let bench = bench();
    let image = bench.registry.reference("team/app");
    let script = format!(
        "mkdir -p /kaniko/.docker\n\
         echo '{{\"auths\":{{\"{}\":{{\"username\":\"u\",\"password\":\"p\"}}}}}}' > /kaniko/.docker/config.json\n\
         /kaniko/executor --context \"$CI_PROJECT_DIR\" --dockerfile \"$CI_PROJECT_DIR/Dockerfile\" --destination \"{image}:gitlab\" --cleanup\n\
         cd /workspace && /kaniko/executor -f `pwd`/Dockerfile -c `pwd` --cache=true --destination={image}:jenkins\n\
         echo still here\n",
        bench.registry.host()
    );
    let shell = pod(&bench)
        .env("CI_PROJECT_DIR", "/workspace")
        .env("PATH", "/busybox:/kaniko")
        .bind_read_only(testkit::base::busybox().unwrap().root().join("bin"), "/busybox");
    let output = shell.run(["/busybox/sh", "-e", "-c", &script]).unwrap().assert_success();
    assert!(output.stdout.ends_with("still here\n"), "{output}");
    digest(&bench, "gitlab");
    digest(&bench, "jenkins");
}

#[test]
fn privileged_the_words_of_tekton_shipwright_piper_and_argo_are_understood() {
    let bench = bench();
    // Tekton: the digest is a result, without a line end.
    let tekton = [
        "--build-arg=A=1",
        "--dockerfile=/workspace/Dockerfile",
        "--context=/workspace/./",
        "--destination=IMAGE:tekton",
        "--digest-file=/out/result",
    ];
    run(&bench, &pod(&bench), &tekton);
    assert_eq!(bench.read("result"), digest(&bench, "tekton"));

    let shipwright = [
        "--skip-tls-verify=true",
        "--dockerfile=Dockerfile",
        "--context=/workspace",
        "--destination=IMAGE:shipwright",
        "--snapshot-mode=redo",
        "--no-push",
        "--tar-path=/out/image.tar",
        "--ignore-path=/product_uuid",
    ];
    let names = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "SETFCAP", "KILL"];
    let limited = pod(&bench)
        .env("HOME", "/tekton/home")
        .env("DOCKER_CONFIG", "/tekton/home/.docker")
        .capabilities(names.map(|name| format!("CAP_{name}")))
        .memory(1 << 30)
        .cpus(0.5);
    run(&bench, &limited, &shipwright);
    assert!(bench.out("image.tar").exists());

    let piper = [
        "--dockerfile",
        "/workspace/Dockerfile",
        "--context",
        "dir:///workspace",
        "--ignore-path=/workspace",
        "--ignore-path=/busybox",
        "--skip-tls-verify-pull",
        "--destination",
        "IMAGE:piper",
    ];
    run(&bench, &pod(&bench), &piper);
    digest(&bench, "piper");

    let argo = [
        "--context=/workspace",
        "--destination=IMAGE:argo",
        "--cache",
        "--cache-run-layers",
        "--skip-default-registry-fallback",
        "--no-push",
        "--tar-path=/out/argo.tar",
        "--cache-repo=IMAGE/cache",
    ];
    run(&bench, &pod(&bench), &argo);
    assert!(bench.out("argo.tar").exists());
}

#[test]
fn privileged_actions_woodpecker_vela_and_cloud_build_are_understood() {
    let bench = bench();
    let login = tempfile::tempdir().unwrap();
    std::fs::write(login.path().join("config.json"), "{\"auths\": {}}").unwrap();
    let action = pod(&bench)
        .bind_read_only(bench.context(), "/kaniko/action/context")
        .bind(bench.out(""), "/kaniko/action/outputs")
        .bind_read_only(login.path(), "/kaniko/.docker")
        .env("container", "docker");
    let words = [
        "--context",
        "dir:///kaniko/action/context/",
        "--digest-file",
        "/kaniko/action/outputs/digest",
        "--destination",
        "IMAGE:action",
    ];
    run(&bench, &action, &words);
    assert_eq!(bench.read("digest"), digest(&bench, "action"));

    let aevea = [
        "--context",
        "/workspace",
        "--dockerfile",
        "/workspace/Dockerfile",
        "--digest-file",
        "/kaniko/digest",
        "--image-name-tag-with-digest-file=/kaniko/image-tag-digest",
        "--tarPath",
        "/kaniko/image.tar",
        "--reproducible",
        "--force",
        "--destination",
        "IMAGE:aevea",
    ];
    run(&bench, &pod(&bench), &aevea);
    digest(&bench, "aevea");

    // A script whose variables are unset leaves empty words; the registry has a scheme.
    let woodpecker =
        ["", "--context=/workspace", "", "--destination=http://IMAGE:woodpecker", "", ""];
    run(&bench, &pod(&bench), &woodpecker);
    digest(&bench, "woodpecker");

    assert!(run(&bench, &pod(&bench), &["version"]).stdout.starts_with("Kaniko version"));
    let vela = [
        "--build-arg=A=1",
        "--compression=zstd",
        "--compression-level=3",
        "--context=/workspace",
        "--destination=IMAGE:vela",
        "--force-build-metadata",
        "--ignore-var-run=true",
        "--log-timestamp",
        "--snapshot-mode=full",
        "--verbosity=info",
    ];
    let builder = pod(&bench).env("BUILDER_OUTPUT", "/out");
    run(&bench, &builder, &vela);
    assert!(bench.read("images").contains(&digest(&bench, "vela")), "as Cloud Build reads it");
}

#[test]
fn privileged_skaffold_brings_its_context_to_the_builders_directory_and_reads_the_termination_message()
 {
    let bench = bench();
    // An init container has put it there, on a volume of the pod.
    std::fs::create_dir_all(bench.out("buildcontext")).unwrap();
    std::fs::write(bench.out("buildcontext/Dockerfile"), DOCKERFILE).unwrap();
    let host = bench.registry.host();
    let insecure = format!("--insecure-registry={host}");
    let words = [
        "--destination=IMAGE:skaffold",
        "--dockerfile=Dockerfile",
        "--context=dir:///kaniko/buildcontext",
        "--build-arg=A=1",
        "--cache",
        "--cache-dir=/cache",
        "--cache-ttl=24h",
        "--cache-copy-layers",
        "--digest-file=/dev/termination-log",
        "--force",
        "--image-fs-extract-retry=1",
        "--image-name-with-digest-file=/out/name",
        &insecure,
        "--label=a=b",
        "--log-format=text",
        "--log-timestamp",
        "--oci-layout-path=/out/layout",
        "--push-retry=1",
        "--reproducible",
        "--single-snapshot",
        "--skip-unused-stages",
        "--snapshot-mode=redo",
        "--tar-path=/out/skaffold.tar",
        "--use-new-run",
        "--whitelist-var-run",
        "-v=info",
    ];
    for (name, pod) in [
        ("writable", pod(&bench).bind(bench.out("buildcontext"), "/kaniko/buildcontext")),
        (
            "read-only",
            pod(&bench).bind_read_only(bench.out("buildcontext"), "/kaniko/buildcontext"),
        ),
    ] {
        let pod = pod
            .env("UPSTREAM_CLIENT_TYPE", "UpstreamClient(skaffold-v2)")
            .env("GOOGLE_APPLICATION_CREDENTIALS", "/secret/kaniko-secret");
        let output = run(&bench, &pod, &words);
        assert_eq!(output.termination_message, digest(&bench, "skaffold"), "{name}");
        assert!(
            bench.out("buildcontext/Dockerfile").is_file(),
            "{name}: the context is the user's"
        );
    }
}
