//! Bases that are read and not unpacked.

use crate::bench::{Bench, EPOCH};

/// Builds with and without the files of the base; the image must be the same. Returns what the log says without.
#[track_caller]
fn both_ways(bench: &Bench, dockerfile: &str, extra: &[&str]) -> String {
    let pod = bench.pod().env("SOURCE_DATE_EPOCH", EPOCH);
    let build = |name: &str, flag: &str| {
        let digest = format!("--digest-file=/out/{name}.digest");
        let tar = format!("--tar-path=/out/{name}.tar");
        let flags = [&["--no-push", "--rewrite-timestamp", &digest, &tar, flag], extra].concat();
        bench.build_in(&pod, dockerfile, &flags).assert_success().stderr
    };
    let log = build("thin", "--materialize=false");
    let whole = build("whole", "--materialize");
    assert!(whole.contains(" unpacked sha256:") && !whole.contains("not unpacked"), "{whole}");
    assert_eq!(bench.read("thin.digest"), bench.read("whole.digest"), "{log}{whole}");
    log
}

/// Makes an image of the name that others can start from.
fn base(bench: &Bench, name: &str, dockerfile: &str) {
    let destination = format!("--destination={}", bench.registry.reference(name));
    bench.build(dockerfile, &[&destination]).assert_success();
}

fn owners(bench: &Bench) -> Vec<String> {
    let layers = testkit::oracle::docker_archive_layers(&bench.out("thin.tar")).unwrap();
    let lines = layers.iter().flat_map(|layer| layer.lines());
    lines.filter(|line| line.contains("named")).map(str::to_owned).collect()
}

#[test]
fn privileged_names_are_looked_up_in_account_files_that_are_links_or_names_of_others() {
    let bench = Bench::new();
    bench.write("named", "x");
    let accounts =
        "RUN echo 'ann:x:77:78::/:/bin/sh' >> /etc/passwd && echo 'staff:x:79:' >> /etc/group\n";
    let moved = [
        ("plain", "RUN true\n"),
        ("linked", "RUN mkdir /opt && mv /etc/passwd /opt/p && ln -s ../opt/p /etc/passwd\n"),
        ("named", "RUN mkdir /a && mv /etc/passwd /etc/group /a && ln /a/* /etc\n"),
        ("both", "RUN mkdir /a && mv /etc/group /a/g && ln /a/g /z && ln -s /z /etc/group\n"),
    ];
    for (name, script) in moved {
        base(
            &bench,
            &format!("library/{name}:latest"),
            &format!("FROM busybox\n{accounts}{script}"),
        );
        let dockerfile = format!(
            "FROM {name}\nCOPY --chown=ann:staff named /named\nUSER ann\nWORKDIR /named-dir/in\n\
             COPY --chown=nobody-at-all named /named-2\n"
        );
        let log = both_ways(&bench, &dockerfile, &[]);
        assert!(log.contains("not unpacked"), "{name}: {log}");
        let expected = ["-rw-r--r-- 77/79 1 named", "drwxr-xr-x 77/78 0 named-dir/"];
        let owners = owners(&bench);
        assert_eq!(owners[..2], expected, "{name}");
        assert_eq!(owners.last().unwrap(), "-rw-r--r-- 0/0 1 named-2", "{name}");
    }
}

#[test]
fn privileged_a_root_with_nothing_but_files_is_not_taken_for_an_empty_one() {
    let bench = Bench::new();
    bench.write("named", "x");
    base(&bench, "library/program:latest", "FROM scratch\nCOPY named /program\n");
    let log = both_ways(&bench, "FROM program\nCOPY --chown=ann named /named\n", &[]);
    assert!(log.contains("not unpacked"), "{log}");
    assert_eq!(owners(&bench), ["-rw-r--r-- 0/0 1 named"]);
}

#[test]
fn privileged_each_blob_is_fetched_once_and_none_where_no_file_changes() {
    let bench = Bench::new();
    bench.write("f", "x");
    let blobs = |from: usize| {
        let requests = bench.registry.requests();
        let blobs = requests[from..].iter().filter(|request| request.contains("/blobs/"));
        blobs.filter(|request| request.starts_with("GET")).count()
    };
    let count = |dockerfile: &str| {
        let before = bench.registry.requests().len();
        let log = bench.build(dockerfile, &["--no-push"]).assert_success().stderr;
        (blobs(before), log)
    };
    // The config is a blob too.
    let (config_only, log) = count("FROM busybox\nCMD [\"x\"]\n");
    assert_eq!(config_only, 1, "{log}");
    assert!(log.contains("base not read: no step changes files"), "{log}");
    let (read_once, log) = count("FROM busybox\nCOPY f /\n");
    assert_eq!(read_once, 2, "{log}");
    let (read_thrice, log) = count(
        "FROM busybox AS a\nRUN true\nFROM busybox\nCOPY --from=a /bin/busybox /a\n\
         COPY --from=busybox:latest /bin/busybox /b\n",
    );
    assert_eq!(read_thrice, 2, "{log}");
}
