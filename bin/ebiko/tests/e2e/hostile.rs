//! Images that want to become the builder.

use std::path::Path;

use testkit::{NameServer, Pod, PodOutput, Tree};

use crate::bench::{Bench, host};

/// Where the library of the image says that it was loaded.
const MARK: &str = "loaded";

/// Says so when it is loaded; a name service library need not do more than that to take over a process.
const LIBRARY: &str = r#"
#include <fcntl.h>
__attribute__((constructor)) static void take_over(void) { open("/loaded", O_CREAT | O_WRONLY, 0666); }
"#;

/// What a builder would do that asks its C library for a user.
const VICTIM: &str = "#include <pwd.h>\nint main(void) { getpwnam(\"nobody\"); return 0; }\n";

/// An image whose name service is [`LIBRARY`], for users, groups and hosts alike, with the C library that it needs:
/// the one of this machine, against which the builder is linked.
const TRAP: &str = "FROM busybox AS trap\nCOPY image /\nCOPY victim /\n";

#[test]
fn privileged_no_library_of_the_image_is_loaded_for_users_groups_or_hosts() {
    let bench = Bench::new();
    set_trap(&bench);

    // A program that asks its C library steps into it, statically linked or not; so the trap works.
    let (output, is_loaded) = build(&bench, &format!("{TRAP}RUN [\"/victim\"]\n"), &["--no-push"]);
    output.assert_success();
    assert!(is_loaded, "this machine's C library does not load a name service: nothing is tested");

    let server = NameServer::start([("registry.test", std::net::Ipv4Addr::LOCALHOST)]).unwrap();
    let port = bench.registry.host().split(':').next_back().unwrap().to_owned();
    let flags = [
        format!("--destination=registry.test:{port}/x:1"),
        format!("--insecure-registry=registry.test:{port}"),
    ];
    let dockerfile = format!(
        "{TRAP}COPY --chown=joe:adm Dockerfile /d\nUSER joe:adm\nWORKDIR /home/joe\nRUN test $(id -u):$(id -g) = 1000:4\n"
    );
    let pod = bench.pod().resolv_conf(&server.resolv_conf());
    bench.write("Dockerfile", &dockerfile);
    let (output, is_loaded) = run(&bench, &pod, &[&flags[0], &flags[1]]);
    let output = output.assert_success();
    assert!(!is_loaded, "the builder loaded the image's library\n{output}");
    assert!(server.questions().contains(&"registry.test".to_owned()));
    bench.registry.image("x:1").unwrap();
}

fn build(bench: &Bench, dockerfile: &str, flags: &[&str]) -> (PodOutput, bool) {
    bench.write("Dockerfile", dockerfile);
    run(bench, &bench.pod(), flags)
}

fn run(bench: &Bench, pod: &Pod, flags: &[&str]) -> (PodOutput, bool) {
    let command = [vec!["/kaniko/executor".to_owned()], bench.flags(flags)].concat();
    pod.spawn(command).unwrap().wait_and_inspect(|root| root.join(MARK).exists()).unwrap()
}

/// Writes `image/`, the files that make the trap, and `victim`.
fn set_trap(bench: &Bench) {
    bench.tree(
        &Tree::new()
            .file("image/etc/nsswitch.conf", "passwd: evil\ngroup: evil\nhosts: evil\n")
            .file("library.c", LIBRARY)
            .file("victim.c", VICTIM),
    );
    let context = bench.context();
    host("cc", &["-shared", "-fPIC", "-o", "libnss_evil.so.2", "library.c"], &context);
    host("cc", &["-static", "-w", "-o", "victim", "victim.c"], &context);
    // The loader is looked for at its own path by programs, and beside the C library by libraries.
    let needed = host("ldd", &["./libnss_evil.so.2"], &context);
    let needed: Vec<&Path> =
        needed.split_whitespace().map(Path::new).filter(|path| path.has_root()).collect();
    let library = context.join("libnss_evil.so.2");
    let files = needed.iter().copied().chain([library.as_path()]);
    for (file, beside) in files.flat_map(|file| needed.iter().map(move |beside| (file, *beside))) {
        let directory = beside.parent().unwrap().strip_prefix("/").unwrap();
        let directory = context.join("image").join(directory);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::copy(file, directory.join(file.file_name().unwrap())).unwrap();
    }
}

#[test]
fn privileged_what_archives_may_unpack_to_is_a_flag_for_each_kind_of_archive() {
    let bench = Bench::new();
    let context = bench.context();
    bench.tree(
        &Tree::new()
            .file("in/a", "1")
            .file("in/b", "2")
            .file("in/Dockerfile", "FROM scratch\nCOPY a /\n"),
    );
    host("tar", &["-cf", "in.tar", "-C", "in", "a", "b", "Dockerfile"], &context);
    bench.write("add", "FROM scratch\nADD in.tar /\n");
    bench.write("base", "FROM busybox\nRUN true\n");
    let build = |source: &[&str], flag: &str| {
        let flags = bench.flags(&["--no-push", flag]);
        let source = source.iter().map(|&word| word.to_owned());
        // The first flag is the context of the bench.
        let command = std::iter::once("/kaniko/executor".to_owned()).chain(source);
        bench.pod().run(command.chain(flags.into_iter().skip(1))).unwrap()
    };
    let fails = |source: &[&str], given: &str, place: &str, limit: &str, flag: &str| {
        let output = build(source, given);
        assert_eq!(output.code, 1, "{output}");
        let hint = format!("hint: if it is to be trusted, raise the limit: {flag}");
        for part in [place, limit, &hint] {
            assert!(output.stderr.contains(part), "`{part}` is not in\n{output}");
        }
    };
    let base = &["--context=/workspace", "--dockerfile=base"][..];
    let add = &["--context=/workspace", "--dockerfile=add"][..];
    let archive = &["--context=tar:///workspace/in.tar"][..];
    let (few, small) = ("--layer-max-entries=2", "--layer-max-size=1k");
    let (few_flag, small_flag) = ("--layer-max-entries=NUMBER", "--layer-max-size=BYTES");
    let (few_limit, small_limit) = ("more than 2 entries", "more than 1024 unpacked bytes");
    fails(base, few, "from layer sha256:", few_limit, few_flag);
    fails(base, small, "cannot unpack layer sha256:", small_limit, small_flag);
    fails(add, few, "from the archive", few_limit, few_flag);
    fails(add, small, "the archive has", small_limit, small_flag);
    fails(archive, few, "cannot unpack the build context", few_limit, few_flag);
    fails(archive, small, "cannot unpack the build context", small_limit, small_flag);
    // Enough is enough.
    for flag in ["--layer-max-entries=3", "--layer-max-size=10k", "--layer-max-ratio=1"] {
        build(add, flag).assert_success();
        build(archive, flag).assert_success();
    }
}

#[test]
fn privileged_nothing_that_a_dockerfile_copies_becomes_the_builder() {
    let bench = Bench::new();
    let context = bench.context();
    bench.tree(
        &Tree::new()
            .exe("evil", "evil\n")
            .exe("in/executor", "evil\n")
            .file("in/.docker/config.json", "{}"),
    );
    host("tar", &["-cf", "evil.tar", "-C", "in", "."], &context);
    // A trigger does so in the build that starts from the image.
    let parent = "FROM busybox\nONBUILD COPY evil /kaniko/by-trigger\n";
    let destination = format!("--destination={}", bench.registry.reference("library/parent:1"));
    bench.build(parent, &[&destination]).assert_success();
    let dockerfile = "FROM parent:1\nCOPY evil /kaniko/executor\nCOPY in /kaniko/\nADD evil.tar /kaniko/\n\
                      COPY <<EOF /kaniko/executor\nevil\nEOF\nRUN ln -s kaniko /elsewhere\nCOPY evil /elsewhere/executor\n\
                      WORKDIR /kaniko/made\nCOPY evil ../executor\n";
    let bytes = |path: &Path| std::fs::read(path).unwrap();
    let before = bytes(&bench.executor.root().join("kaniko/executor"));
    bench.write("Dockerfile", dockerfile);
    let flags = bench.flags(&["--no-push", "--tar-path=/out/image.tar", "--cleanup"]);
    let command = [vec!["/kaniko/executor".to_owned()], flags].concat();
    let (output, (after, others)) = bench
        .pod()
        .spawn(command)
        .unwrap()
        .wait_and_inspect(|root| {
            let files = std::fs::read_dir(root.join("kaniko")).unwrap();
            let mut others: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
            others.sort();
            (bytes(&root.join("kaniko/executor")), others)
        })
        .unwrap();
    output.assert_success();
    assert!(before == after, "the executable is another one");
    assert_eq!(others, ["executor", "lock"], "only what is the builder's is there");
    // The image has what it wants there.
    let unpacked =
        testkit::oracle::unpack(&format!("docker-archive:{}", bench.out("image.tar").display()))
            .unwrap();
    for path in ["kaniko/executor", "kaniko/by-trigger"] {
        let found = std::fs::read_to_string(unpacked.root().join(path)).unwrap();
        assert_eq!(found, "evil\n", "{path}");
    }
}

#[test]
fn privileged_devices_and_pipes_are_copied_and_never_read() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox AS a\nRUN mkdir /in && mknod /in/zero c 1 5 && mknod /in/full c 1 7 && mkfifo /in/pipe\n\
                      FROM scratch\nCOPY --from=a /in /out\nCOPY --from=a /in/zero /alone\n";
    let layers = bench.archive(dockerfile, &[]).layers();
    assert_eq!(
        layers,
        [
            "drwxr-xr-x 0/0 0 out/\ncrw-r--r-- 0/0 1,7 out/full\nprw-r--r-- 0/0 0 out/pipe\ncrw-r--r-- 0/0 1,5 out/zero\n",
            "crw-r--r-- 0/0 1,5 alone\n",
        ]
    );
}
