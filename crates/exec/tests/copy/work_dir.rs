//! `WORKDIR`.

use ebiko_plan::{Action, WorkDirAction};
use ebiko_rootfs::RootPath;

use crate::bench::{Bench, SOME_TIME};

#[test]
fn a_working_directory_is_made_for_its_user_and_left_alone_if_it_exists() {
    let bench = Bench::new("", "a/@700:3:3 link->/real f=file");
    let make = |path: &str, user: &str| {
        bench.perform(&Action::WorkDir(WorkDirAction {
            path: path.to_owned(),
            user: user.to_owned(),
            root_parents: false,
        }))
    };
    make("/a/b/./c//../d", "5:6").unwrap();
    make("/a", "5:6").unwrap();
    make("/link/x", "").unwrap();
    assert_eq!(
        bench.print(),
        "a/@700:3:3 a/b/@755:5:6 a/b/d/@755:5:6 f=file link->/real real/ real/x/"
    );
    for (path, is_made) in [("a", false), ("a/b", true), ("a/b/d", true), ("real/x", true)] {
        let path = RootPath::parse(path.as_bytes()).unwrap();
        let mtime = bench.root.metadata(&path).unwrap().mtime;
        assert_eq!(mtime == SOME_TIME, is_made, "/{path} has the time {mtime:?}");
    }
    assert_eq!(
        make("/f/x", "").unwrap_err(),
        "error: cannot make the working directory `/f/x`: mkdir /f: not a directory"
    );
}

#[test]
fn the_way_to_a_working_directory_can_be_roots() {
    let bench = Bench::new("", "a/@700:3:3");
    let action =
        WorkDirAction { path: "/a/b/c/d".to_owned(), user: "5:6".to_owned(), root_parents: true };
    bench.perform(&Action::WorkDir(action)).unwrap();
    assert_eq!(bench.print(), "a/@700:3:3 a/b/ a/b/c/ a/b/c/d/@755:5:6");
    for path in ["a/b", "a/b/c", "a/b/c/d"] {
        let path = RootPath::parse(path.as_bytes()).unwrap();
        assert_eq!(bench.root.metadata(&path).unwrap().mtime, SOME_TIME, "/{path}");
    }
}
