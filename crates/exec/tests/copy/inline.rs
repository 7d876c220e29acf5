//! Here-documents as files.

use ebiko_plan::CopyFrom;

use crate::bench::{Bench, SOME_TIME, check, path};

#[test]
fn a_here_document_is_a_file_of_root() {
    check("", "", "COPY <<f=1 /t", "t=1");
    check("", "", "COPY <<f=1 <<g /t/", "t/ t/f=1 t/g");
    check("", "t/", "COPY <<f=1 /t", "t/ t/f=1");
    check("", "t/f=old", "COPY <<f=1 <<f=2 /t/", "t/ t/f=2");
    check("a=1", "", "COPY <<a=2 a /t/", "t/ t/a=2");
}

#[test]
fn flags_concern_it() {
    check("", "", "COPY --chown=3:4 --chmod=4711 <<f=1 /d/f", "d/@711:3:4 d/f=1@4711:3:4");
    check("", "real/ t->real", "COPY --link <<f=1 /t/", "real/ t/ t/f=1");
}

#[test]
fn it_is_as_old_as_the_build() {
    let bench = Bench::new("", "");
    bench.copy(CopyFrom::Context, "COPY <<f=1 /f").unwrap();
    assert_eq!(bench.root.metadata(&path("f")).unwrap().mtime, SOME_TIME);
}

#[test]
fn a_name_is_one_component() {
    check("", "", "COPY <<a/b=1 /t/", "error: open /a/b: no such file or directory");
    check(
        "",
        "",
        "COPY <<..=1 /t/",
        "error: a file cannot have this name: `..` is not the name of one file",
    );
}

#[test]
fn what_cannot_be_replaced_is_an_error() {
    check("", "t/f/", "COPY <<f=1 /t/", "error: cannot replace to directory /t/f with file");
    check("", "t=file", "COPY <<f=1 /t/", "error: mkdir /t: not a directory");
}
