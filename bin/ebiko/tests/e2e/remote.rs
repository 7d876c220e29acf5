//! Contexts and sources that are fetched.

use std::collections::BTreeMap;

use testkit::base::busybox;
use testkit::{
    ArchiveEntry, ArchiveKind, GitRepository, GitServer, HttpServer, Packing, PodOutput, archive,
    packed,
};

use crate::bench::{Bench, host};

fn file(path: &str, text: &str) -> ArchiveEntry {
    ArchiveEntry {
        path: path.to_owned(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: testkit::FIXED_TIME,
        kind: ArchiveKind::File(text.into()),
    }
}

/// A web server with an archive of these files at `/files.tar.gz` and a page at `/page`.
fn web(files: &[ArchiveEntry]) -> HttpServer {
    let body = packed(archive(files).unwrap(), Packing::Gzip).unwrap();
    let page = |body: Vec<u8>| testkit::Page { body, ..testkit::Page::default() };
    let pages = [("/files.tar.gz", page(body)), ("/page", page(b"fetched\n".to_vec()))];
    HttpServer::pages(BTreeMap::from(pages.map(|(path, page)| (path.to_owned(), page)))).unwrap()
}

/// Runs the program with this context instead of the bench's.
fn build_from(bench: &Bench, context: &str) -> PodOutput {
    let flags = [format!("--context={context}"), "--no-push".to_owned()];
    let own = bench.flags(&[]).into_iter().filter(|flag| !flag.starts_with("--context="));
    let command = [vec!["/kaniko/executor".to_owned()], own.collect(), flags.to_vec()].concat();
    bench.pod().run(command).unwrap()
}

#[test]
fn privileged_named_contexts_come_from_archives_repositories_and_layouts() {
    let bench = Bench::new();
    let server = web(&[file("note", "of the archive\n")]);
    let repositories = testkit::scratch_dir("repositories-").unwrap();
    let repository = GitRepository::init(&repositories.path().join("app")).unwrap();
    repository.write("sub/note", "of the tag\n").unwrap();
    repository.commit("first").unwrap();
    repository.git(&["tag", "v1"]).unwrap();
    repository.write("sub/note", "of the branch\n").unwrap();
    repository.commit("second").unwrap();
    let git = GitServer::smart(repositories.path()).unwrap();
    let config = BTreeMap::from([("Env".to_owned(), serde_json::json!(["FROM_LAYOUT=1"]))]);
    busybox().unwrap().with_config(&config, &bench.out("base")).unwrap();
    let dockerfile = "FROM base\nRUN echo $FROM_LAYOUT\nCOPY --from=files /note /from-archive\n\
        RUN --mount=from=repository,target=/r cat /from-archive /r/note\nRUN test ! -e /from-repository\n";
    let contexts = [
        format!("--build-context=files={}/files.tar.gz", server.url()),
        format!("--build-context=repository={}#v1:sub", git.url("app/.git")),
        "--build-context=base=oci-layout:///out/base:image".to_owned(),
    ];
    let flags = contexts.iter().map(String::as_str).chain(["--no-push"]);
    let output = bench.build(dockerfile, &flags.collect::<Vec<_>>()).assert_success();
    assert_eq!(output.stdout, "1\nof the archive\nof the tag\n", "{output}");
    let requests = bench.registry.requests();
    assert!(!requests.iter().any(|line| line.contains("/manifests/")), "{requests:#?}");
}

#[test]
fn privileged_the_context_is_an_archive_or_a_repository_by_its_address() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox\nCOPY note /\nRUN cat /note\n";
    let server =
        web(&[file("Dockerfile", dockerfile), file("note", "of the archive\n"), file("other", "")]);
    let output = build_from(&bench, &format!("{}/files.tar.gz", server.url())).assert_success();
    assert_eq!(output.stdout, "of the archive\n", "{output}");

    let repositories = testkit::scratch_dir("repositories-").unwrap();
    let repository = GitRepository::init(&repositories.path().join("app")).unwrap();
    repository.write("sub/Dockerfile", dockerfile).unwrap();
    repository.write("sub/note", "of the branch\n").unwrap();
    repository.commit("first").unwrap();
    repository.git(&["checkout", "-q", "-b", "next"]).unwrap();
    repository.write("sub/note", "of the next branch\n").unwrap();
    repository.commit("second").unwrap();
    repository.git(&["checkout", "-q", "master"]).unwrap();
    let git = GitServer::smart(repositories.path()).unwrap();
    let address = git.url("app/.git");
    for (fragment, expected) in
        [("#:sub", "of the branch\n"), ("#next:sub", "of the next branch\n")]
    {
        let output = build_from(&bench, &format!("{address}{fragment}")).assert_success();
        assert_eq!(output.stdout, expected, "{output}");
    }
    let pod = bench.pod().env("GIT_PULL_METHOD", "http");
    let as_kaniko = |flags: &[&str]| {
        let context = address.replace("http://", "--context=git://");
        let flags = [&[&*context, "--context-sub-path=sub", "--no-push"], flags].concat();
        let own = bench.flags(&flags).into_iter().filter(|flag| !flag.ends_with("/workspace"));
        let command = std::iter::once("/kaniko/executor".to_owned()).chain(own);
        pod.run(command.collect::<Vec<_>>()).unwrap()
    };
    let output = as_kaniko(&["--git=branch=next,depth=2"]).assert_success();
    assert_eq!(output.stdout, "of the next branch\n", "{output}");
    let output = as_kaniko(&["--git=tag=next"]);
    assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output}");
    assert!(output.stderr.contains("`--git=tag` is unknown; there are branch, "), "{output}");

    let output = build_from(&bench, &format!("{address}#nowhere"));
    assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output}");
    assert!(output.stderr.contains("nowhere"), "{output}");
}

#[test]
fn privileged_what_add_fetches_has_the_checksum_that_is_given() {
    let bench = Bench::new();
    let server = web(&[]);
    bench.write("page", "fetched\n");
    let sum = host("sha256sum", &["page"], &bench.context());
    let sum = sum.split(' ').next().unwrap();
    let dockerfile = |sum: &str| {
        let url = server.url();
        format!("FROM busybox\nADD --checksum=sha256:{sum} {url}/page /a/\nRUN cat /a/page\n")
    };
    let output = bench.build(&dockerfile(sum), &["--no-push"]).assert_success();
    assert_eq!(output.stdout, "fetched\n");
    let wrong = sum.chars().rev().collect::<String>();
    let output = bench.build(&dockerfile(&wrong), &["--no-push"]);
    assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output}");
    for expected in ["Dockerfile:2", sum, &wrong] {
        assert!(output.stderr.contains(expected), "`{expected}` is missing\n{output}");
    }
}
