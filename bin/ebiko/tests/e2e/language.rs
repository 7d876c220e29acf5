//! Dockerfiles whose every instruction is carried out, or refused where it stands.

use serde_json::json;
use testkit::Tree;

use crate::bench::{Bench, host};

#[test]
fn privileged_every_instruction_reaches_the_image() {
    let bench = Bench::new();
    bench.tree(
        &Tree::new()
            .file("tree/a", "a")
            .file("tree/sub/b", "b")
            .exe("run.sh", "#!/bin/sh\necho ran $1\n"),
    );
    host("tar", &["--owner=7", "--group=8", "-czf", "files.tar.gz", "tree"], &bench.context());
    let dockerfile = r#"FROM busybox
ARG WHO=me
ENV GREETING="hello $WHO" PATH=$PATH:/opt
LABEL one=1 "two words"=2
SHELL ["/bin/sh", "-ec"]
WORKDIR /srv
WORKDIR sub
COPY --chown=33:33 tree t/
COPY run.sh /opt/
ADD files.tar.gz /unpacked/
ADD run.sh .
RUN run.sh shell > shell && pwd >> shell
RUN ["run.sh", "exec"]
EXPOSE 80 53/udp
VOLUME /data ["/more"]
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --retries=2 CMD test -e /srv
ONBUILD RUN echo later
USER joe:adm
ENTRYPOINT ["/bin/sh"]
CMD ["-c", "id"]
"#
    .replace("VOLUME /data [\"/more\"]", "VOLUME /data /more");
    let archive = bench.archive(&dockerfile, &[]);
    assert_eq!(archive.output.stdout, "ran exec\n");
    let config = archive.facts().config_json()["config"].clone();
    for (key, expected) in [
        ("Labels", json!({"one": "1", "two words": "2"})),
        ("Shell", json!(["/bin/sh", "-ec"])),
        ("WorkingDir", json!("/srv/sub")),
        ("ExposedPorts", json!({"53/udp": {}, "80/tcp": {}})),
        ("Volumes", json!({"/data": {}, "/more": {}})),
        ("StopSignal", json!("SIGINT")),
        ("User", json!("joe:adm")),
        ("Entrypoint", json!(["/bin/sh"])),
        ("Cmd", json!(["-c", "id"])),
        ("OnBuild", json!(["RUN echo later"])),
    ] {
        assert_eq!(config[key], expected, "{key}");
    }
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD-SHELL", "test -e /srv"]));
    assert!(config["Env"].as_array().unwrap().contains(&json!("GREETING=hello me")), "{config}");

    let all = archive.layers()[1..].concat();
    for entry in [
        "drwxr-xr-x 33/33 0 srv/sub/t/\n",
        "-rw-r--r-- 33/33 1 srv/sub/t/a\n",
        "-rw-r--r-- 33/33 1 srv/sub/t/sub/b\n",
        "-rwxr-xr-x 0/0 22 opt/run.sh\n",
        "-rw-r--r-- 7/8 1 unpacked/tree/sub/b\n",
        "-rw-r--r-- 0/0 19 srv/sub/shell\n",
    ] {
        assert!(all.contains(entry), "`{entry}` is missing in\n{all}");
    }
}

#[test]
fn privileged_triggers_of_a_base_are_carried_out() {
    let bench = Bench::new();
    let destination = format!("--destination={}", bench.registry.reference("library/parent:1"));
    bench.build("FROM busybox\nONBUILD COPY Dockerfile /child\nONBUILD RUN test -e /child && echo triggered\n", &[&destination]).assert_success();
    let archive = bench.archive("FROM parent:1\nENV A=1\n", &[]);
    assert_eq!(archive.output.stdout, "triggered\n");
    assert!(archive.facts().config_json()["config"]["OnBuild"].is_null(), "a trigger fires once");
}

#[test]
fn privileged_what_cannot_be_done_is_an_error_with_its_place_before_anything_runs() {
    let bench = Bench::new();
    for (instruction, message, caret) in [
        ("RUN --network=host true", "network.host is not allowed", "--network"),
        ("RUN --security=insecure true", "security.insecure is not allowed", "--security"),
        ("RUN --device=a.example/b=c,required true", "is not available", "--device"),
        ("RUN --mount=type=cache true", "invalid mount target", "--mount"),
        ("COPY --chmod=8 . /", "invalid chmod parameter: '8'", "--chmod"),
    ] {
        let output = bench.build(
            &format!("FROM busybox\nRUN echo must not run\n{instruction}\n"),
            &["--no-push"],
        );
        assert_eq!(output.code, 1, "{instruction}\n{output}");
        assert_eq!(output.stdout, "", "nothing may run before the refusal of {instruction}");
        for expected in [message, "Dockerfile:3", "^", caret] {
            assert!(
                output.stderr.contains(expected),
                "`{expected}` is missing for {instruction}\n{output}"
            );
        }
    }
}

#[test]
fn privileged_a_mistake_is_shown_with_line_and_caret_and_all_at_once() {
    let bench = Bench::new();
    let output = bench.build("FROM busybox\nCOPPY a b\nEXPOSE 99999\n", &["--no-push"]);
    assert_eq!(output.code, 1, "{output}");
    for expected in ["Dockerfile:2", "COPPY", "COPY", "^"] {
        assert!(output.stderr.contains(expected), "`{expected}` is missing\n{output}");
    }
}

#[test]
fn privileged_the_ignore_file_hides_files_from_copy() {
    let bench = Bench::new();
    bench.tree(
        &Tree::new()
            .file(".dockerignore", "**/*.log\n!keep.log\nDockerfile\n")
            .file("a.log", "1")
            .file("keep.log", "2")
            .file("sub/b.log", "3")
            .file("sub/c", "4"),
    );
    let layer = bench.archive("FROM scratch\nCOPY . /all/\n", &[]).last_layer();
    let names: Vec<&str> = layer.lines().filter_map(|line| line.split(' ').nth(3)).collect();
    assert_eq!(names, ["all/", "all/.dockerignore", "all/keep.log", "all/sub/", "all/sub/c"]);
}

#[test]
fn privileged_a_dockerfile_in_lower_case_is_found() {
    let bench = Bench::new();
    bench.write("dockerfile", "FROM busybox\nRUN echo in lower case\n");
    let command = [vec!["/kaniko/executor".to_owned()], bench.flags(&["--no-push"])].concat();
    let output = bench.pod().run(command).unwrap().assert_success();
    assert_eq!(output.stdout, "in lower case\n");
    let output = bench.build("FROM busybox\nRUN echo as usual\n", &["--no-push"]).assert_success();
    assert_eq!(output.stdout, "as usual\n", "the usual name comes first");
}
