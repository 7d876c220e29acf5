//! `--exclude`.

use crate::bench::check;

const FILES: &str = "x/a=1 x/y/b=2 x/y/c=3 y/a=4 top=5";

#[test]
fn patterns_are_seen_from_the_directory_that_is_copied() {
    check(FILES, "", "COPY --exclude=a x /t", "t/ t/y/ t/y/b=2 t/y/c=3");
    check(FILES, "", "COPY --exclude=x/a x /t", "t/ t/a=1 t/y/ t/y/b=2 t/y/c=3");
    check(FILES, "", "COPY --exclude=y . /t", "t/ t/top=5 t/x/ t/x/a=1 t/x/y/ t/x/y/b=2 t/x/y/c=3");
    check(FILES, "", "COPY --exclude=**/y --exclude=top . /t", "t/ t/x/ t/x/a=1");
    check(FILES, "", "COPY --exclude=y [xy] /t", "t/ t/a=4");
}

#[test]
fn a_slash_in_front_never_matches() {
    check(FILES, "", "COPY --exclude=/y x /t", "t/ t/a=1 t/y/ t/y/b=2 t/y/c=3");
}

#[test]
fn an_exception_brings_what_it_is_in() {
    check(FILES, "", "COPY --exclude=* --exclude=!x/y/b . /t", "t/ t/x/ t/x/y/ t/x/y/b=2");
    check(FILES, "", "COPY --exclude=* --exclude=!nothing . /t", "t/");
}

#[test]
fn a_file_that_is_named_is_never_excluded() {
    check(FILES, "", "COPY --exclude=top to* /t/", "t/ t/top=5");
    check(FILES, "", "COPY --exclude=a x/a /t/", "t/ t/a=1");
}

#[test]
fn members_of_archives_and_here_documents_are_not_excluded() {
    check("a.tar=tar", "", "ADD --exclude=member a.tar /t", "t/ t/member@644:5:5");
    check("", "", "COPY --exclude=f <<f=1 /t/", "t/ t/f=1");
}

#[test]
fn a_pattern_that_is_none_is_an_error() {
    check(
        FILES,
        "",
        "COPY --exclude=[ x /t",
        "error: invalid excludepatterns: [[]: syntax error in pattern `[`: `[` is never closed by `]`",
    );
}
