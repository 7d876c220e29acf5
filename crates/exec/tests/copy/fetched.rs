//! `ADD` of downloads and repositories.

use ebiko_plan::CopyFrom;
use ebiko_rootfs::Time;

use crate::bench::{Bench, SOME_TIME, path};

/// Adds to a root with `root`, where `name` can be downloaded and has `content`, and compares the root or the error.
#[track_caller]
fn check_download(name: &str, content: &str, root: &str, instruction: &str, expected: &str) {
    let mut bench = Bench::new("", root);
    bench.download(name, content, None);
    let actual =
        bench.copy(CopyFrom::Context, instruction).map_or_else(|error| error, |_| bench.print());
    assert_eq!(actual, expected, "{instruction}");
}

/// Adds a checkout with `files` to a root with `root`.
#[track_caller]
fn check_git(files: &str, root: &str, instruction: &str, expected: &str) {
    let mut bench = Bench::new(files, root);
    bench.check_out();
    let actual =
        bench.copy(CopyFrom::Context, instruction).map_or_else(|error| error, |_| bench.print());
    assert_eq!(actual, expected, "{instruction}");
}

#[test]
fn a_download_is_a_file_that_only_root_reads() {
    check_download("q", "1", "", "ADD http:q /t/", "t/ t/q=1@600:0:0");
    check_download("q", "1", "", "ADD http:q /t", "t=1@600:0:0");
    check_download("q", "1", "t/", "ADD http:q /t", "t/ t/q=1@600:0:0");
    check_download("q", "1", "t->real", "ADD http:q /t/", "real/ real/q=1@600:0:0 t->real");
    check_download("q", "1", "t->real", "ADD --link http:q /t/", "t/ t/q=1@600:0:0");
    check_download(
        "q",
        "1",
        "",
        "ADD --chmod=755 --chown=3:4 http:q /t/",
        "t/@755:3:4 t/q=1@755:3:4",
    );
}

#[test]
fn a_download_is_as_old_as_the_server_says() {
    let mut bench = Bench::new("", "");
    bench.download("old", "1", Some(SOME_TIME));
    bench.download("unknown", "2", None);
    bench.copy(CopyFrom::Context, "ADD http:old http:unknown /").unwrap();
    assert_eq!(bench.root.metadata(&path("old")).unwrap().mtime, SOME_TIME);
    assert_eq!(bench.root.metadata(&path("unknown")).unwrap().mtime, Time::default());
}

#[test]
fn a_download_is_unpacked_on_request_only() {
    check_download("a.tar", "tar", "", "ADD http:a.tar /t/", "t/ t/a.tar=tar@600:0:0");
    check_download("a.tar", "tar", "", "ADD --unpack http:a.tar /t", "t/ t/member@644:5:5");
    check_download("q", "plain", "", "ADD --unpack http:q /t/", "t/ t/q=plain@600:0:0");
}

#[test]
fn what_was_not_fetched_is_an_error() {
    check_download("q", "1", "", "ADD http:r /t/", "error: `http://host/r` was not fetched");
}

#[test]
fn a_repository_is_copied_as_a_directory() {
    check_git(
        "n=1@644:7:8 s/@755:7:8 s/f=2@755:7:8 l->s/f@777:7:8",
        "",
        "ADD git: /z",
        "z/ z/l->s/f z/n=1 z/s/ z/s/f=2@755:0:0",
    );
    check_git("n=1", "z/@700:3:3 z/k", "ADD git: /z/", "z/@700:3:3 z/k z/n=1");
    check_git("n=1", "z=file", "ADD git: /z", "error: cannot copy to non-directory: /z");
    check_git("n=1", "z->real", "ADD git: /z", "real/ real/n=1 z->real");
}

#[test]
fn flags_concern_a_repository_and_the_directory_that_is_made_for_it() {
    check_git(
        "n=1 s/f=2",
        "",
        "ADD --chmod=1700 git: /x/z",
        "x/@700:0:0 x/z/@1700:0:0 x/z/n=1@1700:0:0 x/z/s/@1700:0:0 x/z/s/f=2@1700:0:0",
    );
    check_git("n=1 s/f=2", "", "ADD --chown=3:4 --exclude=s git: /z", "z/@755:3:4 z/n=1@644:3:4");
}
