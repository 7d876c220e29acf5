//! Layers of earlier builds in the place of steps.

use testkit::{GitRepository, GitServer, HttpServer, ImageFacts, PodOutput, Tree};

use crate::bench::Bench;

/// Has whatever can be cached: commands, directories, copies from the context, from a stage and from what a stage left.
const EVERYTHING: &str = "FROM busybox AS tools\n\
    ARG VERSION=1\n\
    RUN echo tool-$VERSION > /tool\n\
    FROM busybox AS base\n\
    RUN echo base > /base && rm /bin/vi\n\
    FROM base\n\
    ENV MODE=quick\n\
    WORKDIR /app\n\
    COPY --chown=7:8 src/ ./\n\
    RUN cat one > two && mkdir /made && chmod 700 /made && ln one three\n\
    COPY --from=tools /tool /usr/bin/tool\n\
    LABEL done=yes\n\
    CMD [\"/usr/bin/tool\"]\n";

const COPIES: &str = "--cache-copy-layers";

/// A bench whose context has what [`EVERYTHING`] copies.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.tree(&Tree::new().file("src/one", "1\n").file("src/deep/er", "2\n"));
    bench
}

/// Builds and pushes `dockerfile` under `name` with a cache.
fn build(bench: &Bench, name: &str, dockerfile: &str, extra: &[&str]) -> PodOutput {
    let destination = format!("--destination={}", bench.registry.reference(name));
    let repository = format!("--cache-repo={}", bench.registry.reference("team/cache"));
    let repository = repository.trim_end_matches(":latest");
    let flags = ["--cache", repository, &*destination];
    bench.build(dockerfile, &[&flags, extra].concat()).assert_success()
}

/// The lines of the steps that were performed.
fn performed(output: &PodOutput) -> Vec<u32> {
    let mut lines = Vec::new();
    for line in output.stderr.lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let text = message["msg"].as_str().unwrap_or_default();
        let is_start = message["step"].is_string() && !text.contains("Using caching version");
        if is_start && let Some(line) = message["line"].as_u64() {
            lines.push(u32::try_from(line).unwrap());
        }
    }
    lines
}

/// Why steps were not in the cache, as `line: reason`.
fn reasons(output: &PodOutput) -> Vec<String> {
    let lines = output.stderr.lines();
    let messages = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    messages
        .filter_map(|message| Some(format!("{}: {}", message["line"], message["reason"].as_str()?)))
        .collect()
}

fn image(bench: &Bench, name: &str) -> ImageFacts {
    bench.registry.image(name).unwrap()
}

#[test]
fn privileged_an_unchanged_image_is_made_of_manifests() {
    let bench = bench();
    let first = build(&bench, "team/app:1", EVERYTHING, &[COPIES, "--log-format=json"]);
    assert_eq!(performed(&first), [2, 3, 5, 7, 8, 9, 10, 11, 12, 13], "{first}");
    let first_requests = bench.registry.requests();
    let mounted = |request: &&String| {
        request.starts_with("POST /v2/team/cache/blobs/uploads/") && request.ends_with(" 201")
    };
    let layers = image(&bench, "team/app:1").layers.len() - 1;
    let count = first_requests.iter().filter(mounted).count();
    assert_eq!(count, layers, "the image's layers are sent once: {first_requests:#?}");
    let before = first_requests.len();
    let second = build(&bench, "team/app:2", EVERYTHING, &[COPIES, "--log-format=json"]);
    assert_eq!(performed(&second), [12, 13], "only what changes no file\n{second}");
    let (one, two) = (image(&bench, "team/app:1"), image(&bench, "team/app:2"));
    assert_eq!(one.layers, two.layers);
    let config = |image: &ImageFacts| {
        let mut config = image.config_json();
        config["created"].take();
        config["history"].as_array_mut().unwrap().iter_mut().for_each(|line| {
            line["created"].take();
        });
        config
    };
    assert_eq!(config(&one), config(&two));

    let requests = bench.registry.requests().split_off(before);
    let layers = image(&bench, "team/app:2").layers;
    for request in &requests {
        let is_layer = layers.iter().any(|layer| request.contains(layer));
        assert!(!(is_layer && request.starts_with("GET")), "a layer was fetched: {requests:#?}");
    }
    let is_upload = |request: &&String| request.starts_with("PUT") && request.contains("/uploads/");
    let uploads = requests.iter().filter(is_upload).count();
    assert_eq!(uploads, 1, "only the config is new: {requests:#?}");
}

#[test]
fn privileged_what_changes_is_done_again_and_the_reason_is_told() {
    let bench = bench();
    let json = "--log-format=json";
    build(&bench, "team/app:1", EVERYTHING, &[COPIES, json]);

    let argument =
        build(&bench, "team/app:2", EVERYTHING, &[COPIES, json, "--build-arg=VERSION=2"]);
    assert_eq!(performed(&argument), [2, 3, 11, 12, 13], "{argument}");
    let expected = ["3: the variable VERSION changed", "11: what stage 0 makes changed"];
    assert_eq!(reasons(&argument), expected);

    bench.write("src/one", "changed\n");
    let file = build(&bench, "team/app:3", EVERYTHING, &[COPIES, json]);
    assert_eq!(performed(&file), [9, 10, 11, 12, 13], "{file}");
    assert_eq!(reasons(&file), ["9: the files of `/src` changed"]);

    let edited = EVERYTHING.replace("echo base", "echo  base");
    let command = build(&bench, "team/app:4", &edited, &[COPIES, json]);
    assert_eq!(performed(&command), [5, 7, 8, 9, 10, 11, 12, 13], "{command}");
    let expected = ["5: the command changed", "8: the stage base that it starts from changed"];
    assert_eq!(reasons(&command), expected);

    // What only the config has is no reason to do anything again, and the config has it.
    let edited = EVERYTHING
        .replace("LABEL done=yes", "HEALTHCHECK CMD true\nLABEL done=no")
        .replace("COPY --chown", "LABEL x=y\n# a comment\nCOPY   --chown");
    bench.write("src/one", "1\n");
    let config = build(&bench, "team/app:5", &edited, &[COPIES, json]);
    assert_eq!(performed(&config), [14, 15, 16], "{config}");
    let made = image(&bench, "team/app:5");
    assert_eq!(made.layers, image(&bench, "team/app:1").layers);
    assert_eq!(made.config_json()["config"]["Healthcheck"]["Test"][1], "true");
}

#[test]
fn privileged_steps_after_the_cache_find_the_files_that_they_would_have_made() {
    let bench = bench();
    build(&bench, "team/app:1", EVERYTHING, &[]);
    let more = format!(
        "{EVERYTHING}RUN test \"$(stat -c %u:%g two)\" = 0:0 && test \"$(stat -c %u:%g one)\" = 7:8 && \
         test \"$(stat -c %a /made)\" = 700 && test ! -e /bin/vi && test \"$(cat /base)\" = base && \
         test \"$(stat -c %h one)\" = 2 && test \"$(/bin/cat /usr/bin/tool)\" = tool-1 && touch -d @0 /end\n"
    );
    let cached = build(&bench, "team/app:2", &more, &["--log-format=json"]);
    assert_eq!(
        performed(&cached),
        [11, 12, 13, 14],
        "without COPY layers, COPY is done again\n{cached}"
    );

    // The same without a cache: the same files, whatever their times are.
    let plain = bench.archive(&more, &[]).layers();
    bench.registry.pull("team/app:2", &bench.out("layout"), "image").unwrap();
    let archive = bench.out("cached.tar");
    testkit::command::capture(
        std::process::Command::new("skopeo")
            .arg("copy")
            .arg(format!("oci:{}:image", bench.out("layout").display()))
            .arg(format!("docker-archive:{}", archive.display())),
    )
    .unwrap();
    assert_eq!(testkit::oracle::docker_archive_layers(&archive).unwrap(), plain);
}

#[test]
fn privileged_a_cache_can_be_a_directory_and_be_read_only_or_forgotten() {
    let bench = bench();
    let cache = ["--cache", "--cache-repo=oci:/out/cache", "--no-push", COPIES];
    let build = |extra: &[&str]| {
        let json = "--log-format=json";
        let output = bench.build(EVERYTHING, &[&cache, extra, &[json]].concat());
        performed(&output.assert_success())
    };
    let all = [2, 3, 5, 7, 8, 9, 10, 11, 12, 13];
    assert_eq!(build(&["--no-push-cache"]), all);
    assert!(!bench.out("cache").exists(), "nothing is kept");
    assert_eq!(build(&[]), all);
    assert_eq!(build(&[]), [12, 13]);
    assert_eq!(build(&["--cache-ttl=0s"]), all, "everything is too old");
    assert_eq!(build(&["--cache-run-layers=false"]), [12, 13], "the last layer is a copy");
    assert_eq!(build(&["--compression=zstd"]), all, "layers that are stored in another way");
    assert_eq!(build(&["--single-snapshot"]), all, "one layer for each stage");
    assert_eq!(build(&["--single-snapshot"]), [12, 13]);
    // skopeo says whether it is a layout.
    let index = std::fs::read(bench.out("cache/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    let name = &entries[0]["annotations"]["org.opencontainers.image.ref.name"];
    let source = format!("oci:{}:{}", bench.out("cache").display(), name.as_str().unwrap());
    testkit::oracle::skopeo_inspect(&source).unwrap();
}

#[test]
fn privileged_what_is_fetched_is_asked_about_and_not_fetched_again() {
    let bench = Bench::new();
    let files = testkit::scratch_dir("files-").unwrap();
    std::fs::write(files.path().join("page"), "first\n").unwrap();
    let server = HttpServer::directory(files.path()).unwrap();
    let repositories = testkit::scratch_dir("repositories-").unwrap();
    let repository = GitRepository::init(&repositories.path().join("app")).unwrap();
    repository.write("note", "first\n").unwrap();
    repository.commit("first").unwrap();
    repository.git(&["tag", "-a", "-m", "annotated", "v1"]).unwrap();
    let git = GitServer::smart(repositories.path()).unwrap();
    let dockerfile = format!(
        "FROM busybox\nADD {}/page /page\nADD {}#v1 /app/\nRUN cat /page /app/note\n",
        server.url(),
        git.url("app/.git")
    );
    let build = |name: &str| {
        let before = (server.requests().len(), git.requests().len());
        let output = build(&bench, name, &dockerfile, &[COPIES, "--log-format=json"]);
        let pages = server.requests().split_off(before.0);
        let packs = git.requests().split_off(before.1);
        (performed(&output), pages, packs)
    };
    let get = "GET /page".to_owned();
    let (lines, pages, packs) = build("team/app:1");
    assert_eq!((lines, pages), (vec![2, 3, 4], vec![get.clone()]));
    let (lines, pages, again) = build("team/app:2");
    assert_eq!((lines, pages), (vec![], vec![get.clone(), "304 /page".to_owned()]));
    assert!(again.len() < packs.len(), "the names only: {again:?} after {packs:?}");

    std::fs::write(files.path().join("page"), "second\n").unwrap();
    let (lines, pages, _) = build("team/app:3");
    assert_eq!((lines, pages), (vec![2, 3, 4], vec![get.clone(), get]));

    repository.write("note", "second\n").unwrap();
    repository.commit("second").unwrap();
    repository.git(&["tag", "-f", "-a", "-m", "moved", "v1"]).unwrap();
    assert_eq!(build("team/app:4").0, [3, 4], "the tag is another commit");
}

/// Builds once with a cache that is a directory, and gives back what [`entries`] finds there.
fn warmed(bench: &Bench, dockerfile: &str) -> Vec<(String, String)> {
    let flags = ["--cache", "--cache-repo=oci:/out/cache", "--no-push", COPIES];
    bench.build(dockerfile, &flags).assert_success();
    entries(bench)
}

/// The keys of the cache with the digests of their manifests, the last one first.
fn entries(bench: &Bench) -> Vec<(String, String)> {
    let index = std::fs::read(bench.out("cache/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let manifests = index["manifests"].as_array().unwrap().iter().rev();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    manifests
        .map(|entry| {
            let name = &entry["annotations"]["org.opencontainers.image.ref.name"];
            (text(name), text(&entry["digest"]))
        })
        .collect()
}

#[test]
fn privileged_what_somebody_put_into_the_cache_is_refused_or_named() {
    let dockerfile = "FROM busybox\nRUN echo 1 > /1\nRUN cat /1 > /2\n";
    let flags = ["--cache", "--cache-repo=oci:/out/cache", "--no-push", "--log-format=json"];

    // An entry of another step under the key of this one.
    let bench = Bench::new();
    let entries = warmed(&bench, dockerfile);
    let path = bench.out("cache/index.json");
    let index = std::fs::read_to_string(&path).unwrap();
    let (second, first) = (&entries[1].1, &entries[2].1);
    std::fs::write(&path, index.replace(second.as_str(), first)).unwrap();
    let output = bench.build(dockerfile, &flags).assert_success();
    assert_eq!(
        performed(&output),
        [3],
        "the first step is there, the second is done again\n{output}"
    );

    // A layer with other bytes, which is found out when it is unpacked.
    let bench = Bench::new();
    warmed(&bench, dockerfile);
    let changed = format!("{dockerfile}RUN cat /2 > /3\n");
    let blobs = std::fs::read_dir(bench.out("cache/blobs/sha256")).unwrap();
    for blob in blobs.map(|entry| entry.unwrap().path()) {
        let mut bytes = std::fs::read(&blob).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(&blob, bytes).unwrap();
        }
    }
    let output = bench.build(&changed, &flags);
    assert_eq!(output.code, 1, "{output}");
    assert!(output.stderr.contains("sha256:"), "the layer is named: {output}");

    // Something that is no cache at all.
    let bench = Bench::new();
    std::fs::create_dir_all(bench.out("cache")).unwrap();
    for (file, text) in [("index.json", "[]"), ("oci-layout", "{}")] {
        std::fs::write(bench.out("cache").join(file), text).unwrap();
    }
    let output = bench.build(dockerfile, &flags).assert_success();
    assert_eq!(performed(&output), [2, 3], "{output}");
}

#[test]
fn privileged_a_secret_is_in_nothing_that_is_kept() {
    let canary = "canary-4711";
    let bench = Bench::new();
    std::fs::write(bench.out("secret"), canary).unwrap();
    let dockerfile =
        "FROM busybox\nRUN --mount=type=secret,id=s test -s /run/secrets/s && echo 1 > /1\n";
    let flags =
        ["--cache", "--cache-repo=oci:/out/cache", "--no-push", "--secret=id=s,src=/out/secret"];
    let output =
        bench.build(dockerfile, &[&flags[..], &["--verbosity=trace"]].concat()).assert_success();
    assert!(!output.stderr.contains(canary), "{output}");
    for entry in walk(&bench.out("cache")) {
        let bytes = std::fs::read(&entry).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(canary), "{}", entry.display());
    }
    // Another value is no other step.
    std::fs::write(bench.out("secret"), "another").unwrap();
    let again = bench.build(dockerfile, &[&flags[..], &["--log-format=json"]].concat());
    assert_eq!(performed(&again.assert_success()), Vec::<u32>::new());
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn privileged_a_copy_after_the_cache_knows_the_users_that_a_kept_layer_has_made() {
    let bench = Bench::new();
    bench.write("note", "1\n");
    let dockerfile = "FROM busybox\nRUN echo jill:x:4711:4711::/: >> /etc/passwd && mkdir -p /home/jill && ln -s jill /home/link\nCOPY --chown=jill note /home/link/\n";
    let flags =
        ["--cache", "--cache-repo=oci:/out/cache", "--no-push", "--tar-path=/out/image.tar"];
    let layer = |extra: &[&str]| {
        let output = bench.build(dockerfile, &[&flags[..], extra].concat()).assert_success();
        let layers = testkit::oracle::docker_archive_layers(&bench.out("image.tar")).unwrap();
        (output, layers.last().unwrap().clone())
    };
    let (_, first) = layer(&[]);
    let (output, second) = layer(&["--log-format=json"]);
    assert_eq!(performed(&output), [3], "{output}");
    assert!(output.stderr.contains("not unpacked"), "what is below a copy is read only: {output}");
    assert_eq!(first, second);
    assert!(second.contains(" 4711/4711 ") && second.contains("home/jill/note"), "{second}");
}

#[test]
fn privileged_a_build_that_fails_keeps_what_it_has_made_and_each_kept_layer_is_fetched_once() {
    let bench = Bench::new();
    let good = "FROM busybox AS first\nRUN head -c 100000 /dev/urandom > /noise\n";
    let repository = format!("--cache-repo={}", bench.registry.reference("team/cache"));
    let flags = ["--cache", &repository, "--no-push", "--log-format=json"];
    let output = bench.build(&format!("{good}RUN exit 7\n"), &flags);
    assert_eq!(output.code, 7, "{output}");
    let before = bench.registry.requests().len();
    // Three roots begin with that layer.
    let stages = format!(
        "{good}FROM first AS second\nRUN test -s /noise && echo 2 > /2\n\
         FROM first AS third\nRUN test -s /noise && echo 3 > /3\n\
         FROM first\nCOPY --from=second /2 /\nCOPY --from=third /3 /\nRUN test -s /noise && cat /2 /3\n"
    );
    let output = bench.build(&stages, &flags).assert_success();
    assert_eq!(performed(&output), [4, 6, 8, 9, 10], "{output}");
    let requests = bench.registry.requests().split_off(before);
    let is_layer = |line: &&String| line.starts_with("GET /v2/team/cache/blobs/");
    let fetched = requests.iter().filter(is_layer).count();
    assert_eq!(fetched, 2, "a config and a layer: {requests:#?}");
}
