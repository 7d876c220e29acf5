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
