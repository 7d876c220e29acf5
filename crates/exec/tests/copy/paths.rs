//! What goes where.

use std::fs;

use ebiko_exec::Touched;
use ebiko_plan::CopyFrom;

use crate::bench::{Bench, check};

#[test]
fn a_file_goes_into_a_directory_or_takes_a_name() {
    check("a=1", "", "COPY a /d/", "d/ d/a=1");
    check("a=1", "", "COPY a /d/.", "d/ d/a=1");
    check("a=1", "", "COPY a /x/y/d", "x/ x/y/ x/y/d=1");
    check("a=1", "d/", "COPY a /d", "d/ d/a=1");
    check("a=1", "b=old", "COPY a /b", "b=1");
    check("s/a=1", "", "COPY s/a /", "a=1");
    check("a=1 b=2", "", "COPY a b /c", "c=2");
}

#[test]
fn a_directory_gives_what_is_in_it() {
    check("d/@700 d/a=1@600 d/s/@711", "", "COPY d /t", "t/ t/a=1@600:0:0 t/s/@711:0:0");
    check(
        "d/a=1 d/s/b=2",
        "t/@700:3:3 t/s/@700:3:3 t/s/c",
        "COPY d /t/",
        "t/@700:3:3 t/a=1 t/s/ t/s/b=2 t/s/c",
    );
    check("d/a=1 e/b=2", "", "COPY d e /t/", "t/ t/a=1 t/b=2");
    check("a=1 d/b=2", "", "COPY . /", "a=1 d/ d/b=2");
}

#[test]
fn links_at_the_destination_are_followed_once() {
    check("a=1", "real/ to->real", "COPY a /to/", "real/ real/a=1 to->real");
    check("a=1", "real/ to->real", "COPY a /to", "real/ real/a=1 to->real");
    check("a=1", "f=old to->f", "COPY a /to", "f=1 to->f");
    check("a=1", "to->/missing/f", "COPY a /to", "missing/ missing/f=1 to->/missing/f");
    check("a=1", "d/ d/a->../f f=old", "COPY a /d/", "d/ d/a=1 f=old");
    check("a=1", "to->../../../up", "COPY a /to/", "to->../../../up up/ up/a=1");
    check("d/a=1", "real/ to->real", "COPY d /to", "real/ real/a=1 to->real");
}

#[test]
fn links_at_the_source_are_followed_and_links_below_are_kept() {
    check("f=1 l->f", "", "COPY l /x", "x=1");
    check("f=1 l->f", "", "COPY l /x/", "x/ x/l=1");
    check("d/f=1 d/l->f d/out->/etc/passwd", "", "COPY d /x", "x/ x/f=1 x/l->f x/out->/etc/passwd");
}

#[test]
fn what_cannot_be_replaced_is_named_in_buildkits_words() {
    check("d/a=1", "t=file", "COPY d /t", "error: cannot copy to non-directory: /t");
    check("d/s/a=1", "t/s->/x", "COPY d /t", "error: cannot copy to non-directory: /t/s");
    check("a=1", "d/a/", "COPY a /d/", "error: cannot replace to directory /d/a with file");
    check("a=1", "t=file", "COPY a /t/", "error: mkdir /t: not a directory");
    check("a=1", "t=file", "COPY a /t/x/y", "error: mkdir /t: not a directory");
    check("a=1", "", "COPY b /t", "error: cannot copy `/b`: \"/b\": not found");
}

#[test]
fn a_wildcard_that_matches_nothing_copies_nothing() {
    check("a=1", "", "COPY b* /t/", "");
    check("a1=1 a2=2 b=3", "", "COPY a* /t/", "t/ t/a1=1 t/a2=2");
}

#[test]
fn an_empty_root_has_nothing_but_itself() {
    let bench = Bench::new("", "");
    assert_eq!(
        bench.copy(CopyFrom::Scratch, "COPY x /").unwrap_err(),
        "error: cannot copy `/x`: \"/x\": not found"
    );
    bench.copy(CopyFrom::Scratch, "COPY x* /t/").unwrap();
    assert_eq!(bench.print(), "");
    bench.copy(CopyFrom::Scratch, "COPY . /t/").unwrap();
    assert_eq!(bench.print(), "t/");
}

#[test]
fn a_copy_of_a_tree_into_itself_ends() {
    let bench = Bench::new("", "d/a=1");
    let inside = fs::canonicalize(bench.directory.path().join("root")).unwrap();
    fs::remove_dir(bench.directory.path().join("context")).unwrap();
    std::os::unix::fs::symlink(inside, bench.directory.path().join("context")).unwrap();
    bench.copy(CopyFrom::Context, "COPY . /d/self").unwrap();
    assert_eq!(bench.print(), "d/ d/a=1 d/self/ d/self/d/ d/self/d/a=1");
}

#[test]
fn an_interrupt_stops_a_copy() {
    let bench = Bench::new("d/a=1", "");
    bench.interrupt.raise(15);
    assert_eq!(
        bench.copy(CopyFrom::Context, "COPY d /t").unwrap_err(),
        "error: interrupted by signal 15"
    );
}

#[test]
fn what_was_made_or_changed_is_touched() {
    let bench = Bench::new("d/a=1 d/s/b=2", "t/s/");
    let touched = |instruction: &str| match bench.copy(CopyFrom::Context, instruction).unwrap() {
        Touched::Paths(paths) => {
            paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        }
        Touched::Everything => "everything".to_owned(),
    };
    assert_eq!(touched("COPY d /t"), "t t/a t/s t/s/b");
    assert_eq!(touched("COPY d /x/y"), "x x/y x/y/a x/y/s x/y/s/b");
    assert_eq!(touched("COPY d/a /t/"), "t/a");
    assert_eq!(touched("COPY z* /t/"), "");
}
