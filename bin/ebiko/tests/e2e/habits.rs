//! Habits of kaniko that a variable keeps: the image is another one, and so is what is in the cache.

use testkit::oracle::docker_archive_layers;

use crate::bench::{Bench, host};

const DOCKERFILE: &str = "FROM busybox\n\
    ARG word=expanded\n\
    USER joe:adm\n\
    COPY a /copied/\n\
    ADD archive.tar /added/\n\
    COPY <<here /copied/\n$word\nhere\n\
    COPY --chmod=700 a /mode/of/\n\
    WORKDIR /way/to\n\
    RUN id -u && id -g\n";

#[test]
fn privileged_an_image_that_relies_on_habits_of_kaniko_keeps_them_with_variables() {
    let bench = Bench::new();
    bench.write("a", "a");
    host("tar", &["--owner=7", "--group=8", "-cf", "archive.tar", "a"], &bench.context());
    let repository = format!("--cache-repo={}/team/cache", bench.registry.host());
    let build = |variables: &[&'static str], name: &str| {
        let pod = variables.iter().fold(bench.pod(), |pod, name| pod.env(name, "false"));
        let tar = format!("--tar-path=/out/{name}.tar");
        let flags = ["--no-push", &*tar, "--cache", &*repository, "--cache-copy-layers"];
        let output = bench.build_in(&pod, DOCKERFILE, &flags).assert_success();
        let layers = docker_archive_layers(&bench.out(&format!("{name}.tar"))).unwrap();
        (output, layers[1..].concat())
    };
    let (output, layers) = build(&[], "usual");
    assert_eq!(output.stdout, "1000\n4\n");
    assert_eq!(
        layers,
        "drwxr-xr-x 0/0 0 copied/\n-rw-r--r-- 0/0 1 copied/a\n\
         drwxr-xr-x 0/0 0 added/\n-rw-r--r-- 7/8 1 added/a\n\
         drwxr-xr-x 0/0 0 copied/\n-rw-r--r-- 0/0 9 copied/here\n\
         drwx------ 0/0 0 mode/\ndrwx------ 0/0 0 mode/of/\n-rwx------ 0/0 1 mode/of/a\n\
         drwxr-xr-x 1000/4 0 way/\ndrwxr-xr-x 1000/4 0 way/to/\n"
    );
    let all = [
        "FF_KANIKO_COPY_AS_ROOT",
        "FF_KANIKO_CHOWN_ON_IMPLICIT_DIRS",
        "FF_KANIKO_COPY_CHMOD_ON_IMPLICIT_DIRS",
        "FF_KANIKO_EXPAND_HEREDOC",
        "FF_KANIKO_RUN_HONOR_GROUP",
    ];
    let (output, layers) = build(&all, "kept");
    assert!(!output.stderr.contains("Using caching version"), "{output}");
    assert!(!output.stderr.contains("changes nothing"), "{output}");
    assert_eq!(output.stdout, "1000\n1000\n");
    assert_eq!(
        layers,
        "drwxr-xr-x 1000/4 0 copied/\n-rw-r--r-- 1000/4 1 copied/a\n\
         drwxr-xr-x 1000/4 0 added/\n-rw-r--r-- 7/8 1 added/a\n\
         drwxr-xr-x 1000/4 0 copied/\n-rw-r--r-- 1000/4 6 copied/here\n\
         drwxr-xr-x 1000/4 0 mode/\ndrwxr-xr-x 1000/4 0 mode/of/\n-rwx------ 1000/4 1 mode/of/a\n\
         drwxr-xr-x 0/0 0 way/\ndrwxr-xr-x 1000/4 0 way/to/\n"
    );
    // Each image is found again by what it was built with.
    for (variables, name) in [(&all[..], "kept"), (&[][..], "usual")] {
        let (output, again) = build(variables, &format!("{name}-again"));
        assert_eq!(output.stdout, "", "nothing runs: {output}");
        let before = docker_archive_layers(&bench.out(&format!("{name}.tar"))).unwrap();
        assert_eq!(again, before[1..].concat());
    }
}
