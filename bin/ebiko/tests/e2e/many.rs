//! Many builders at once, with one registry and one cache repository.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testkit::{ImageFacts, command};

use crate::bench::Bench;

const BUILDERS: usize = 50;

/// The first command makes something else each time it runs, and those after it copy that: an image of layers from two
/// builds shows.
const DOCKERFILE: &str = "FROM busybox AS library\n\
    ARG FLAVOUR\n\
    RUN echo library-$FLAVOUR > /library\n\
    FROM busybox\n\
    ARG FLAVOUR\n\
    RUN cat /proc/sys/kernel/random/uuid > /first && echo $FLAVOUR > /flavour\n\
    RUN cp /first /second\n\
    COPY --from=library /library /library\n\
    RUN test \"$(cat /first)\" = \"$(cat /second)\" && cp /second /third\n";

#[test]
fn privileged_fifty_builders_share_a_cache_whoever_of_them_is_killed() {
    let bench = Bench::new();
    bench.write("Dockerfile", DOCKERFILE);
    let cache = bench.registry.reference("team/cache");
    std::thread::scope(|scope| {
        for number in 0..BUILDERS {
            let (bench, cache) = (&bench, &cache);
            scope.spawn(move || build(bench, cache, number));
        }
    });
    let images = bench.registry.tags("team/app").unwrap();
    for number in (0..BUILDERS).filter(|number| !is_killed(*number)) {
        assert!(images.contains(&number.to_string()), "{number} is not there: {images:?}");
    }
    for tag in &images {
        let number: usize = tag.parse().unwrap();
        let image = bench.registry.image(&format!("team/app:{tag}")).unwrap();
        let file = |path: &str| content(&bench, &image, path).unwrap();
        assert_eq!(file("first"), file("second"), "{tag}");
        assert_eq!(file("first"), file("third"), "{tag}");
        assert_eq!(file("flavour"), format!("{}\n", flavour(number)), "{tag}");
        assert_eq!(file("library"), format!("library-{}\n", flavour(number)), "{tag}");
    }
    let entries = bench.registry.tags("team/cache").unwrap();
    assert!(entries.len() > 4 * FLAVOURS, "{entries:?}");
    for key in entries {
        let entry = bench.registry.image(&format!("team/cache:{key}")).unwrap();
        let config = entry.config_json();
        let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
        assert_eq!(diff_ids.len(), entry.layers.len(), "{key}");
        if entry.layers.is_empty() {
            // What the keys were made from.
            continue;
        }
        assert_eq!(config["config"]["Labels"]["io.ebiko.cache.key"], key.as_str());
        for (layer, diff_id) in entry.layers.iter().zip(diff_ids) {
            let blob = bench.registry.blob(layer);
            assert_eq!(sum(&["gzip", "-dc"], &blob), diff_id.as_str().unwrap(), "{key} {layer}");
            assert_eq!(sum(&["cat"], &blob), *layer, "{key}");
        }
        if let (Some(first), Some(second)) =
            (content(&bench, &entry, "first"), content(&bench, &entry, "second"))
        {
            assert_eq!(first, second, "{key} has layers of two builds");
        }
    }
}

const FLAVOURS: usize = 4;

fn flavour(number: usize) -> usize {
    number % FLAVOURS
}

fn is_killed(number: usize) -> bool {
    number % 3 == 1
}

/// Builds, or begins to.
fn build(bench: &Bench, cache: &str, number: usize) {
    let flags = bench.flags(&[
        &format!("--destination={}", bench.registry.reference(&format!("team/app:{number}"))),
        "--cache",
        "--cache-copy-layers",
        &format!("--cache-repo={cache}"),
        &format!("--build-arg=FLAVOUR={}", flavour(number)),
    ]);
    let running = bench.pod().spawn([vec!["/kaniko/executor".to_owned()], flags].concat()).unwrap();
    if is_killed(number) {
        // Spread over the time that builds take when so many run.
        std::thread::sleep(Duration::from_millis(200 * number as u64));
        drop(running);
    } else {
        running.wait().unwrap().assert_success();
    }
}

/// What is in a file of an image that is in no layer of its base.
fn content(bench: &Bench, image: &ImageFacts, path: &str) -> Option<String> {
    image.layers.iter().rev().find_map(|layer| {
        let blob = bench.registry.blob(layer);
        command::capture_text(Command::new("tar").arg("-xOzf").arg(blob).arg(path)).ok()
    })
}

/// The digest of what a program makes of a file.
fn sum(program: &[&str], file: &Path) -> String {
    let mut command = Command::new(program[0]);
    let output = command::capture(command.args(&program[1..]).arg(file)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("output");
    std::fs::write(&path, output).unwrap();
    let text = command::capture_text(Command::new("sha256sum").arg(&path)).unwrap();
    format!("sha256:{}", text.split(' ').next().unwrap())
}
