//! More than one build in one container, as in a CI job that builds several images.

use testkit::Pod;

use crate::bench::{Bench, EPOCH};

/// Leaves files, replaces directories of the base, and starts from another base.
const FIRST: &str = "FROM busybox AS a\nRUN echo 1 > /left-in-stage\nFROM busybox\nCOPY --from=a /left-in-stage /\n\
                     RUN rm -rf /home && echo 1 > /home && mkdir -p /left/deep && echo 2 > /left/deep/file && touch /etc/left\n";

/// Gives the same digest wherever it is built in a clean container.
const SECOND: &str = "FROM busybox AS b\nRUN echo 1 > /made && touch -d @1600000000 /made\nFROM busybox\nCOPY --from=b /made /\n\
                      RUN test -d /home && ! ls -d /left* /etc/left* /made-* 2>/dev/null && echo x > /x && touch -d @1600000000 /x\n";

/// The pod of the bench with a shell that no build takes away.
fn pod(bench: &Bench) -> Pod {
    bench
        .pod()
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .env("FLAGS", &bench.flags(&["--no-push"]).join(" "))
        .bind_read_only("/bin/busybox", "/busybox/sh")
}

fn write_both(bench: &Bench, first: &str) {
    bench.write("first", first);
    bench.write("second", SECOND);
}

/// What the second build gives in a container of its own.
fn fresh(bench: &Bench) -> String {
    let script =
        "/kaniko/executor $FLAGS -f second --digest-file=/out/fresh --tar-path=/out/fresh.tar";
    pod(bench).run(["/busybox/sh", "-c", script]).unwrap().assert_success();
    bench.read("fresh")
}

#[test]
fn privileged_a_second_build_in_a_container_is_as_if_it_were_the_first() {
    let bench = Bench::new();
    write_both(&bench, FIRST);
    let script = "/kaniko/executor $FLAGS -f first && /kaniko/executor $FLAGS -f second --digest-file=/out/second \
                  --tar-path=/out/second.tar";
    let output = pod(&bench).run(["/busybox/sh", "-c", script]).unwrap().assert_success();
    assert_eq!(bench.read("second"), fresh(&bench), "{output}");
    assert_eq!(
        std::fs::read(bench.out("second.tar")).unwrap(),
        std::fs::read(bench.out("fresh.tar")).unwrap()
    );
}

#[test]
fn privileged_a_build_after_one_that_failed_or_was_killed_is_as_if_it_were_the_first() {
    let bench = Bench::new();
    let endless = format!("{FIRST}RUN touch /out/started; while :; do sleep 0.1; done\n");
    write_both(&bench, &endless);
    bench.write("failing", &format!("{FIRST}RUN exit 3\n"));
    let script = "/kaniko/executor $FLAGS -f failing; echo failed with $?\n\
                  /kaniko/executor $FLAGS -f first & while [ ! -e /out/started ]; do sleep 0.1; done; kill -9 $!; wait $!\n\
                  echo killed with $?\n\
                  /kaniko/executor $FLAGS -f second --digest-file=/out/second";
    let output = pod(&bench).run(["/busybox/sh", "-c", script]).unwrap().assert_success();
    assert_eq!(output.stdout, "failed with 3\nkilled with 137\n");
    assert_eq!(bench.read("second"), fresh(&bench), "{output}");
}
