//! What the pods of continuous integration commonly get: 500 MiB and two fifths of a processor.

use testkit::base::debian;

use crate::bench::Bench;

const MEMORY: u64 = 500 << 20;
const CPUS: f64 = 0.4;

/// What a builder may hold beside page cache.
const ANONYMOUS_MEMORY: u64 = 64 << 20;

/// Many files, and a file that is larger than what the pod has left for it; then steps during which that is compressed.
const DOCKERFILE: &str = r#"FROM debian:bookworm
RUN perl -e 'for $d (1..200) { mkdir "/srv/d$d"; for $f (1..100) { open F, ">/srv/d$d/f$f"; print F "$d $f\n" } }'
RUN perl -e 'open F, ">/srv/large"; print F pack("N*", map { $_ * 2654435761 % 4294967296 } $_ * 65536 .. $_ * 65536 + 65535) for 1..1280'
RUN echo 1 > /srv/d1/f1 && rm -rf /srv/d2
"#;

#[test]
fn privileged_a_small_pod_builds_and_pushes_more_than_it_has_memory_for() {
    let bench = Bench::with(&[debian().unwrap()]);
    let pod = bench.pod().memory(MEMORY).cpus(CPUS);
    let reference = bench.registry.reference("team/tight:1");
    let flags = [&*format!("--destination={reference}"), "--cache"];
    // The second time, everything is in the cache.
    for _ in 0..2 {
        let output = bench.build_in(&pod, DOCKERFILE, &flags).assert_success();
        let peak = output.usage.peak_anonymous;
        assert!(peak <= ANONYMOUS_MEMORY, "{peak} bytes of anonymous memory\n{output}");
    }

    let layers = bench.registry.image("team/tight:1").unwrap().layers;
    let entries =
        |index: usize| testkit::oracle::tar_entries(&bench.registry.blob(&layers[index])).unwrap();
    assert_eq!(entries(1).lines().filter(|line| line.contains(" srv/d")).count(), 200 * 101);
    assert!(entries(2).contains(&format!(" {} ", 1280 * 65536 * 4)), "{}", entries(2));
    let last = entries(3);
    assert!(last.contains("srv/.wh.d2") && last.contains("srv/d1/f1"), "{last}");
}
