//! The YAML of the guides, run as it is written.

use testkit::base::{busybox, debian};
use testkit::{Auth, Cluster, ImageStandIn, PodOutput, Registry, kustomize, yaml};

use crate::bench::{Bench, workspace};
use crate::own_image::debug_image;

pub(crate) const IMAGE: &str = "registry.example/ebiko/executor:VERSION";

/// The blocks of a page that are YAML, in their order.
pub(crate) fn blocks(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(workspace("docs/guide").join(page)).unwrap();
    let mut parts = text.split("\n```yaml\n").skip(1);
    parts.by_ref().map(|part| part.split("\n```").next().unwrap().to_owned() + "\n").collect()
}

/// Runs a manifest where `registry.example` is the registry of the bench, and Docker Hub is, too.
fn run(bench: &Bench, cluster: Cluster, yaml: &str) -> Vec<PodOutput> {
    let host = bench.registry.host();
    let pod = bench.executor.pod().env("KANIKO_REGISTRY_MIRROR", &host);
    let image = ImageStandIn { pod, entrypoint: vec!["/kaniko/executor".to_owned()] };
    let yaml = yaml.replace(IMAGE, "executor").replace("registry.example", &host);
    cluster.image("executor", image).run(&yaml).unwrap()
}

#[test]
fn privileged_the_smallest_pod_of_the_guide_builds_and_tells_the_digest() {
    let bench = Bench::new();
    let outputs = run(&bench, Cluster::new(), &blocks("kubernetes.md")[0]);
    let output = outputs.into_iter().next_back().unwrap().assert_success();
    let image = bench.registry.image("team/app:1").unwrap();
    assert_eq!(Some(output.termination_message), image.manifest_digest);
}

#[test]
fn privileged_the_job_of_the_guide_logs_in_and_finds_its_layers_again() {
    let auth = Auth::Basic { user: "USER", password: "PASSWORD" };
    let registry = Registry::builder().auth(auth).image(busybox().unwrap()).start().unwrap();
    let bench = Bench::with_registry(registry);
    let cache = tempfile::tempdir().unwrap();
    let yaml = &blocks("kubernetes.md")[1];
    for hits in [false, true] {
        let cluster = Cluster::new().claim("build-cache", cache.path());
        let output = run(&bench, cluster, yaml).pop().unwrap().assert_success();
        assert_eq!(output.stderr.contains("Using caching version of cmd"), hits, "{output}");
    }
    let refused = yaml.replace("PASSWORD", "WRONG");
    let cluster = Cluster::new().claim("build-cache", cache.path());
    assert_ne!(run(&bench, cluster, &refused).pop().unwrap().code, 0);
}

#[test]
fn privileged_an_authority_in_a_config_map_is_trusted() {
    let registry = Registry::builder().tls().image(busybox().unwrap()).start().unwrap();
    let bench = Bench::with_registry(registry);
    let authority =
        std::fs::read_to_string(bench.registry.certificate_authority().unwrap()).unwrap();
    let yaml = &blocks("kubernetes.md")[2];
    let indented = authority.trim_end().replace('\n', "\n    ");
    let trusted = yaml.replace("AUTHORITY", &indented);
    run(&bench, Cluster::new(), &trusted).pop().unwrap().assert_success();
    let without = yaml.replace("AUTHORITY", "");
    let output = run(&bench, Cluster::new(), &without).pop().unwrap();
    assert!(output.code != 0 && output.stderr.contains("certificate"), "{output}");
}

/// A package from a repository of its own: apt gives up its rights for what it fetches, dpkg changes owners, and the package
/// adds a user and a program with a set-user-ID bit.
const PACKAGES: &str = r#"FROM debian:bookworm
RUN mkdir -p /tmp/p/DEBIAN /tmp/p/usr/bin /repo \
 && printf 'Package: greeting\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b.example>\nDescription: x\n' > /tmp/p/DEBIAN/control \
 && printf '#!/bin/sh\nset -e\nuseradd --system --user-group greeting\nchown greeting: /usr/bin/greeting\nchmod 4755 /usr/bin/greeting\n' > /tmp/p/DEBIAN/postinst \
 && chmod 755 /tmp/p/DEBIAN/postinst && cp /bin/true /tmp/p/usr/bin/greeting \
 && dpkg-deb --root-owner-group -b /tmp/p /repo/g.deb \
 && cd /repo && { dpkg-deb -f g.deb; printf 'Filename: ./g.deb\nSize: %s\nSHA256: %s\n' $(stat -c %s g.deb) $(sha256sum g.deb | cut -d' ' -f1); } > Packages \
 && rm -rf /etc/apt/sources.list.d && echo 'deb [trusted=yes] file:/repo ./' > /etc/apt/sources.list
RUN apt-get update && apt-get install -y greeting && rm -rf /var/lib/apt/lists/*
USER greeting
RUN test "$(stat -c %U%a /usr/bin/greeting)" = greeting4755
"#;

/// The capabilities of the guide, without one.
pub(crate) fn guide_without(dropped: &str) -> Vec<String> {
    let yaml = &blocks("kubernetes.md")[1];
    let list = yaml.split("add: [").nth(1).unwrap().split(']').next().unwrap();
    list.split(", ").filter(|name| *name != dropped).map(|name| format!("CAP_{name}")).collect()
}

#[test]
fn privileged_the_capabilities_of_the_guide_install_packages() {
    let bench = Bench::with(&[debian().unwrap()]);
    let pod = bench.pod().capabilities(guide_without("")).no_new_privileges();
    bench.build_in(&pod, PACKAGES, &["--no-push"]).assert_success();
}

/// The words of a list in the first block of a page.
fn words(page: &str, place: &str) -> Vec<String> {
    let document = yaml(&blocks(page)[0]).unwrap().remove(0);
    let list = document.pointer(place).and_then(|list| list.as_array());
    list.unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

#[test]
fn privileged_gitlab_tekton_and_argo_build_as_their_pages_say() {
    let bench = Bench::new();
    bench.write("Dockerfile", "FROM busybox\nRUN echo built > /hello\n");
    let host = bench.registry.host();
    let pod = bench.pod().env("KANIKO_REGISTRY_MIRROR", &host);

    let script = words("gitlab.md", "/build/script").join("\n");
    let variables = [
        ("CI_PROJECT_DIR", "/workspace"),
        ("CI_REGISTRY", &host),
        ("CI_REGISTRY_USER", "user"),
        ("CI_REGISTRY_PASSWORD", "password"),
        ("CI_REGISTRY_IMAGE", &format!("{host}/team/gitlab")),
        ("CI_COMMIT_SHORT_SHA", "1"),
    ];
    let image = debug_image(&Bench::new());
    let shell = variables
        .iter()
        .fold(bench.mounted(image.pod().unwrap().0), |pod, (name, value)| pod.env(name, value))
        .env("KANIKO_REGISTRY_MIRROR", &host);
    shell.run(["/busybox/sh", "-e", "-c", &script]).unwrap().assert_success();
    bench.registry.image("team/gitlab:1").unwrap();

    let replaced = |word: &str| {
        word.replace("$(params.EXTRA_ARGS[*])", "--cleanup")
            .replace("$(params.DOCKERFILE)", "./Dockerfile")
            .replace("$(params.CONTEXT)", "./")
            .replace("$(params.IMAGE)", "registry.example/team/tekton:1")
            .replace("$(workspaces.source.path)", "/workspace")
            .replace("$(results.IMAGE_DIGEST.path)", "/out/digest")
            .replace("=/source", "=/workspace")
            .replace("registry.example", &host)
    };
    let executor = || std::iter::once("/kaniko/executor".to_owned());
    let tekton = words("tekton.md", "/spec/steps/0/args");
    let tekton = executor().chain(tekton.iter().map(|word| replaced(word)));
    pod.run(tekton).unwrap().assert_success();
    let image = bench.registry.image("team/tekton:1").unwrap();
    assert_eq!(Some(bench.read("digest")), image.manifest_digest);

    let argo = words("argo.md", "/spec/templates/0/container/args");
    let argo = executor().chain(argo.iter().map(|word| replaced(word)));
    pod.run(argo).unwrap().assert_success();
    bench.registry.image("team/app:1").unwrap();
}

#[test]
fn privileged_the_jobs_for_many_builds_push_one_index_and_share_a_cache() {
    let auth = Auth::Basic { user: "USER", password: "PASSWORD" };
    let registry = Registry::builder().auth(auth).image(busybox().unwrap()).start().unwrap();
    let bench = Bench::with_registry(registry);
    bench.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /d\n");
    let context = "git://git.example/team/app.git#refs/heads/main";
    let jobs = kustomize(&workspace("docs/guide/many-builds/app")).unwrap();
    assert!(jobs.contains(context), "{jobs}");
    let login = "apiVersion: v1\nkind: Secret\nmetadata: {name: registry-login}\nstringData:\n  .dockerconfigjson: \
                 '{\"auths\": {\"registry.example\": {\"username\": \"USER\", \"password\": \"PASSWORD\"}}}'";
    let manifest = format!("{login}\n---\n{}", jobs.replace(context, "dir:///workspace"));
    let host = bench.registry.host();
    let image = ImageStandIn { pod: bench.pod(), entrypoint: vec!["/kaniko/executor".to_owned()] };
    let manifest = manifest.replace(IMAGE, "executor").replace("registry.example", &host);
    for output in Cluster::new().image("executor", image).run(&manifest).unwrap() {
        output.assert_success();
    }
    let index = bench.registry.requests();
    for tag in ["1", "1-amd64", "1-arm64"] {
        let put = format!("/v2/team/app/manifests/{tag} ");
        assert!(
            index.iter().any(|line| line.starts_with("PUT ") && line.contains(&put)),
            "{tag}: {index:#?}"
        );
    }
    assert_eq!(
        bench.registry.tags("team/cache").unwrap().len(),
        4,
        "an entry and a trail for each"
    );
}
