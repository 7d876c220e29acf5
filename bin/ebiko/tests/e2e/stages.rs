//! Stages that build on each other, and images that only lend files.

use crate::bench::Bench;

const CHAIN: &str = "FROM busybox AS base\nRUN echo base > /base\n\
    FROM base AS left\nRUN echo left > /left\n\
    FROM base AS right\nRUN test ! -e /left && echo right > /right\n\
    FROM left AS last\n\
    RUN test -e /base && test ! -e /right\n\
    COPY --from=left /left /from-left\n\
    COPY --from=0 /base /from-0\n\
    COPY --from=RIGHT /right /from-right\n\
    COPY --from=lender /lent /from-image\n\
    FROM last AS unused\nRUN exit 9\n";

#[test]
fn privileged_a_stage_is_used_by_others_as_it_was_left_whoever_came_between() {
    let bench = Bench::new();
    let lender = format!("--destination={}", bench.registry.reference("library/lender:latest"));
    bench.build("FROM busybox\nRUN echo lent > /lent\n", &[&lender]).assert_success();

    let archive = bench.archive(CHAIN, &["--target=last"]);
    let layers = archive.layers();
    let files: Vec<Vec<&str>> = layers[1..]
        .iter()
        .map(|layer| layer.lines().filter_map(|line| line.split(' ').nth(3)).collect())
        .collect();
    assert_eq!(
        files,
        [
            vec!["base"],
            vec!["left"],
            vec![],
            vec!["from-left"],
            vec!["from-0"],
            vec!["from-right"],
            vec!["from-image"]
        ]
    );

    let right = bench.archive(CHAIN, &["--target=Right"]);
    let files: Vec<String> = right.layers()[1..].to_vec();
    assert_eq!(files, ["-rw-r--r-- 0/0 5 base\n", "-rw-r--r-- 0/0 6 right\n"]);
    assert!(
        !right.output.stderr.contains("lender"),
        "nothing is fetched for a stage that is not needed"
    );

    let failed = bench.build(CHAIN, &["--no-push"]);
    assert_eq!(failed.code, 9, "without a target the last stage is built: {failed}");
    let unknown = bench.build(CHAIN, &["--no-push", "--target=lats"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.stderr.contains("lats") && unknown.stderr.contains("last"), "{unknown}");
}

/// As in kaniko: the first target is the image, and whichever stage comes last in the file is the last one that is built.
#[test]
fn privileged_after_several_targets_the_container_has_the_files_of_the_one_that_comes_last_in_the_file()
 {
    let bench = Bench::new();
    bench.write(
        "Dockerfile",
        "FROM busybox AS image\nRUN echo > /of-image\nFROM busybox AS test\nRUN echo > /of-test\n\
         FROM busybox\nRUN exit 9\n",
    );
    let pod = bench
        .pod()
        .bind_read_only(testkit::base::busybox().unwrap().root().join("bin"), "/busybox");
    for (targets, image, root) in [
        (&["--target=image"][..], "of-image", "/of-image"),
        (&["--target=image,test"], "of-image", "/of-test"),
        (&["--target=test,image"], "of-test", "/of-test"),
        (&["--target=image", "--target=test"], "of-image", "/of-test"),
        (&["--target=image,test", "--cleanup"], "of-image", ""),
    ] {
        let flags = [&["--no-push", "--tar-path=/out/image.tar"], targets].concat();
        let build = [vec!["/kaniko/executor".to_owned()], bench.flags(&flags)].concat().join(" ");
        let script =
            format!("{build} && PATH=/busybox && for f in /of-*; do [ ! -e $f ] || echo $f; done");
        let output = pod.run(["/busybox/sh", "-e", "-c", &script]).unwrap().assert_success();
        assert_eq!(output.stdout.trim_end(), root, "{targets:?}");
        let layers = testkit::oracle::docker_archive_layers(&bench.out("image.tar")).unwrap();
        assert_eq!(layers[1..], [format!("-rw-r--r-- 0/0 1 {image}\n")], "{targets:?}");
    }
}
