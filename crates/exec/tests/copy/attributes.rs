//! Owners, modes, times and links.

use std::collections::BTreeMap;

use ebiko_plan::{CopyFrom, StageId};
use ebiko_rootfs::Attributes;

use crate::bench::{Bench, SOME_TIME, check, check_stage, path};

#[test]
fn context_files_belong_to_root_and_keep_their_mode() {
    check(
        "a=1@4755:7:8 d/@2770:7:8 d/b=2@600:7:8",
        "",
        "COPY . /",
        "a=1@4755:0:0 d/@2770:0:0 d/b=2@600:0:0",
    );
    check("pipe|@600:7:8", "", "COPY . /", "pipe|Fifo0:0@600:0:0");
}

#[test]
fn files_of_a_stage_keep_their_owner() {
    check_stage(
        "d/a=1@4755:7:8 d/s/@2770:7:8 d/l->a@777:7:8",
        "",
        "COPY d /t",
        "t/ t/a=1@4755:7:8 t/l->a@644:7:8 t/s/@2770:7:8",
    );
    check_stage(
        "d/null%@666:0:0 d/pipe|@600:7:8",
        "",
        "COPY d /t",
        "t/ t/null|CharDevice1:3@666:0:0 t/pipe|Fifo0:0@600:7:8",
    );
    check_stage("null%@666:0:0", "", "COPY null /n", "n|CharDevice1:3@666:0:0");
}

#[test]
fn chown_owns_everything_that_is_made() {
    let made = "x/@755:5:6 x/t/@755:5:6 x/t/a=1@4711:5:6 x/t/l->a@644:5:6 x/t/s/@700:5:6";
    check("d/a=1@4711 d/l->a d/s/@700", "", "COPY --chown=5:6 d /x/t", made);
    check_stage("d/a=1@4711:1:1 d/l->a@777:1:1 d/s/@700:1:1", "", "COPY --chown=5:6 d /x/t", made);
    check("a=1", "x/", "COPY --chown=5 a /x/", "x/ x/a=1@644:5:5");
    check(
        "a=1",
        "",
        "COPY --chown=ann a /",
        "error: invalid user index: -1: the root is empty, so `ann` is nobody",
    );
    check("a=1", "x/", "COPY --chown=ann a /", "a=1 x/");
}

#[test]
fn hard_links_in_one_tree_stay_hard_links() {
    let bench = Bench::new("d/a=1@4755:3:3", "");
    let stage = &bench.inputs.stages[&StageId(0)];
    stage.hard_link(&path("d/a"), &path("d/b")).unwrap();
    stage.hard_link(&path("d/a"), &path("c")).unwrap();
    bench.copy(CopyFrom::Stage(StageId(0)), "COPY d /t").unwrap();
    assert_eq!(bench.print(), "t/ t/a=1@4755:3:3 (linked) t/b=1@4755:3:3 (linked)");
    bench.copy(CopyFrom::Stage(StageId(0)), "COPY c d/a /u/").unwrap();
    assert_eq!(
        bench.print(),
        "t/ t/a=1@4755:3:3 (linked) t/b=1@4755:3:3 (linked) u/ u/a=1@4755:3:3 u/c=1@4755:3:3"
    );
}

#[test]
fn times_and_extended_attributes_are_kept() {
    let bench = Bench::new("d/a=1 d/s/ d/l->a", "");
    let xattrs = BTreeMap::from([(b"user.note".to_vec(), b"kept".to_vec())]);
    let noted = Attributes { xattrs: Some(xattrs.clone()), ..Attributes::default() };
    bench.inputs.stages[&StageId(0)].set_attributes(&path("d/a"), &noted).unwrap();
    bench.inputs.stages[&StageId(0)]
        .set_attributes(
            &path("d/a"),
            &Attributes { mtime: Some(SOME_TIME), ..Attributes::default() },
        )
        .unwrap();
    bench.copy(CopyFrom::Stage(StageId(0)), "COPY d /t").unwrap();
    for copied in ["t/a", "t/s", "t/l"] {
        assert_eq!(bench.root.metadata(&path(copied)).unwrap().mtime, SOME_TIME, "{copied}");
    }
    assert_eq!(bench.root.xattrs(&path("t/a")).unwrap(), xattrs);
}
