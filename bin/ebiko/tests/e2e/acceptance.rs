//! The build by which the program is measured: a Debian image, built in a pod of 500 MiB, and then once more by the
//! executor image that the program built of itself.

use serde_json::json;
use testkit::base::debian;
use testkit::oracle::{tar_entries, unpack};
use testkit::{ImageFacts, Pod, assert_same_image, listing};

use crate::bench::Bench;
use crate::own_image;

const WHOLE: &str = r#"FROM debian:bookworm AS a
RUN useradd -m joe && mkdir /srv/d && touch /srv/d/x && ln /srv/d/x /srv/d/y && ln -s x /srv/d/l && chown joe /srv/d/x && chmod 4755 /srv/d/x
FROM debian:bookworm
ENV A=b
COPY --from=a --chown=33:33 /srv/d /d
RUN rm -rf /usr/share/doc && echo hi > /srv/hi && : > /etc/motd
USER www-data
WORKDIR /var/www/app
CMD ["cat","/srv/hi"]
"#;

/// What a pod for builds commonly gets.
const MEMORY: u64 = 500 << 20;

/// What a builder may hold beside page cache while it builds a Debian image.
const ANONYMOUS_MEMORY: u64 = 64 << 20;

#[test]
fn privileged_a_debian_image_is_built_pushed_and_built_again_by_the_image_of_the_executor() {
    let bench = Bench::with(&[debian().unwrap()]);
    let executor = unpack(&own_image::build(&bench).source()).unwrap();

    let files =
        ["--tar-path=/out/first.tar", "--oci-layout-path=/out/first", "--digest-file=/out/digest"];
    build(&bench, bench.pod(), "/kaniko/executor", "first", &files);
    let pushed = bench.registry.image("team/first:1").unwrap();
    let archive = ImageFacts::from_docker_archive(&bench.out("first.tar")).unwrap();
    let layout = ImageFacts::from_oci_layout(&bench.out("first")).unwrap();
    assert_same_image(&[("registry", &pushed), ("archive", &archive), ("layout", &layout)]);
    assert_eq!(pushed.manifest, layout.manifest);
    let digest = bench.read("digest");
    assert_eq!(Some(digest), pushed.manifest_digest, "the digest file has no newline");
    check_config(&pushed);
    check_files(&format!("docker://{}", bench.registry.reference("team/first:1")));

    let (pod, command) = executor.pod().unwrap();
    build(&bench, bench.mounted(pod), &command[0], "second", &[]);
    let again = bench.registry.image("team/second:1").unwrap();
    assert_eq!(again.layers[0], pushed.layers[0], "the base's layer is taken over as it is");
    assert_eq!(again.config_json()["config"], pushed.config_json()["config"]);
    // Directories that a build makes are as old as the build, so only what is in the layers can be the same.
    let entries = |digest: &String| tar_entries(&bench.registry.blob(digest)).unwrap();
    for (first, second) in pushed.layers.iter().zip(&again.layers).skip(1) {
        assert_eq!(entries(first), entries(second));
    }
}

fn build(bench: &Bench, pod: Pod, executor: &str, name: &str, flags: &[&str]) {
    bench.write("Dockerfile", WHOLE);
    let name = bench.registry.reference(&format!("team/{name}:1"));
    let flags = bench.flags(&[&[format!("--destination={name}").as_str()], flags].concat());
    let command = [vec![executor.to_owned()], flags].concat();
    let output = pod.memory(MEMORY).run(command).unwrap().assert_success();
    assert!(output.usage.peak_anonymous < ANONYMOUS_MEMORY, "{output}");
}

fn check_config(image: &ImageFacts) {
    let config = image.config_json()["config"].clone();
    assert_eq!(config["User"], "www-data");
    assert_eq!(config["WorkingDir"], "/var/www/app");
    assert_eq!(config["Cmd"], json!(["cat", "/srv/hi"]));
    assert!(config["Env"].as_array().unwrap().contains(&json!("A=b")), "{config}");
    // The base's one layer, COPY, RUN, WORKDIR.
    assert_eq!(image.layers.len(), 4);
}

/// Unpacks the image with umoci, looks at it, and runs it.
fn check_files(source: &str) {
    let unpacked = unpack(source).unwrap();
    let root = unpacked.root();
    assert_eq!(
        listing(&root.join("d")).unwrap(),
        "lrwxrwxrwx l -> x owner 33:33\n-rwsr-xr-x x 0 owner 33:33\n-rwsr-xr-x y 0 owner 33:33\n"
    );
    assert!(!root.join("usr/share/doc").exists(), "a removed directory stays removed");
    assert_eq!(std::fs::read_to_string(root.join("srv/hi")).unwrap(), "hi\n");
    assert_eq!(std::fs::metadata(root.join("etc/motd")).unwrap().len(), 0);
    assert!(!root.join("home/joe").exists(), "what another stage did stays there");
    assert_eq!(listing(&root.join("var/www")).unwrap(), "drwxr-xr-x app owner 33:33\n");
    for leak in ["kaniko", "workspace", "out", "var/run/secrets"] {
        assert!(!root.join(leak).exists(), "`{leak}` belongs to the pod, not to the image");
    }
    let (pod, command) = unpacked.pod().unwrap();
    assert_eq!(pod.run(command).unwrap().assert_success().stdout, "hi\n");
}
