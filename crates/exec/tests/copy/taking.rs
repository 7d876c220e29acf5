//! Copies that take what they read. [`Bench::perform`](crate::bench::Bench::perform) compares every copy from a stage with
//! one that may do so; here is what it takes, and what was made for it.

use std::fs;

use ebiko_plan::{CopyFrom, StageId};
use ebiko_rootfs::{Attributes, Xattrs};

use crate::bench::{Bench, path};

/// What a copy leaves of the stage, if nobody wants it afterwards.
#[track_caller]
fn check(bench: &Bench, instruction: &str, left: &str) {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    bench.copy(CopyFrom::Stage(StageId(0)), instruction).unwrap();
    assert_eq!(bench.left(), left, "{instruction}");
}

const STAGE: &str = "a=1 d/b=2 d/s/c=3 d/s/l->../b d/p|@644 e/";

#[test]
fn what_is_new_in_the_root_is_taken() {
    let new = || Bench::new(STAGE, "old/b=0 old/s/x=0 old/p");
    check(&new(), "COPY a /t", "d/ d/b=2 d/p|Fifo0:0 d/s/ d/s/c=3 d/s/l->../b e/");
    check(&new(), "COPY d /t", "a=1 d/ e/");
    check(&new(), "COPY / /t/", "");
    check(&new(), "COPY --link d /t", "a=1 d/ e/");
    check(&new(), "COPY --chown=5:6 --chmod=700 d /t", "a=1 d/ e/");
    check(&new(), "COPY a d/b /t/", "d/ d/p|Fifo0:0 d/s/ d/s/c=3 d/s/l->../b e/");
    check(&new(), "COPY [ae]* /t/", "d/ d/b=2 d/p|Fifo0:0 d/s/ d/s/c=3 d/s/l->../b e/");
    // A directory that is there is merged, and stays behind empty.
    check(&new(), "COPY d /old", "a=1 d/ d/s/ e/");
    check(&new(), "COPY --link d /old", "a=1 d/ d/s/ e/");
}

#[test]
fn what_is_read_twice_or_in_part_is_left() {
    let all = "a=1 d/ d/b=2 d/p|Fifo0:0 d/s/ d/s/c=3 d/s/l->../b e/";
    let new = || Bench::new(STAGE, "");
    check(&new(), "COPY d d/s /t/", all);
    check(&new(), "COPY a a /t/", all);
    check(&new(), "COPY a [a]* /t/", all);
    check(&new(), "COPY --exclude=s d /t/", all);
    check(&new(), "COPY --parents d/s /t/", all);
}

#[test]
fn what_others_read_later_is_left() {
    let stage = CopyFrom::Stage(StageId(0));
    let check_later = |later: &str, instruction: &str, left: &str| {
        let mut bench = Bench::new("a=1 d/b=2 d/s/c=3 d/to->/e e/f=4 way->d/to", "");
        bench.later.push(Bench::action(stage.clone(), later));
        check(&bench, instruction, left);
    };
    let all = "a=1 d/ d/b=2 d/s/ d/s/c=3 d/to->/e e/ e/f=4 way->d/to";
    check_later("COPY a e /t/", "COPY d /t", "a=1 d/ e/ e/f=4 way->d/to");
    check_later("COPY e/f /t/", "COPY d /t", "a=1 d/ e/ e/f=4 way->d/to");
    check_later("COPY d/b /t/", "COPY d/s /t", "a=1 d/ d/b=2 d/s/ d/to->/e e/ e/f=4 way->d/to");
    check_later("COPY d/s /t/", "COPY d /t", all);
    check_later("COPY d /t/", "COPY d/s /t", all);
    check_later("COPY / /t/", "COPY d /t", all);
    // What is on the way would be gone, or may be.
    check_later("COPY d/to/f /t/", "COPY d /t", all);
    check_later("COPY way /t/", "COPY d /t", all);
    check_later("COPY [e] /t/", "COPY d /t", all);
    check_later("COPY --parents e /t/", "COPY d /t", all);
    check_later("COPY none /t/", "COPY d /t", all);
}

#[test]
fn names_of_one_file_stay_together() {
    let linked = |names: &[(&str, &str)]| {
        let bench = Bench::new("d/a=1 d/s/b=2 x=3", "there/s/");
        for (name, first) in names {
            bench.inputs.stages[&StageId(0)].hard_link(&path(first), &path(name)).unwrap();
        }
        bench
    };
    check(&linked(&[("d/s/l", "d/s/b")]), "COPY d /t", "d/ x=3");
    check(&linked(&[("d/l", "d/s/b")]), "COPY d /t", "d/ d/l=2 (linked) d/s/ d/s/b=2 (linked) x=3");
    check(&linked(&[("d/l", "d/s/b")]), "COPY / /t/", "");
    check(&linked(&[("out", "d/a")]), "COPY d /t", "d/ d/a=1 (linked) out=1 (linked) x=3");
    check(&linked(&[("out", "d/s/b")]), "COPY d /t", "d/ d/s/ d/s/b=2 (linked) out=2 (linked) x=3");
    check(
        &linked(&[("out", "x")]),
        "COPY x /t",
        "d/ d/a=1 d/s/ d/s/b=2 out=3 (linked) x=3 (linked)",
    );
    check(
        &linked(&[("d/l", "d/a")]),
        "COPY --chmod=u=g,g=o,o= --chown=7 d /t",
        "d/ d/a=1 (linked) d/l=1 (linked) x=3",
    );
    check(&linked(&[("d/s/l", "d/s/b")]), "COPY --chmod=u=g,g=o,o= --chown=7 d /t", "d/ x=3");
}

#[test]
fn attributes_are_those_of_a_copy() {
    let bench = Bench::new("d/program=x@4755:3:4 d/listed=x d/dir/@2750:3:4", "");
    let stage = &bench.inputs.stages[&StageId(0)];
    let capability =
        b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
            .to_vec();
    let xattrs = Xattrs::from([
        (b"user.note".to_vec(), b"n".to_vec()),
        (b"security.capability".to_vec(), capability),
    ]);
    for name in ["d/listed", "d/program"] {
        let attributes = Attributes { xattrs: Some(xattrs.clone()), ..Attributes::default() };
        stage.set_attributes(&path(name), &attributes).unwrap();
    }
    check(&bench, "COPY d /same", "d/");
    check(&bench, "COPY --chown=9:8 --chmod=g+w d /other", "d/");
    let seen = |name: &str| bench.root.xattrs(&path(name)).unwrap();
    assert_eq!(seen("other/listed"), xattrs);
}

#[test]
fn a_socket_is_not_taken() {
    let bench = Bench::new("d/a=1 d/s/x=2", "");
    let at = bench.directory.path().join("stage/d/s/socket");
    let listener = std::os::unix::net::UnixListener::bind(&at).unwrap();
    fs::set_permissions(&at, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    check(&bench, "COPY d /t", "d/ d/s/ d/s/socket|Socket0:0");
    drop(listener);
}
