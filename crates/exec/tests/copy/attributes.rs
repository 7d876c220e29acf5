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
fn what_has_no_owner_belongs_to_whom_the_copy_is_for() {
    let made = "x/@755:5:6 x/t/@755:5:6 x/t/a=1@4755:5:6 x/t/l->a@644:5:6";
    check("d/a=1@4755:7:8 d/l->a", "", "COPY --user=5:6 d /x/t", made);
    check("a=1", "", "COPY --user=5 --chown=1:2 a /x/", "x/@755:1:2 x/a=1@644:1:2");
    check("", "", "COPY --user=5 <<f=1 /x/", "x/@755:5:5 x/f=1@644:5:5");
    // A stage says whose its files are, but nobody made the directory before.
    check_stage("a=1@644:7:8", "", "COPY --user=5:6 a /x/", "x/@755:5:6 x/a=1@644:7:8");

    let mut bench = Bench::new("", "etc/passwd=ann:x:1000:1001:::");
    bench.download("f", "1", None);
    // Names are the root's, with `--link` too: somebody is in force whatever the copy is laid over.
    for (instruction, at) in
        [("COPY --user=ann http:f /f", "f"), ("COPY --link --user=ann http:f /g", "g")]
    {
        bench.copy(CopyFrom::Context, instruction).unwrap();
        let metadata = bench.root.metadata(&path(at)).unwrap();
        assert_eq!((metadata.uid, metadata.gid), (1000, 1001), "{instruction}");
    }
}

#[test]
fn directories_on_the_way_have_the_mode_of_the_copy_or_the_usual_one() {
    check("a=1", "", "COPY --chmod=700 a /x/y/", "x/@700:0:0 x/y/@700:0:0 x/y/a=1@700:0:0");
    check("a=1", "", "COPY --chmod=700 --plain-parents a /x/y/", "x/ x/y/ x/y/a=1@700:0:0");
    check(
        "d/s/a=1",
        "",
        "COPY --chmod=700 --plain-parents d /x",
        "x/ x/s/@700:0:0 x/s/a=1@700:0:0",
    );
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
