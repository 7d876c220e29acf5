//! `--link`.

use ebiko_exec::Touched;
use ebiko_plan::CopyFrom;

use crate::bench::{Bench, check, path};

#[test]
fn links_on_the_way_become_directories() {
    check("a=1", "real/k=2 to->real", "COPY --link a /to/", "real/ real/k=2 to/ to/a=1");
    check("a=1", "real/k=2 to->real", "COPY --link a /to", "real/ real/k=2 to=1");
    check("d/s/a=1", "t/s->/x x/", "COPY --link d /t", "t/ t/s/ t/s/a=1 x/");
}

#[test]
fn what_is_there_is_not_looked_at() {
    check("a=1", "t/k=2", "COPY --link a /t", "t=1");
    check("d/a=1", "t=file", "COPY --link d /t", "t/ t/a=1");
    check("a=1", "t=file", "COPY --link a /t/x/y", "t/ t/x/ t/x/y=1");
    check("d/a=1", "t/a/b", "COPY --link d /t", "t/ t/a=1");
}

#[test]
fn directories_are_merged_and_the_upper_one_gives_the_attributes() {
    check("a=1", "t/@1777:5:6 t/k=2", "COPY --link a /t/", "t/ t/a=1 t/k=2");
    check(
        "d/s/@711 d/s/a=1",
        "t/@700:5:6 t/s/@700:5:6 t/s/k=2",
        "COPY --link --chown=3 d /t",
        "t/@755:3:3 t/s/@711:3:3 t/s/a=1@644:3:3 t/s/k=2",
    );
}

#[test]
fn what_the_copy_itself_made_is_looked_at() {
    check("d/a=1 b=2", "", "COPY --link d b /t", "t/ t/a=1 t/b=2");
    check("d/a=1 b=2", "t/k", "COPY --link b d /t", "error: cannot copy to non-directory: /t");
    check(
        "d/b/x b=2",
        "t/k",
        "COPY --link d b /t/",
        "error: cannot replace to directory /t/b with file",
    );
    check("b=2 c=3", "t/k", "COPY --link b c /t", "t=3");
}

#[test]
fn nobody_has_a_name() {
    check(
        "a=1",
        "etc/passwd=root:x:0:0::/root:",
        "COPY --link --chown=ann a /",
        "error: invalid user index: -1: with `--link` nothing is read, so `ann` is nobody",
    );
    check("a=1", "", "COPY --link --chown=root:7 a /", "a=1@644:0:7");
}

#[test]
fn an_archive_is_laid_over_too() {
    check("a.tar=tar", "real/ t->real", "ADD --link a.tar /t", "real/ t/ t/member@644:5:5");
    check(
        "a.tar=tar",
        "t/member/x",
        "ADD --link --chown=7 a.tar /t",
        "t/@755:7:7 t/member@644:7:7",
    );
    check("a=plain", "t/k", "ADD --link a /t/", "t/ t/a=plain t/k");
}

#[test]
fn directories_that_get_attributes_are_touched() {
    let bench = Bench::new("a=1", "x/y/ x/z->y");
    let touched = bench.copy(CopyFrom::Context, "COPY --link a /x/z/").unwrap();
    assert_eq!(touched, Touched::Paths([path("x"), path("x/z"), path("x/z/a")].into()));
}
