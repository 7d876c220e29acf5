//! Contexts besides the context, and what is none.

use ebiko_plan::{CopyFrom, StageId};

use crate::bench::Bench;

/// Copies from a context of its own name, with an ignore file of its own.
#[track_caller]
fn check_named(files: &str, ignore: &str, instruction: &str, expected: &str) {
    let mut bench = Bench::new("a=wrong", "");
    bench.add_context(files, ignore);
    let actual = bench
        .copy(CopyFrom::Named("other".to_owned()), instruction)
        .map_or_else(|error| error, |_| bench.print());
    assert_eq!(actual, expected, "{instruction}");
}

#[test]
fn a_context_with_a_name_has_its_own_ignore_file() {
    check_named("a=1@600:7:8 b=2", "b", "COPY . /", "a=1@600:0:0");
    check_named(
        "a=1 b=2",
        "b",
        "COPY b /",
        "error: cannot copy `/b`: \"/b\": not found: line 1 of the ignore file excludes it: `b`",
    );
    check_named("d/a=1 d/b=2", "**/b", "COPY --parents d/* /", "d/ d/a=1");
    check_named("d/a=1 d/b=2", "**/a", "COPY --exclude=**/b . /t", "t/ t/d/");
}

#[test]
fn an_empty_root_can_be_copied_with_every_flag() {
    let bench = Bench::new("a=1", "t=file");
    bench.copy(CopyFrom::Scratch, "COPY --link --chown=5 --exclude=x / /t").unwrap();
    assert_eq!(bench.print(), "t/@755:5:5");
    bench.copy(CopyFrom::Scratch, "COPY --parents x* /u/").unwrap();
    assert_eq!(bench.print(), "t/@755:5:5 u/");
    assert_eq!(
        bench.copy(CopyFrom::Scratch, "COPY --parents x/y /u/").unwrap_err(),
        "error: cannot copy `/x/y` with its parents: \"/x/y\": not found"
    );
}

#[test]
fn what_was_not_made_ready_is_named() {
    let bench = Bench::new("a=1", "");
    assert_eq!(
        bench.copy(CopyFrom::Named("nobody".to_owned()), "COPY a /").unwrap_err(),
        "error: there is no `nobody` to copy from"
    );
    assert_eq!(
        bench.copy(CopyFrom::Stage(StageId(7)), "COPY a /").unwrap_err(),
        "error: there is no `stage 7` to copy from"
    );
}
