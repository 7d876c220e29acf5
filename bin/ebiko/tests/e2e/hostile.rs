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
