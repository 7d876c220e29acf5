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
