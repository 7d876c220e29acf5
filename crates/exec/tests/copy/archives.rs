//! `ADD` of archives.

use std::collections::BTreeSet;

use ebiko_exec::Touched;
use ebiko_plan::CopyFrom;
use ebiko_rootfs::Attributes;

use crate::bench::{Bench, SOME_TIME, check, fill, path};

#[test]
fn an_archive_is_unpacked_into_a_directory_and_other_files_are_copied() {
    check("a.tar=tar", "", "ADD a.tar /x/t", "x/ x/t/ x/t/member@644:5:5");
    check("a.tar=tar", "", "ADD --chown=7:7 a.tar /t/", "t/@755:7:7 t/member@644:7:7");
    check("a.tar=tar", "", "COPY a.tar /t/", "t/ t/a.tar=tar");
    check("a=plain", "", "ADD a /x/t", "x/ x/t=plain");
    check("d/a.tar=tar", "", "ADD d /t", "t/ t/a.tar=tar");
    check("a.tar=tar", "real/ t->real", "ADD a.tar /t", "real/ real/member@644:5:5 t->real");
}

#[test]
fn looking_for_an_archive_leaves_no_trace() {
    let bench = Bench::new("a=plain", "d/");
    fill(&bench.root, "d/old");
    bench
        .root
        .set_attributes(&path("d"), &Attributes { mtime: Some(SOME_TIME), ..Attributes::default() })
        .unwrap();
    let touched = bench.copy(CopyFrom::Context, "ADD a /d/old").unwrap();
    assert_eq!(touched, Touched::Paths(BTreeSet::from([path("d/old")])));
    assert_eq!(bench.print(), "d/ d/old=plain");
}

#[test]
fn a_file_is_not_replaced_by_an_archive() {
    check("a.tar=tar", "t=file", "ADD a.tar /t", "error: mkdir /t: not a directory");
    check("a=plain", "t=file", "ADD a /t", "t=plain");
}
