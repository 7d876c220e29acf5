//! Contexts in the clouds' storages, and Dockerfiles at an address.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use testkit::{HttpServer, Page, Pod, PodOutput, Storage};

use crate::bench::{Bench, host};

/// What a builder may hold beside page cache.
const ANONYMOUS_MEMORY: u64 = 64 << 20;

/// More than a builder may hold.
const LARGE: u64 = 100 << 20;

/// Writes a file of which no two mebibytes are the same.
fn large(path: &Path, size: u64) {
    let mut file = File::create(path).unwrap();
    let mut piece: Vec<u8> =
        (0..1_u32 << 20).map(|n| (n.wrapping_mul(n) >> 7).to_le_bytes()[0]).collect();
    for number in 0..size >> 20 {
        piece[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all(&piece).unwrap();
    }
}

/// The flags of the bench without its context.
fn flags(bench: &Bench, more: &[&str]) -> Vec<String> {
    let own = bench.flags(more).into_iter().filter(|flag| flag != "--context=dir:///workspace");
    std::iter::once("/kaniko/executor".to_owned()).chain(own).collect()
}

fn build(bench: &Bench, pod: &Pod, more: &[&str]) -> PodOutput {
    pod.run(flags(bench, more)).unwrap()
}

/// As whom a pod asks.
fn as_builder(pod: Pod, storage: &Storage) -> Pod {
    let (id, secret) = storage.keys();
    pod.env("S3_ENDPOINT", &storage.url())
        .env("AWS_ACCESS_KEY_ID", id)
        .env("AWS_SECRET_ACCESS_KEY", secret)
}

#[test]
fn privileged_a_large_context_from_a_bucket_needs_little_memory_and_leaves_no_archive() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox\nCOPY . /files\n\
                      RUN ls -A /files && test -f /files/large && ! test -e /files/ignored\n";
    bench.write("app/Dockerfile", dockerfile);
    bench.write("app/.dockerignore", "ignored\nlarge-not\n");
    bench.write("app/ignored", "s3cret\n");
    large(&bench.context().join("app/large"), LARGE);
    host("tar", &["-cf", "../context.tar.gz", "."], &bench.context());
    // What it is counts, and not what it is called.
    let archive = bench.context().parent().unwrap().join("context.tar.gz");
    let storage = Storage::s3(&archive, "team/context.tar.gz").unwrap();

    let pod = as_builder(bench.executor.pod().memory(500 << 20), &storage);
    let flags =
        ["--bucket=s3://contexts/team/context.tar.gz", "--context-sub-path=app", "--no-push"];
    let output = build(&bench, &pod, &flags).assert_success();
    assert_eq!(output.stdout, ".dockerignore\nDockerfile\nlarge\n", "{output}");
    let peak = output.usage.peak_anonymous;
    assert!(peak <= ANONYMOUS_MEMORY, "{peak} bytes of anonymous memory\n{output}");

    let refused = build(&bench, &pod, &["--context=s3://closed/team/context.tar.gz", "--no-push"]);
    assert_eq!(refused.code, 1, "{refused}");
    for expected in ["403", "it was asked as the owner of the access key", "allow this identity"] {
        assert!(refused.stderr.contains(expected), "{expected} is missing\n{refused}");
    }
    assert!(!refused.stderr.contains(storage.keys().1), "{refused}");
}

#[test]
fn privileged_a_dockerfile_comes_from_an_address_and_the_ignore_file_from_the_context() {
    let bench = Bench::new();
    let page = |text: &str| Page { body: text.into(), ..Page::default() };
    let pages = [
        ("/Dockerfile", page("FROM busybox\nCOPY . /files\nRUN ls -A /files\n")),
        ("/wrong", page("FROM busybox\nNONSENSE\n")),
        ("/large", Page { body: vec![b'#'; (4 << 20) + 1], ..Page::default() }),
    ];
    let server =
        HttpServer::pages(BTreeMap::from(pages.map(|(path, page)| (path.to_owned(), page))))
            .unwrap();
    bench.write(".dockerignore", "ignored\n");
    bench.write("ignored", "");
    bench.write("seen", "");
    let build = |path: &str| {
        let flag = format!("--dockerfile={}{path}", server.url());
        let command = [vec!["/kaniko/executor".to_owned()], bench.flags(&["--no-push", &flag])];
        bench.pod().run(command.concat()).unwrap()
    };
    let output = build("/Dockerfile?token=s3cret").assert_success();
    assert_eq!(output.stdout, ".dockerignore\nseen\n", "{output}");
    assert!(!output.stderr.contains("s3cret"), "{output}");
    for (path, expected) in [
        ("/wrong?token=s3cret", "/wrong?…:2"),
        ("/nowhere?token=s3cret", "invalid response status 404"),
        ("/large", "more than 4194304 bytes"),
    ] {
        let output = build(path);
        assert_eq!(output.code, 1, "{output}");
        assert!(output.stderr.contains(expected), "`{expected}` is missing\n{output}");
        assert!(!output.stderr.contains("s3cret"), "{output}");
    }
}

#[test]
fn privileged_a_sub_path_is_joined_to_a_plain_path_and_never_leads_out() {
    let bench = Bench::new();
    bench.tree(
        &testkit::Tree::new()
            .file("app/Dockerfile", "FROM busybox\nCOPY . /files\nRUN ls /files\n")
            .file("app/only", "")
            .symlink("out", "/etc")
            .symlink("in", "app"),
    );
    let build = |sub_path: &str| {
        let flag = format!("--context-sub-path={sub_path}");
        build(&bench, &bench.pod(), &["--context=/workspace", "--no-push", &flag])
    };
    for sub_path in ["app", "/app/", "in"] {
        let output = build(sub_path).assert_success();
        assert_eq!(output.stdout, "Dockerfile\nonly\n", "{output}");
    }
    for (sub_path, expected) in [
        ("../etc", "leaves the build context"),
        ("out", "leads out of the build context"),
        ("none", "there is no directory `none` in the build context"),
        ("app/only", "`app/only` is not a directory of the build context"),
    ] {
        let output = build(sub_path);
        assert_eq!(output.code, 1, "{output}");
        assert!(output.stderr.contains(expected), "`{expected}` is missing\n{output}");
    }
}
