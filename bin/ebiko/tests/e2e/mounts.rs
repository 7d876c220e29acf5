//! What commands are given in an ordinary pod, where nothing can be mounted.

use std::path::Path;

use testkit::record::Record;
use testkit::{Pod, Tree};

use crate::bench::{Bench, host};

/// A text that is nowhere else.
const SECRET: &str = "correct-horse-7d1f0c52-battery-staple";

/// The pod has the secret and a key in `/keys` and a volume at `/caches`.
fn pod(bench: &Bench, keys: &Path) -> Pod {
    std::fs::create_dir_all(bench.out("caches")).unwrap();
    bench.pod().bind_read_only(keys, "/keys").bind(bench.out("caches"), "/caches")
}

/// A directory with `token` and an SSH key.
fn keys() -> tempfile::TempDir {
    let keys = testkit::scratch_dir("keys-").unwrap();
    std::fs::write(keys.path().join("token"), SECRET).unwrap();
    let arguments = ["-q", "-t", "ed25519", "-N", "", "-C", "key", "-f", "key"];
    host("ssh-keygen", &arguments, keys.path());
    keys
}

const FLAGS: [&str; 5] = [
    "--no-push",
    "--secret=id=token,src=/keys/token",
    "--ssh=default=/keys/key",
    "--cache-run-dir=/caches",
    "--oci-layout-path=/out/layout",
];

#[test]
fn privileged_a_pod_without_privilege_has_every_mount() {
    let bench = Bench::new();
    let keys = keys();
    let ssh_add = bench.tool("/usr/bin/ssh-add");
    std::fs::copy(keys.path().join("key.pub"), bench.context().join("tools/key.pub")).unwrap();
    bench.tree(&Tree::new().file("sub/file", "of the context\n"));
    let sum = host("sha256sum", &["token"], keys.path());
    let sum = sum.split(' ').next().unwrap();
    let port = bench.registry.host().rsplit(':').next().unwrap().to_owned();
    let dockerfile = format!(
        r#"FROM busybox AS tools
COPY tools /tools
RUN echo of the stage > /note

FROM busybox
WORKDIR /w
RUN --mount=target=/context,source=sub cat /context/file && ! touch /context/x 2>/dev/null
RUN --mount=target=/context,source=sub,rw echo changed > /context/file && cat /context/file
RUN --mount=target=own,source=sub cat own/file
RUN --mount=from=tools,source=/note,target=/etc/note cat /etc/note
RUN --mount=type=cache,target=/cache cat /cache/runs 2>/dev/null; echo an earlier run >> /cache/runs
RUN --mount=type=tmpfs,target=/tmp touch /tmp/x && ls /tmp
RUN --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN,target=/k \
    for hidden in "$(cat /run/secrets/token)" "$(cat /k)" "$TOKEN"; do \
      test "$(printf %s "$hidden" | sha256sum | cut -d ' ' -f 1)" = {sum} || exit 9; done
RUN --mount=type=ssh --mount=from=tools,source=/tools,target=/tools {ssh_add} -T /tools/key.pub && echo signed
RUN nc -w 5 127.0.0.1 {port} </dev/null && echo connected
RUN --network=none ! nc -w 5 127.0.0.1 {port} </dev/null 2>/dev/null && echo refused
RUN <<SCRIPT
#!/bin/awk -f
BEGIN {{ print "a program of its own" }}
SCRIPT
RUN ls -A /w /context /cache /k /run/secrets /tools /etc/note 2>/dev/null; env | grep -c -e TOKEN -e SSH; echo done > /done
"#
    );
    let build = || bench.build_in(&pod(&bench, keys.path()), &dockerfile, &FLAGS).assert_success();
    let before = "of the context\nchanged\nof the context\nof the stage\n";
    let after = "x\nsigned\nconnected\nrefused\na program of its own\n/w:\n0\n";
    let first = build();
    assert_eq!(first.stdout, format!("{before}{after}"), "{first}");

    let image = Record::of_layout(&bench.out("layout")).unwrap();
    let paths: Vec<&String> = image.files.keys().collect();
    assert_eq!(paths, ["done", "w"], "nothing of a mount is in the image");
    assert_eq!(image.deleted, Vec::<String>::new());

    std::fs::remove_dir_all(bench.out("layout")).unwrap();
    let second = build();
    assert_eq!(second.stdout, format!("{before}an earlier run\n{after}"), "{second}");
    assert_unseen(&bench, &format!("{first}{second}"));
}

/// The secret is neither in what was written nor in any blob, packed or not.
#[track_caller]
fn assert_unseen(bench: &Bench, written: &str) {
    assert!(!written.contains(SECRET), "{written}");
    let blobs = bench.out("layout/blobs/sha256");
    let look = |text: &str| {
        let script =
            format!("for blob in *; do zcat -f $blob; done | grep -c -a -e '{text}'; true");
        host("sh", &["-c", &script], &blobs)
    };
    assert_eq!(look(SECRET), "0\n");
    assert_ne!(look("root:x:0:0"), "0\n", "layers are looked into");
}

#[test]
fn privileged_a_secret_is_hidden_where_the_command_fails_and_every_file_is_as_it_was() {
    let bench = Bench::new();
    let keys = keys();
    bench.tree(&Tree::new().file("sub/file", "1"));
    let dockerfile = "FROM busybox\nRUN mkdir -p /old && echo kept > /old/file\n\
        RUN --mount=type=secret,id=token,env=TOKEN,target=/run/secrets/token --mount=target=/old --mount=type=cache,target=/new/cache \
        --mount=type=tmpfs,target=/tmp ls /old /run/secrets; touch /new/cache/x /tmp/x; exit 3\n";
    let command = [vec!["/kaniko/executor".to_owned()], bench.flags(&FLAGS)].concat();
    bench.write("Dockerfile", dockerfile);
    let look = |root: &Path| {
        let is_there = |path: &&str| root.join(path).symlink_metadata().is_ok();
        let names = ["old/file", "old/sub", "run/secrets", "new", "tmp/x"];
        let left: Vec<&str> = names.into_iter().filter(is_there).collect();
        let script = format!("grep -r -l -a -e '{SECRET}' . ; true");
        (left, host("sh", &["-c", &script], root))
    };
    let pod = pod(&bench, keys.path()).env("TOKEN", SECRET);
    let (output, (left, found)) = pod.spawn(command).unwrap().wait_and_inspect(look).unwrap();
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (3, "/old:\nDockerfile\nsub\n\n/run/secrets:\ntoken\n"),
        "{output}"
    );
    assert!(output.stderr.contains("did not complete successfully: exit code: 3"), "{output}");
    assert!(!output.to_string().contains(SECRET), "{output}");
    assert_eq!((left, found.as_str()), (vec!["old/file"], ""), "{output}");
    assert!(!bench.out("layout").exists());
}

#[test]
fn privileged_a_target_that_the_container_has_mounted_is_refused_by_name() {
    let bench = Bench::new();
    let keys = keys();
    for mount in ["type=secret,id=token,target=/etc/hosts", "type=tmpfs,target=/proc/sys"] {
        let target = mount.rsplit('=').next().unwrap();
        let dockerfile = format!("FROM busybox\nRUN --mount={mount} echo must not run\n");
        let output = bench.build_in(&pod(&bench, keys.path()), &dockerfile, &FLAGS);
        assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output}");
        for expected in [target, "Dockerfile:2", "mount"] {
            assert!(output.stderr.contains(expected), "`{expected}` is missing\n{output}");
        }
    }
}
