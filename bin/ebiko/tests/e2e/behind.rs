//! What runs behind the next step: compression and upload.

use std::time::{Duration, Instant};

use testkit::HttpServer;

use crate::bench::Bench;

/// How long a layer may take to arrive, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(2);

#[test]
fn privileged_a_layer_is_compressed_and_sent_while_the_next_step_runs() {
    let bench = Bench::new();
    let signals = tempfile::tempdir().unwrap();
    let server = HttpServer::directory(signals.path()).unwrap();
    let reference = bench.registry.reference("team/behind:1");
    // The second step ends only when somebody has seen the layer of the first one in the registry.
    let dockerfile = format!(
        "FROM busybox\n\
         RUN dd if=/dev/urandom of=/noise bs=1M count=3\n\
         RUN i=0; until wget -q -O /dev/null {}/arrived; do i=$((i+1)); [ $i -lt 1500 ] || exit 9; sleep 0.1; done\n\
         RUN exit 7\n",
        server.url()
    );
    let output = std::thread::scope(|scope| {
        let build = scope.spawn(|| {
            bench.build_in(&bench.pod(), &dockerfile, &[&format!("--destination={reference}")])
        });
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && !build.is_finished() && !has_large_blob(&bench) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if has_large_blob(&bench) {
            std::fs::write(signals.path().join("arrived"), "").unwrap();
        }
        build.join().unwrap()
    });
    assert_eq!(output.code, 7, "9 means that the layer did not come\n{output}");
    let manifests = bench.registry.requests();
    let is_tag = |request: &&String| request.starts_with("PUT") && request.contains("/manifests/");
    assert_eq!(manifests.iter().filter(is_tag).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Whether the registry holds a blob of the size of the noise, which nothing compresses.
fn has_large_blob(bench: &Bench) -> bool {
    let blobs = bench.registry.storage().join("docker/registry/v2/blobs/sha256");
    walk(&blobs).any(|size| size >= 3 << 20)
}

/// The sizes of all files beneath `dir`; files that come and go meanwhile are left out.
fn walk(dir: &std::path::Path) -> Box<dyn Iterator<Item = u64>> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    Box::new(entries.flat_map(|entry| -> Box<dyn Iterator<Item = u64>> {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => walk(&entry.path()),
            Ok(metadata) => Box::new(std::iter::once(metadata.len())),
            Err(_) => Box::new(std::iter::empty()),
        }
    }))
}

#[test]
fn privileged_a_large_layer_is_on_its_way_before_it_has_a_digest() {
    let bench = Bench::new();
    let reference = bench.registry.reference("team/large:1");
    let dockerfile = "FROM busybox\nRUN dd if=/dev/urandom of=/noise bs=1M count=64\n";
    // The check would begin an upload, too.
    let flags = [&*format!("--destination={reference}"), "--skip-push-permission-check"];
    bench.build_in(&bench.pod(), dockerfile, &flags).assert_success();
    let digest = bench.registry.image("team/large:1").unwrap().layers.pop().unwrap();
    let requests = bench.registry.requests();
    let first = |method: &str, part: &str| {
        requests.iter().position(|line| line.starts_with(method) && line.contains(part))
    };
    let upload = first("POST", "/team/large/blobs/uploads/").unwrap();
    // Who knows a digest asks for it before sending.
    let question = first("HEAD", &digest).unwrap_or(usize::MAX);
    assert!(upload < question, "{requests:#?}");
}
