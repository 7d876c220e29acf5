//! `COPY --from` moves what nobody reads afterwards.

use testkit::{Pod, Profile, executor_binary};

use crate::bench::{Bench, EPOCH};

/// A stage with links within, across and out of directories, owners, capabilities and files in odd places.
const SOURCE: &str = "FROM busybox AS made\n\
    RUN mkdir -p /d/s/t /d/e /one && cd /d && echo 1 > f && echo 2 > s/f && ln s/f s/t/same && ln f /outside && \
    ln -s ../f s/link && mkfifo e/pipe && chown -R 3:4 s && chmod 4755 s/f && chmod 700 e && echo 3 > /one/file && \
    find /d /one -exec touch -h -d @1500000000 {} +\n";

/// Builds each step twice: once as the last one to read the stage, once with a wildcard after it that might name anything.
/// The layers must be the same.
#[track_caller]
fn both_ways(bench: &Bench, pod: &Pod, program: &str, steps: &[&str]) {
    for step in steps {
        let layer = |name: &str, more: &str| {
            let dockerfile = format!("{SOURCE}FROM busybox\n{step}\n{more}");
            bench.write("Dockerfile", &dockerfile);
            let tar = format!("--tar-path=/out/{name}.tar");
            let flags = bench.flags(&["--no-push", "--rewrite-timestamp", "-v=debug", &tar]);
            let output = pod.run([vec![program.to_owned()], flags].concat()).unwrap();
            let log = output.assert_success().stderr;
            // The last of two copies of one file is always free to take it.
            let moved = log.matches("moved instead of copied").count();
            let is_overlapping = step.contains("/d /one /d/s");
            assert_eq!(moved, usize::from(name == "copied" || !is_overlapping), "{step}: {log}");
            let path = bench.out(&format!("{name}.tar"));
            let facts = testkit::ImageFacts::from_docker_archive(&path).unwrap();
            let diff_ids = facts.config_json()["rootfs"]["diff_ids"].clone();
            let layers = testkit::oracle::docker_archive_layers_with_times(&path).unwrap();
            (diff_ids[1].clone(), layers[1].clone())
        };
        let taken = layer("taken", "");
        let copied = layer("copied", "COPY --from=made /etc/passw[d] /again\n");
        assert_eq!(taken.1, copied.1, "{step}");
        assert_eq!(taken.0, copied.0, "{step}");
        assert!(taken.1.lines().count() > 0, "{step}");
    }
}

const STEPS: [&str; 8] = [
    "COPY --from=made /d /new",
    "COPY --from=made /d /home",
    "COPY --from=made /d/s /d/e /etc/",
    "COPY --from=made --chown=7:8 --chmod=u+w,g=u /d/ /new/deep/",
    "COPY --from=made --link /d /etc",
    "COPY --from=made /one/* /bin/busybox",
    "COPY --from=made /d /one /d/s /x/",
    "COPY --from=made / /all/",
];

#[test]
fn privileged_a_copy_that_takes_gives_the_same_layer_in_a_pod() {
    let bench = Bench::new();
    let pod = bench.pod().env("SOURCE_DATE_EPOCH", EPOCH);
    both_ways(&bench, &pod, "/kaniko/executor", &STEPS);
}

#[test]
fn privileged_a_copy_that_takes_gives_the_same_layer_on_a_machine() {
    let bench = Bench::new();
    let machine = Pod::new(testkit::build_case::base().unwrap().root())
        .profile(Profile::Workstation)
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .env("TMPDIR", "/tmp")
        .bind_read_only(executor_binary().unwrap(), "/usr/local/bin/ebiko");
    both_ways(&bench, &bench.mounted(machine), "/usr/local/bin/ebiko", &STEPS[..5]);
}

#[test]
fn privileged_an_image_that_lends_files_gives_them_away_at_last() {
    let bench = Bench::new();
    let destination = format!("--destination={}", bench.registry.reference("library/made:latest"));
    bench.build(SOURCE, &[&destination]).assert_success();
    let archive = bench.archive(
        "FROM busybox\nCOPY --from=made /d/s /first\nCOPY --from=made /d /second\nRUN test -p /second/e/pipe\n",
        &[],
    );
    let layers = archive.layers();
    let entries = |layer: &str| layer.lines().count();
    assert_eq!((entries(&layers[1]), entries(&layers[2])), (5, 9), "{layers:#?}");
}
