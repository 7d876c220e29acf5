//! Contexts and stages that were made to do harm.

use std::os::unix::net::UnixListener;

use ebiko_plan::{CopyFrom, StageId};

use crate::bench::{Bench, check, check_stage};

#[test]
fn links_lead_nowhere_else() {
    check(
        "l->/etc/passwd",
        "",
        "COPY l /t",
        "error: cannot copy `/l`: \"/l\": not found: it is a symbolic link to `/etc/passwd`: \"/etc/passwd\": not found",
    );
    check(
        "d/l->../../../../etc",
        "",
        "COPY d/l/passwd /t",
        "error: cannot copy `/d/l/passwd`: \"/d/l\": not found: it is a symbolic link to `../../../../etc`: \"/etc/passwd\": not found",
    );
    check(
        "a=1",
        "to->../../../../../outside",
        "COPY a /to/x",
        "outside/ outside/x=1 to->../../../../../outside",
    );
    check("a=1", "l->l", "COPY a /l/", "error: too many links: /l");
    check("d/x/a=1", "t/x->/etc", "COPY d /t", "error: cannot copy to non-directory: /t/x");
}

#[test]
fn a_fifo_is_never_opened() {
    check("p|", "", "COPY p /q", "q|Fifo0:0@600:0:0");
    check("p|", "", "ADD p /q", "q|Fifo0:0@600:0:0");
    check_stage("d/p|@600:7:8", "", "COPY d /t", "t/ t/p|Fifo0:0@600:7:8");
    check("d/p=1", "t/p|", "COPY d /t", "t/ t/p=1");
}

#[test]
fn a_socket_becomes_an_empty_file() {
    let bench = Bench::new("", "");
    for tree in ["context", "stage"] {
        UnixListener::bind(bench.directory.path().join(tree).join("s")).unwrap();
    }
    bench.copy(CopyFrom::Context, "COPY --chmod=640 s /a").unwrap();
    bench.copy(CopyFrom::Stage(StageId(0)), "COPY --chmod=640 . /b").unwrap();
    assert_eq!(bench.print(), "a@640:0:0 b/@640:0:0 b/s@640:0:0");
}
