//! Front ends that bring a script, and therefore take the image with a shell.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use testkit::oracle::Unpacked;
use testkit::{Pod, Registry};

use super::{DOCKERFILE, bench, bench_with, limited, pushed};
use crate::bench::Bench;
use crate::own_image::debug_image;

/// The debug image, built by the executor in a bench of its own.
fn image() -> Unpacked {
    debug_image(&Bench::new())
}

fn pod(bench: &Bench, image: &Unpacked) -> Pod {
    limited(bench, image.pod().unwrap().0)
}

/// Writes a program of somebody else's.
fn script(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The runner looks for a shell in the container and hands it the script of the job on a volume.
#[test]
fn privileged_gitlab() {
    let image = image();
    let bench = bench_with(Registry::builder().tls());
    let detect = "for shell in /usr/local/bin/bash /usr/bin/bash /bin/bash /usr/local/bin/sh /usr/bin/sh /bin/sh /busybox/sh; do\n\
                  if [ -x $shell ]; then exec $shell /scripts/step; fi\ndone\necho shell not found; exit 1\n";
    let step = "set -eo pipefail\ncd \"$CI_PROJECT_DIR\"\n\
        cat \"$CI_SERVER_TLS_CA_FILE\" >> /kaniko/ssl/certs/additional-ca-cert-bundle.crt\n\
        mkdir -p /kaniko/.docker\n\
        echo \"{\\\"auths\\\":{\\\"$CI_REGISTRY\\\":{\\\"username\\\":\\\"$CI_REGISTRY_USER\\\",\\\"password\\\":\\\"$CI_REGISTRY_PASSWORD\\\"}}}\" \
        > /kaniko/.docker/config.json\n\
        /kaniko/executor --context \"$CI_PROJECT_DIR\" --dockerfile \"$CI_PROJECT_DIR/Dockerfile\" \
        --destination \"$CI_REGISTRY_IMAGE:$CI_COMMIT_TAG\"\n\
        echo still here\n\
        /kaniko/executor --context \"$CI_PROJECT_DIR\" --dockerfile \"$CI_PROJECT_DIR/Dockerfile\" \
        --destination \"$CI_REGISTRY_IMAGE:again\" --cleanup\n";
    script(&bench.out("step"), step);
    let authority = bench.registry.certificate_authority().unwrap();
    let pod = pod(&bench, &image)
        .bind(bench.context(), "/builds/team/app")
        .bind(bench.out(""), "/scripts")
        .bind_read_only(authority, "/builds/team/app.tmp/CI_SERVER_TLS_CA_FILE")
        .env("CI_SERVER_TLS_CA_FILE", "/builds/team/app.tmp/CI_SERVER_TLS_CA_FILE")
        .env("CI_PROJECT_DIR", "/builds/team/app")
        .env("CI_REGISTRY", &bench.registry.host())
        .env("CI_REGISTRY_USER", "joe")
        .env("CI_REGISTRY_PASSWORD", "pass:word")
        .env("CI_REGISTRY_IMAGE", &bench.registry.reference("team/app"))
        .env("CI_COMMIT_TAG", "gitlab");
    let output = pod.run(["sh", "-c", detect]).unwrap().assert_success();
    assert_eq!(output.stdout, "still here\n", "{output}");
    pushed(&bench, "gitlab");
    pushed(&bench, "again");
}

/// The Kubernetes plugin starts `/busybox/cat` on a terminal and enters the container; the script of a step goes on without who
/// has started it, and leaves its log and its status on the volume of the agent.
#[test]
fn privileged_jenkins() {
    let image = image();
    let bench = bench();
    // A Secret that is mounted as a directory: the file is a link.
    std::fs::create_dir_all(bench.out("login/..data")).unwrap();
    std::fs::write(bench.out("login/..data/json"), bench.registry.docker_config()).unwrap();
    symlink("..data/json", bench.out("login/config.json")).unwrap();
    let destination = bench.registry.reference("team/app:jenkins");
    let line = format!(
        "/kaniko/executor -f `pwd`/Dockerfile -c `pwd` --cache=true --destination={destination}"
    );
    // The plugin puts a volume there and makes it the working directory.
    let agent = "/home/jenkins/agent";
    let app = format!("{agent}/workspace/app");
    bench.write("workspace/app/Dockerfile", DOCKERFILE);
    let step = format!("#!/busybox/sh -xe\ncd {app}\n{line}\n");
    script(&bench.context().join("workspace/app@tmp/script.sh"), &step);
    let pod = pod(&bench, &image)
        .bind(bench.context(), agent)
        .work_dir(agent)
        .bind_read_only(bench.out("login"), "/kaniko/.docker");
    // What a terminal is for `cat`, a pipe is here that never ends.
    let keep = format!("mkfifo {app}@tmp/tty && exec /busybox/cat <> {app}@tmp/tty");
    let container = pod.spawn(["/busybox/sh", "-c", &keep]).unwrap();
    let enter = |words: &str| container.exec(["/busybox/sh", "-c", words]).unwrap();
    let start = format!("({app}@tmp/script.sh; echo $? > {app}@tmp/result) > {app}@tmp/log 2>&1 &");
    enter(&start).assert_success();
    let wait = format!(
        "while [ ! -e {app}@tmp/result ]; do sleep 0.1; done; cat {app}@tmp/result; tr '\\0' ' ' < /proc/1/cmdline"
    );
    let output = enter(&wait).assert_success();
    let log = std::fs::read_to_string(bench.context().join("workspace/app@tmp/log")).unwrap();
    assert_eq!(output.stdout, "0\n/busybox/cat ", "{log}");
    pushed(&bench, "jenkins");
}

/// `kanikoExecute` with several images: it writes the config, and starts the executor once for each in the same container.
#[test]
fn privileged_sap_piper() {
    let image = image();
    let bench = bench();
    for name in ["one", "two"] {
        bench.write(&format!("{name}/Dockerfile"), DOCKERFILE);
    }
    let repository = bench.registry.reference("team/app");
    let step = format!(
        "set -e\nrm -f /kaniko/.docker/config.json\necho '{}' > /kaniko/.docker/config.json\n\
         for name in one two; do /kaniko/executor --dockerfile $name/Dockerfile --context `pwd`/$name \
         --ignore-path=/workspace --ignore-path=/busybox --skip-tls-verify-pull --destination {repository}:$name; done\n\
         ls /busybox/cat\n",
        bench.registry.docker_config()
    );
    let pod = pod(&bench, &image).bind(bench.context(), "/workspace");
    let output = pod.run(["/busybox/sh", "-c", &step]).unwrap().assert_success();
    assert_eq!(output.stdout, "/busybox/cat\n", "{output}");
    assert_eq!(pushed(&bench, "one").len(), pushed(&bench, "two").len());
}

/// An image made of the debug image, whose entrypoint is a script in it. The build removes the script's name and the script goes on.
#[test]
fn privileged_action_kaniko_of_aevea() {
    let image = image();
    let bench = bench();
    let entrypoint = "#!/busybox/sh\nset -e\n\
        cat <<EOF >/kaniko/.docker/config.json\n{\"auths\": {\"https://${REGISTRY}\": {\"username\": \"joe\", \"password\": \"pass:word\"}}}\nEOF\n\
        /kaniko/executor --cache --cache-repo $IMAGE/cache --context $GITHUB_WORKSPACE/. --dockerfile ./Dockerfile \
        --digest-file /kaniko/digest --image-name-tag-with-digest-file=/kaniko/image-tag-digest \
        --tarPath /kaniko/image.tar --destination $IMAGE:aevea --reproducible --force\n\
        cat /kaniko/digest; echo; cat /kaniko/image-tag-digest; tar -tf /kaniko/image.tar | grep -c manifest.json\n";
    script(&image.root().join("entrypoint.sh"), entrypoint);
    let reference = bench.registry.reference("team/app");
    let pod = pod(&bench, &image)
        .bind(bench.context(), "/github/workspace")
        .work_dir("/github/workspace")
        .env("GITHUB_WORKSPACE", "/github/workspace")
        .env("REGISTRY", &bench.registry.host())
        .env("IMAGE", &reference);
    let output = pod.run(["/entrypoint.sh"]).unwrap().assert_success();
    let digest = pushed(&bench, "aevea");
    assert_eq!(output.stdout, format!("{digest}\n{reference}:aevea@{digest}\n1\n"), "{output}");
}

/// A script like the plugin's: it needs these programs, and a variable that nobody has set leaves an empty word.
const WOODPECKER: &str = r#"#!/busybox/busybox sh
set -euo pipefail
REGISTRY=${PLUGIN_REGISTRY:-https://index.docker.io/v1/}
LOGIN=$(echo -n "$PLUGIN_USERNAME:$PLUGIN_PASSWORD" | base64 | tr -d '\n')
echo "{\"auths\": {\"$REGISTRY\": {\"auth\": \"$LOGIN\"}}}" > /kaniko/.docker/config.json
TAG=$(echo "$CI_COMMIT_TAG" | sed 's/^v//')
test "$(echo "$TAG" | tr . '\n' | wc -l)" = 3
MAJOR=$(echo "$TAG" | awk -F. '{print $1}')
MINOR=$(echo "$TAG" | cut -d. -f1-2)
echo "$TAG" | grep -qE '^[0-9.]+$'
DESTINATIONS=$(for tag in $MAJOR $MINOR $TAG; do echo "--destination=$REGISTRY/$PLUGIN_REPO:$tag"; done)
MIRROR=$(echo "$PLUGIN_MIRRORS" | tr ',' '\n' | while read -r mirror; do echo "--registry-mirror=$mirror"; done)
/kaniko/executor -v info --context="$PWD" --dockerfile="${PLUGIN_DOCKERFILE:-Dockerfile}" ${PLUGIN_EXTRA_OPTS:-} $DESTINATIONS \
    "${CACHE:-}" "${CACHE_TTL:-}" "${CACHE_REPO:-}" "${TARGET:-}" ${BUILD_ARGS:-} "$MIRROR"
/kaniko/executor -v info --context="$PWD" --dockerfile=Dockerfile --no-push "${CACHE:-}" "" "" "" "$MIRROR" ""
"#;

#[test]
fn privileged_woodpecker() {
    let image = image();
    let bench = bench();
    script(&image.root().join("bin/plugin.sh"), WOODPECKER);
    let host = bench.registry.host();
    let pod = pod(&bench, &image)
        .bind(bench.context(), "/woodpecker/src")
        .work_dir("/woodpecker/src")
        .env("PLUGIN_REGISTRY", &format!("http://{host}"))
        .env("PLUGIN_USERNAME", "joe")
        .env("PLUGIN_PASSWORD", "pass:word")
        .env("PLUGIN_REPO", "team/app")
        .env("PLUGIN_MIRRORS", &host)
        .env("PLUGIN_EXTRA_OPTS", "--skip-tls-verify=true --ignore-var-run=false")
        .env("CI_COMMIT_TAG", "v1.2.3");
    pod.run(["/bin/plugin.sh"]).unwrap().assert_success();
    let digest = pushed(&bench, "1.2.3");
    assert_eq!([pushed(&bench, "1"), pushed(&bench, "1.2")], [digest.clone(), digest]);
}
