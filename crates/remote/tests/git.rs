//! Checkouts, judged by `git clone`, from servers of every kind.

#![expect(clippy::disallowed_methods, reason = "tests arrange the world around the crate")]

use std::error::Error as _;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;

use ebiko_remote::{
    Authorization, Checkout, GitError, GitRequest, History, Limits, Network, checkout,
};
use ebiko_transport::{Options, Retries, Transport};
use tempfile::TempDir;
use testkit::{GitRepository, GitServer, GitService, git, listing, scratch_dir};

fn transport() -> Transport {
    let retries = Retries { attempts: 1, ..Retries::default() };
    Transport::new(&Options { retries, ..Options::default() }).expect("the defaults are right")
}

fn fetch(request: &GitRequest, directory: &Path) -> Result<Checkout, GitError> {
    let transport = transport();
    let network = Network { transport: &transport, is_interrupted: &|| false, ssh: None };
    checkout(&network, request, directory)
}

fn request(remote: String, reference: Option<&str>) -> GitRequest {
    let reference = reference.map(str::to_owned);
    GitRequest { remote, reference, submodules: true, ..GitRequest::default() }
}

/// An error and its causes on one line.
fn shown(error: &GitError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// A directory with a repository of everything, in `git`, and a place for checkouts.
struct World {
    dir: TempDir,
    repository: GitRepository,
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What git makes of it.
    fn clone(&self, reference: Option<&str>) -> PathBuf {
        let clone =
            self.path(&format!("clone-{}", reference.unwrap_or_default().replace('/', "_")));
        if !clone.exists() {
            let from = self.path("git").display().to_string();
            let output = git(self.dir.path())
                .args(["clone", "-q", "--no-checkout", &from])
                .arg(&clone)
                .output()
                .expect("git starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let reference = reference.unwrap_or("origin/HEAD");
            let name = ["", "origin/"]
                .iter()
                .map(|place| format!("{place}{reference}"))
                .find(|name| run_git(&clone, &["checkout", "-q", "--detach", name]).0);
            assert!(name.is_some(), "git does not know {reference}");
            fs::remove_dir_all(clone.join(".git")).expect("the clone has a repository");
        }
        clone
    }
}

fn run_git(dir: &Path, arguments: &[&str]) -> (bool, String) {
    let output = git(dir).args(arguments).output().expect("git starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Bytes that do not compress, the same on every run.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(&mut next).take(length).collect()
}

fn world() -> World {
    let dir = scratch_dir("git-").expect("a directory");
    let repository = GitRepository::init(&dir.path().join("git")).expect("a repository");
    let write = |path: &str, content: &[u8]| repository.write(path, content).expect("a file");
    write("README", b"one\n");
    write("empty", b"");
    write("d\u{e9}j\u{e0} vu/\u{65e5}\u{672c}.txt", b"unicode\n");
    write("deep/er/and/deeper/file", b"x\n");
    write("bin/tool", b"#!/bin/sh\n");
    write("large", &noise(1, 3 << 20));
    let text = |change: u32| {
        let line = |number: u32| {
            format!("line {number} {}\n", if number == change { "changed" } else { "" })
        };
        (0..4000).map(line).collect::<String>()
    };
    write("text", text(0).as_bytes());
    let tool = repository.dir().join("bin/tool");
    fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("a mode");
    for (target, link) in [("README", "link"), ("/etc/passwd", "out"), ("../../..", "deep/up")] {
        std::os::unix::fs::symlink(target, repository.dir().join(link)).expect("a link");
    }
    let run = |arguments: &[&str]| repository.git(arguments).expect("git does it");
    repository.commit("one").expect("a commit");
    run(&["tag", "light"]);
    for change in 1..8 {
        write("text", text(change * 100).as_bytes());
        repository.commit("more").expect("a commit");
    }
    run(&["tag", "-a", "-m", "a tag", "annotated"]);
    run(&["tag", "-a", "-m", "a tag of a tag", "twice", "annotated"]);
    run(&["checkout", "-q", "-b", "feature/x", "light"]);
    write("feature", b"f\n");
    repository.commit("feature").expect("a commit");
    run(&["checkout", "-q", "master"]);
    run(&["merge", "-q", "--no-edit", "feature/x"]);
    write("README", b"last\n");
    repository.commit("last").expect("a commit");
    repository.update_server_info().expect("the lists are written");
    World { dir, repository }
}

const REFERENCES: [Option<&str>; 6] =
    [None, Some("light"), Some("annotated"), Some("twice"), Some("feature/x"), Some("master")];

/// Checks out every reference from `server` and compares with what git checks out.
fn compare(world: &World, server: &GitServer, kind: &str) {
    let id = world.repository.git(&["rev-parse", "master~3"]).expect("a commit");
    for (number, reference) in REFERENCES.into_iter().chain([Some(id.as_str())]).enumerate() {
        let directory = world.path(&format!("{kind}-{number}"));
        let request = request(server.url("git/.git"), reference);
        let ours = match fetch(&request, &directory) {
            Ok(checkout) => checkout,
            Err(error) => panic!("{kind} {reference:?}: {}", shown(&error)),
        };
        let theirs = world.clone(reference);
        let name = format!("{}^{{commit}}", reference.unwrap_or("master"));
        let commit = world.repository.git(&["rev-parse", &name]).expect("a commit");
        assert_eq!(ours.commit.to_string(), commit, "{kind} {reference:?}");
        assert_eq!(ours.commit_time, 1_700_000_101);
        assert_same(&ours.directory, &theirs, &format!("{kind} {reference:?}"));
        let left: Vec<_> = fs::read_dir(&directory)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(left, ["tree"], "nothing else is left");
    }
}

fn assert_same(ours: &Path, theirs: &Path, what: &str) {
    assert_eq!(listing(ours).expect("a tree"), listing(theirs).expect("a tree"), "{what}");
    let diff = Command::new("diff")
        .args(["-r", "--no-dereference"])
        .args([ours, theirs])
        .output()
        .expect("diff starts");
    assert!(diff.status.success(), "{what}: {}", String::from_utf8_lossy(&diff.stdout));
}

fn start(world: &World, service: GitService) -> GitServer {
    GitServer::start(world.dir.path(), service).expect("a server")
}

fn smart() -> GitService {
    GitService { is_smart: true, ..GitService::default() }
}

#[test]
fn files_on_a_web_server_are_a_repository() {
    let world = world();
    compare(&world, &start(&world, GitService::default()), "loose");
    world.repository.git(&["gc", "-q"]).expect("a pack");
    world.repository.update_server_info().expect("the lists are written");
    compare(&world, &start(&world, GitService::default()), "packed");
}

#[test]
fn both_versions_of_the_protocol_give_what_git_gives() {
    let world = world();
    compare(&world, &start(&world, smart()), "second");
    let settings = vec![("uploadpack.allowReachableSHA1InWant".into(), "true".into())];
    compare(
        &world,
        &start(&world, GitService { is_first_version: true, settings, ..smart() }),
        "first",
    );
    world.repository.git(&["gc", "-q", "--aggressive"]).expect("a pack");
    compare(&world, &start(&world, smart()), "second-packed");
    // A commit that may not be asked for is found in all that may.
    compare(
        &world,
        &start(&world, GitService { is_first_version: true, ..smart() }),
        "first-packed",
    );
}

#[test]
fn only_what_is_wanted_is_asked_for() {
    let world = world();
    let server = start(&world, smart());
    fetch(&request(server.url("git/.git"), Some("light")), &world.path("one")).expect("a checkout");
    assert_eq!(
        server.requests(),
        [
            "GET /git/.git/info/refs?service=git-upload-pack",
            "POST /git/.git/git-upload-pack",
            "POST /git/.git/git-upload-pack",
        ]
    );
}

#[test]
fn a_kept_git_directory_is_one_for_git() {
    let world = world();
    for (kind, service) in [("files", GitService::default()), ("smart", smart())] {
        let server = start(&world, service);
        for reference in ["annotated", "feature/x"] {
            let directory = world.path(&format!("kept-{kind}-{}", reference.replace('/', "_")));
            let request = GitRequest {
                keep_git_dir: true,
                ..request(server.url("git/.git"), Some(reference))
            };
            let ours =
                fetch(&request, &directory).unwrap_or_else(|error| panic!("{}", shown(&error)));
            let tree = &ours.directory;
            let head = fs::read_to_string(tree.join(".git/HEAD")).expect("a head");
            assert_eq!(head, format!("{}\n", ours.commit));
            assert_eq!(run_git(tree, &["status", "--porcelain"]), (true, String::new()), "{kind}");
            let (is_fine, said) = run_git(tree, &["fsck", "--full", "--strict"]);
            assert!(is_fine, "{kind} {reference}: {said}");
            let (_, count) = run_git(tree, &["rev-list", "--count", reference]);
            assert_eq!(count, "1\n", "{kind} {reference}: the history is cut");
            let (_, url) = run_git(tree, &["remote", "get-url", "origin"]);
            assert_eq!(url.trim_end(), server.url("git/.git"));
        }
    }
}

#[test]
fn as_much_history_comes_as_is_wanted() {
    let dir = scratch_dir("history-").expect("a directory");
    let repository = GitRepository::init(&dir.path().join("git")).expect("a repository");
    for number in 1..=5 {
        repository.write("file", number.to_string()).expect("a file");
        repository.commit(&format!("number {number}")).expect("a commit");
    }
    // A shortcut: two commits are at the same distance, and one of them has two ways.
    repository.git(&["checkout", "-q", "-b", "side", "HEAD~3"]).expect("a branch");
    repository.write("side", "x").expect("a file");
    repository.commit("side").expect("a commit");
    repository.git(&["checkout", "-q", "master"]).expect("a branch");
    repository.git(&["merge", "-q", "--no-ff", "-m", "merge", "side"]).expect("a merge");
    repository.update_server_info().expect("the lists are written");
    let count = |depth| History::Commits(NonZero::new(depth).expect("not none"));
    let first = GitService { is_first_version: true, ..smart() };
    for (kind, service) in [("smart", smart()), ("first", first), ("files", GitService::default())]
    {
        let server = GitServer::start(dir.path(), service).expect("a server");
        for (name, history, expected) in [
            ("none", History::None, "1\n"),
            ("two", count(2), "3\n"),
            ("three", count(3), "5\n"),
            ("many", count(1000), "7\n"),
            ("whole", History::Whole, "7\n"),
        ] {
            let directory = dir.path().join(format!("{kind}-{name}"));
            let request =
                GitRequest { history, keep_git_dir: true, ..request(server.url("git/.git"), None) };
            let ours =
                fetch(&request, &directory).unwrap_or_else(|error| panic!("{}", shown(&error)));
            let (_, count) = run_git(&ours.directory, &["rev-list", "--count", "HEAD"]);
            let (is_fine, said) = run_git(&ours.directory, &["fsck", "--full", "--strict"]);
            assert!(is_fine, "{kind} {name}: {said}");
            assert_eq!(count, expected, "{kind} {name}");
        }
    }
}

#[test]
fn a_directory_of_the_repository_can_be_all_that_is_wanted() {
    let world = world();
    let server = start(&world, smart());
    let subdir = |subdir: &str, place: &str| {
        let subdir = subdir.to_owned();
        let request =
            GitRequest { subdir, keep_git_dir: true, ..request(server.url("git/.git"), None) };
        match fetch(&request, &world.path(place)) {
            Ok(ours) => listing(&ours.directory).expect("a tree"),
            Err(error) => shown(&error),
        }
    };
    assert_eq!(
        subdir("/deep/./er/../er", "a"),
        "drwxr-xr-x and\ndrwxr-xr-x and/deeper\n-rw-r--r-- and/deeper/file 2\n"
    );
    let bad = |name: &str| {
        format!(
            "cannot fetch the git repository `{}`: invalid subdir {name}: it is not a directory of \
             the repository",
            server.url("git/.git")
        )
    };
    assert_eq!(subdir("nope", "b"), bad("nope"));
    assert_eq!(subdir("README", "c"), bad("README"));
    assert_eq!(subdir("deep/up", "d"), bad("deep/up"));
}

#[test]
fn files_may_be_as_old_as_the_commit() {
    let world = world();
    let server = start(&world, smart());
    let request = GitRequest { commit_time: true, ..request(server.url("git/.git"), None) };
    let ours = fetch(&request, &world.path("old")).expect("a checkout");
    for name in ["", "README", "link", "deep", "deep/er/and/deeper/file", "bin/tool"] {
        let metadata = fs::symlink_metadata(ours.directory.join(name)).expect("it is there");
        let time = std::os::unix::fs::MetadataExt::mtime(&metadata);
        assert_eq!(time, 1_700_000_101, "{name}");
    }
}

#[test]
fn a_checksum_names_the_commit_or_the_tag() {
    let world = world();
    let server = start(&world, smart());
    let rev = |name: &str| world.repository.git(&["rev-parse", name]).expect("a name");
    let mut number = 0;
    let mut with = |reference: Option<&str>, checksum: &str, by_commit: bool| {
        number += 1;
        let request = GitRequest {
            checksum: Some(checksum.to_owned()),
            fetch_by_commit: by_commit,
            ..request(server.url("git/.git"), reference)
        };
        match fetch(&request, &world.path(&format!("sum-{number}"))) {
            Ok(ours) => ours.commit.to_string(),
            Err(error) => error.source().map(ToString::to_string).unwrap_or_default(),
        }
    };
    let (light, tag, tagged) = (rev("light"), rev("annotated"), rev("annotated^{}"));
    let (master, twice) = (rev("master"), rev("twice"));
    assert_eq!(with(Some("light"), &light[..8], false), light);
    assert_eq!(with(None, &master[..8], false), master);
    assert_eq!(with(Some("annotated"), &tag, false), tagged);
    assert_eq!(with(Some("annotated"), &tagged[..12], false), tagged);
    assert_eq!(with(Some("twice"), &twice, false), tagged);
    let got = |expected: &str, actual: &str| {
        format!("expected checksum to match {expected}, got {actual}")
    };
    assert_eq!(with(Some("master"), &light[..8], false), got(&light[..8], &master));
    assert_eq!(with(Some("light"), &master, false), got(&master, &light));
    assert_eq!(with(Some("annotated"), &light, false), got(&light, &format!("{tag} or {tagged}")));
    assert_eq!(with(Some(&light), &master, false), got(&master, &light));
    assert_eq!(with(Some(&light), &light[..5], false), light);
    assert_eq!(with(Some("whatever"), &light, true), light);
    assert_eq!(with(None, &tagged, true), tagged);
    assert_eq!(
        with(None, "foobar", false),
        "invalid checksum foobar for Git URL, expected hex commit hash"
    );
    assert_eq!(
        with(None, "abc", true),
        "fetch-by-commit requires a full commit SHA checksum, got \"abc\""
    );
}

#[test]
fn what_is_not_there_is_reported_as_other_builders_do() {
    let world = world();
    let mut number = 0;
    for service in
        [GitService::default(), smart(), GitService { is_first_version: true, ..smart() }]
    {
        let server = start(&world, service);
        let mut with = |reference: &str| {
            number += 1;
            let request = request(server.url("git/.git"), Some(reference));
            let error =
                fetch(&request, &world.path(&format!("no-{number}"))).expect_err("no such thing");
            error.source().map(ToString::to_string).unwrap_or_default()
        };
        let no = |name: &str| format!("repository does not contain ref {name}, output: \"\"");
        assert_eq!(with("refs/heads/light"), no("refs/heads/light"));
        assert_eq!(with("abcdef12"), no("abcdef12"));
        let feature = world.repository.git(&["rev-parse", "feature/x"]).expect("a name");
        assert_eq!(
            with("x"),
            format!(
                "repository does not contain ref x, output: \"{feature}\\trefs/heads/feature/x\\n\""
            )
        );
        let missing = "1".repeat(40);
        let error = with(&missing);
        let expected = [
            format!("object {missing} is missing"),
            format!("repository does not contain commit {missing}"),
        ];
        assert!(expected.contains(&error), "{error}");
        let gone = request(server.url("gone/.git"), None);
        let error =
            fetch(&gone, &world.path(&format!("gone-{number}"))).expect_err("no such thing");
        assert!(shown(&error).ends_with("the server answers with status 404"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("GIT_AUTH_TOKEN")));
    }
}

#[test]
fn a_login_comes_from_the_url_or_from_a_secret_and_goes_to_one_host() {
    let world = world();
    let other = start(&world, smart());
    let login = Some("x-access-token:s3cret".to_owned());
    let server = start(&world, GitService { login, moved_to: Some(other.url("")), ..smart() });
    let plain = request(server.url("git/.git"), None);
    let error = fetch(&plain, &world.path("none")).expect_err("a login is needed");
    assert!(shown(&error).ends_with("the server answers with status 401"), "{}", shown(&error));

    let token = Authorization::token("s3cret").expect("a token");
    let with_token = GitRequest { authorization: Some(token.clone()), ..plain.clone() };
    fetch(&with_token, &world.path("token")).expect("a checkout");
    let in_url = plain.remote.replace("//", "//x-access-token:s3cret@");
    let in_url = GitRequest { remote: in_url, keep_git_dir: true, ..plain };
    let ours = fetch(&in_url, &world.path("url")).expect("a checkout");
    let config = fs::read_to_string(ours.directory.join(".git/config")).expect("a config");
    assert!(!config.contains("s3cret"), "{config}");
    let wrong = GitRequest { reference: Some("nope".into()), ..in_url };
    let error = fetch(&wrong, &world.path("wrong")).expect_err("no such thing");
    assert!(!format!("{error:?} {}", shown(&error)).contains("s3cret"), "{error:?}");

    // Another port is another server; it needs no login and must not be told one.
    let moved = GitRequest {
        remote: server.url("moved/git/.git"),
        authorization: Some(token),
        ..GitRequest::default()
    };
    fetch(&moved, &world.path("moved")).expect("a checkout");
    assert_eq!(
        other.requests().len(),
        4,
        "the list, the names twice, the pack: {:?}",
        other.requests()
    );
}

#[test]
fn submodules_are_checked_out_however_deep() {
    let world = world();
    let inner = GitRepository::init(&world.path("inner")).expect("a repository");
    inner.write("inner-file", "i\n").expect("a file");
    inner.commit("inner").expect("a commit");
    let middle = GitRepository::init(&world.path("group/middle")).expect("a repository");
    middle.write("middle-file", "m\n").expect("a file");
    middle.git(&["submodule", "--quiet", "add", "../../inner", "lib/inner"]).expect("a submodule");
    middle.commit("middle").expect("a commit");
    let outer = GitRepository::init(&world.path("outer")).expect("a repository");
    outer.write("outer-file", "o\n").expect("a file");
    outer.git(&["submodule", "--quiet", "add", "../group/middle", "sub"]).expect("a submodule");
    let first = outer.commit("outer").expect("a commit");
    // The submodule moves on; the older commit still names its older one.
    middle.write("middle-file", "newer\n").expect("a file");
    middle.commit("newer").expect("a commit");

    let clone = world.path("outer-clone");
    let from = outer.dir().display().to_string();
    let (is_fine, said) = run_git(
        world.dir.path(),
        &["clone", "-q", "--recurse-submodules", &from, &clone.display().to_string()],
    );
    assert!(is_fine, "{said}");
    fs::remove_dir_all(clone.join(".git")).expect("the clone has a repository");
    for (number, service) in
        [smart(), GitService { is_first_version: true, ..smart() }].into_iter().enumerate()
    {
        let server = start(&world, service);
        // Relative to what the parent is called on this server.
        let request = |keep_git_dir, submodules| GitRequest {
            keep_git_dir,
            submodules,
            ..request(server.url("outer"), Some(&first))
        };
        let directory = world.path(&format!("with-{number}"));
        let ours = fetch(&request(false, true), &directory)
            .unwrap_or_else(|error| panic!("{}", shown(&error)));
        assert_same(&ours.directory, &clone, "with submodules");
        assert_eq!(
            fs::read_to_string(ours.directory.join("sub/middle-file")).expect("a file"),
            "m\n"
        );

        let kept = fetch(&request(true, true), &world.path(&format!("kept-{number}")))
            .expect("a checkout");
        let (_, said) =
            run_git(&kept.directory, &["status", "--porcelain", "--ignore-submodules=none"]);
        assert_eq!(said, "");
        let (is_fine, said) = run_git(&kept.directory, &["submodule", "status", "--recursive"]);
        assert!(
            is_fine && said.lines().count() == 2 && said.lines().all(|line| line.starts_with(' ')),
            "{said}"
        );
        let (_, said) = run_git(&kept.directory.join("sub/lib/inner"), &["status", "--porcelain"]);
        assert_eq!(said, "");

        let without = fetch(&request(false, false), &world.path(&format!("without-{number}")))
            .expect("a checkout");
        let text = listing(&without.directory).expect("a tree");
        assert!(text.ends_with("drwxr-xr-x sub\n"), "{text}");
    }
}

#[test]
fn submodules_are_nowhere_but_on_servers() {
    let world = world();
    let server = start(&world, smart());
    let mut number = 0;
    let mut with = |list: &str| {
        number += 1;
        let name = format!("bad-{number}");
        let repository = GitRepository::init(&world.path(&name)).expect("a repository");
        repository.write(".gitmodules", list).expect("a file");
        let id = "1".repeat(40);
        repository.git(&["add", "-A"]).expect("it is added");
        repository
            .git(&["update-index", "--add", "--cacheinfo", &format!("160000,{id},sub")])
            .expect("it is added");
        repository.git(&["commit", "-q", "-m", "x"]).expect("a commit");
        let request = request(server.url(&name), None);
        match fetch(&request, &world.path(&format!("bad-out-{number}"))) {
            Ok(ours) => listing(&ours.directory).expect("a tree"),
            Err(error) => shown(&error).split_once("`: ").unwrap_or_default().1.to_owned(),
        }
    };
    let module = |name: &str, rest: &str| format!("[submodule \"{name}\"]\n\tpath = sub\n{rest}\n");
    let local = "a repository must be on a server, not on this machine";
    for url in ["file:///etc", "/etc", "ext::sh -c true", "-u./x"] {
        let said = with(&module("sub", &format!("\turl = \"{url}\"")));
        assert!(said.ends_with(local) && said.contains("submodule `sub`"), "{url}: {said}");
    }
    let said = with(&module("sub", "\turl = git@h.example:a/b"));
    assert!(said.ends_with("there is no way to a repository over SSH here"), "{said}");
    assert_eq!(
        with(&module("../../x", "\turl = ../git")),
        "the submodule `../../x` may not have this name"
    );
    let said = with(&module("sub", "\turl = http://169.254.169.254/latest"));
    assert!(said.contains("169.254.169.254") && said.contains("not a public address"), "{said}");
    assert_eq!(with("nothing"), "no submodule mapping found in .gitmodules for path 'sub'");
    assert!(with(&module("sub", "\turl = /etc\n\tupdate = none")).ends_with("drwxr-xr-x sub\n"));
}

#[test]
fn trees_that_git_would_not_check_out_are_refused() {
    let world = world();
    let repository = GitRepository::init(&world.path("evil")).expect("a repository");
    repository.write("x", "payload\n").expect("a file");
    repository.commit("x").expect("a commit");
    let run = |arguments: &[&str]| repository.git(arguments).expect("git does it");
    let blob = run(&["rev-parse", "HEAD:x"]);
    let tree = run(&["rev-parse", "HEAD^{tree}"]);
    // mktree takes what the index would not; `-z` and raw bytes are not needed.
    let make = |lines: &str| -> String {
        let file = world.path("lines");
        fs::write(&file, lines).expect("a file");
        let output = git(repository.dir())
            .args(["hash-object", "-w", "-t", "tree", "--stdin", "--literally"])
            .stdin(fs::File::open(raw_tree(&world.path("raw"), lines)).expect("a file"))
            .output()
            .expect("git starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let mut number = 0;
    let server = start(&world, GitService::default());
    let mut with = |lines: &str| {
        number += 1;
        let root = make(lines);
        let commit = run(&["commit-tree", "-m", "evil", &root]);
        run(&["update-ref", "refs/heads/evil", &commit]);
        repository.update_server_info().expect("the lists are written");
        let place = world.path(&format!("evil-{number}"));
        let request = request(server.url("evil/.git"), Some("evil"));
        match fetch(&request, &place) {
            Ok(ours) => listing(&ours.directory).expect("a tree"),
            Err(error) => error.source().map(ToString::to_string).unwrap_or_default(),
        }
    };
    for name in [".git", "..", ".", ".GIT", "git~1", ".git ", "a\\.git", ".git::$INDEX_ALLOCATION"]
    {
        for (mode, id) in [("100644", &blob), ("40000", &tree), ("120000", &blob)] {
            let said = with(&format!("{mode} {name}\t{id}"));
            assert!(said.contains("may not be in a working tree"), "{mode} {name}: {said}");
        }
    }
    let said = with(&format!("100644 a/b\t{blob}"));
    assert!(said.contains("`a/b` may not be"), "{said}");
    assert!(with(&format!("120000 .gitmodules\t{blob}")).contains("may not be"));
    let said = with(&format!("120000 a\t{blob}\n40000 a\t{tree}"));
    assert!(said.ends_with("a name is there twice"), "{said}");
    let said = with(&format!("60000 device\t{blob}"));
    assert!(said.ends_with("an entry is malformed"), "{said}");
    assert!(with(&format!("100644 fine\t{blob}")).contains("fine 8"));
}

/// Writes a tree object's bytes from lines of `MODE NAME<tab>ID`.
fn raw_tree(path: &Path, lines: &str) -> PathBuf {
    let mut bytes = Vec::new();
    for line in lines.lines() {
        let (head, id) = line.split_once('\t').expect("a tab");
        bytes.extend_from_slice(head.as_bytes());
        bytes.push(0);
        bytes.extend(
            (0..20)
                .map(|place| u8::from_str_radix(&id[2 * place..2 * place + 2], 16).expect("hex")),
        );
    }
    fs::write(path, bytes).expect("a file");
    path.to_owned()
}

#[test]
fn objects_are_what_their_names_say() {
    let world = world();
    let server = start(&world, GitService::default());
    let id = world.repository.git(&["rev-parse", "HEAD:README"]).expect("a name");
    let other = world.repository.git(&["rev-parse", "HEAD:empty"]).expect("a name");
    let file = |id: &str| world.repository.dir().join(".git/objects").join(&id[..2]).join(&id[2..]);
    fs::remove_file(file(&id)).expect("it was there");
    fs::copy(file(&other), file(&id)).expect("it is copied");
    let error =
        fetch(&request(server.url("git/.git"), None), &world.path("swapped")).expect_err("not it");
    assert!(
        shown(&error).ends_with(&format!("object {id} is not what its name says")),
        "{}",
        shown(&error)
    );
}

#[test]
fn a_repository_costs_no_more_than_it_may() {
    let world = world();
    let mut number = 0;
    for service in [GitService::default(), smart()] {
        let server = start(&world, service);
        let mut with = |limits: Limits| {
            number += 1;
            let request = GitRequest { limits, ..request(server.url("git/.git"), None) };
            let place = world.path(&format!("limit-{number}"));
            shown(&fetch(&request, &place).expect_err("it costs too much"))
        };
        let limits = Limits::default;
        assert!(with(Limits { pack: 1 << 20, ..limits() }).ends_with("more than 1048576 bytes"));
        assert!(with(Limits { objects: 3, ..limits() }).ends_with("no more than 3 are taken"));
        assert!(
            with(Limits { object: 1 << 20, ..limits() })
                .ends_with("no more than 1048576 are taken")
        );
        assert!(with(Limits { files: 5, ..limits() }).ends_with("more than 5 files"));
        assert!(
            with(Limits { checkout: 1 << 20, ..limits() }).ends_with("more than 1048576 bytes")
        );
    }
}

#[test]
fn an_interrupted_build_ends_the_fetch() {
    let world = world();
    let server = start(&world, smart());
    let transport = transport();
    let asked = std::sync::atomic::AtomicU32::new(0);
    let is_interrupted = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 5;
    let network = Network { transport: &transport, is_interrupted: &is_interrupted, ssh: None };
    let request = request(server.url("git/.git"), None);
    let error = checkout(&network, &request, &world.path("stopped")).expect_err("interrupted");
    assert!(shown(&error).ends_with("interrupted"), "{}", shown(&error));
}

#[test]
fn a_repository_of_sha256_is_refused_by_name() {
    let dir = scratch_dir("git-").expect("a directory");
    let (is_fine, said) =
        run_git(dir.path(), &["init", "-q", "--object-format=sha256", "-b", "master", "new"]);
    assert!(is_fine, "{said}");
    let new = dir.path().join("new");
    fs::write(new.join("a"), "a").expect("a file");
    for arguments in [&["add", "a"][..], &["commit", "-q", "-m", "a"], &["update-server-info"]] {
        let (is_fine, said) = run_git(&new, arguments);
        assert!(is_fine, "{said}");
    }
    for (number, is_smart) in [true, false].into_iter().enumerate() {
        let server = GitServer::start(dir.path(), GitService { is_smart, ..GitService::default() });
        let request = request(server.as_ref().expect("a server").url("new/.git"), None);
        let error =
            fetch(&request, &dir.path().join(format!("out-{number}"))).expect_err("not yet");
        assert!(shown(&error).contains("SHA-256"), "{}", shown(&error));
    }
}

#[test]
fn a_directory_that_is_not_empty_is_left_alone() {
    let world = world();
    let server = start(&world, smart());
    let request = request(server.url("git/.git"), None);
    let error = fetch(&request, &world.path("git")).expect_err("there is a repository in it");
    assert!(shown(&error).ends_with("not empty"), "{}", shown(&error));
}
