//! What a layer holds, read by GNU tar and umoci.

use std::os::unix::fs::MetadataExt as _;

use testkit::oracle::{gnu_tar_list, unpack};
use testkit::{Tree, listing};

use crate::bench::{Bench, host};

#[test]
fn privileged_full_and_redo_see_every_kind_of_change() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox\n\
        RUN mkdir -p /w/gone /w/file && echo 1 > /w/gone/a && echo 2 > /w/same && echo 3 > /w/edited && echo 4 > /w/mode && echo 5 > /w/dir\n\
        RUN rm -rf /w/gone && rmdir /w/file && echo now a file > /w/file && rm /w/dir && mkdir /w/dir && touch /w/dir/in && \
            echo 33 > /w/edited && chmod 600 /w/mode && chown 12:34 /w/mode && \
            ln -s same /w/link && echo 9 > /w/one && ln /w/one /w/two && mknod /w/null c 1 3 && mkfifo /w/pipe\n";
    let expected = "drwxr-xr-x 0/0 0 w/\n\
         drwxr-xr-x 0/0 0 w/dir/\n\
         -rw-r--r-- 0/0 0 w/dir/in\n\
         -rw-r--r-- 0/0 3 w/edited\n\
         -rw-r--r-- 0/0 11 w/file\n\
         lrwxrwxrwx 0/0 0 w/link -> same\n\
         -rw------- 12/34 2 w/mode\n\
         crw-r--r-- 0/0 1,3 w/null\n\
         -rw-r--r-- 0/0 2 w/one\n\
         prw-r--r-- 0/0 0 w/pipe\n\
         hrw-r--r-- 0/0 0 w/two link to w/one\n";
    for mode in ["full", "redo"] {
        let layer = bench.archive(dockerfile, &[&format!("--snapshot-mode={mode}")]).last_layer();
        let (whiteouts, entries): (Vec<&str>, Vec<&str>) =
            layer.lines().partition(|line| line.contains(".wh."));
        assert_eq!(entries.join("\n") + "\n", expected, "in {mode}");
        assert_eq!(whiteouts.len(), 1, "in {mode}: {whiteouts:?}");
        assert!(whiteouts[0].ends_with(" w/.wh.gone"), "in {mode}: {whiteouts:?}");
    }
}

#[test]
fn privileged_a_change_that_keeps_size_and_time_is_seen_in_full_mode() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox\nRUN echo aaaa > /f && touch -d '2020-01-01 00:00:00' /f\n\
                      RUN echo bbbb > /f && touch -d '2020-01-01 00:00:00' /f\n";
    let archive = bench.archive(dockerfile, &["--snapshot-mode=full"]);
    let root = unpack(&archive.source()).unwrap();
    assert_eq!(std::fs::read_to_string(root.root().join("f")).unwrap(), "bbbb\n");
}

#[test]
fn privileged_a_snapshot_mode_decides_what_counts_as_a_change() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox\nRUN cd /home && for f in content mode time none; do echo 1 > $f; done && touch -d @1600000000 *\n\
        RUN cd /home && echo 2 > content && touch -d @1600000000 content && chmod 600 mode && touch time && cat none\n";
    for (mode, expected) in [
        ("full", &["home/", "home/content", "home/mode", "home/time"][..]),
        ("redo", &["home/", "home/mode", "home/time"]),
        ("time", &["home/", "home/time"]),
    ] {
        let layer = bench.archive(dockerfile, &[&format!("--snapshot-mode={mode}")]).last_layer();
        let names: Vec<&str> = layer.lines().filter_map(|line| line.split(' ').nth(3)).collect();
        assert_eq!(names, expected, "in {mode}");
    }
}

#[test]
fn privileged_a_command_that_changes_nothing_makes_an_empty_layer() {
    let bench = Bench::new();
    let layers = bench
        .archive(
            "FROM busybox\nRUN touch -r /etc/passwd /etc/passwd; cat /etc/group >/dev/null\n",
            &[],
        )
        .layers();
    let files: Vec<&str> =
        layers.last().unwrap().lines().filter(|line| line.starts_with('-')).collect();
    assert_eq!(files, [] as [&str; 0]);
}

#[test]
fn privileged_capabilities_attributes_and_nanoseconds_pass_through_add_run_copy_and_layers() {
    let bench = Bench::new();
    let context = bench.context();
    bench.tree(&Tree::new().exe("in/ping", "#!/bin/sh\n").file("in/noted", "x"));
    host("setcap", &["cap_net_raw+ep", "in/ping"], &context);
    host("setfattr", &["-n", "user.note", "-v", "kept", "in/noted"], &context);
    host("touch", &["-d", "2021-02-03T04:05:06.123456789Z", "in/noted"], &context);
    host(
        "tar",
        &["--xattrs", "--xattrs-include=*", "--format=posix", "-cf", "in.tar", "in"],
        &context,
    );
    let dockerfile =
        "FROM busybox AS a\nADD in.tar /\nRUN true\nFROM busybox\nCOPY --from=a /in /copied\n";
    let archive = bench.archive(dockerfile, &[]);
    let unpacked = unpack(&archive.source()).unwrap();
    let root = unpacked.root();
    assert_eq!(host("getcap", &["copied/ping"], &root).trim(), "copied/ping cap_net_raw=ep");
    assert_eq!(
        host("getfattr", &["--only-values", "-n", "user.note", "copied/noted"], &root),
        "kept"
    );
    let noted = std::fs::metadata(root.join("copied/noted")).unwrap();
    assert_eq!((noted.mtime(), noted.mtime_nsec()), (1_612_325_106, 123_456_789));
}

#[test]
fn privileged_hard_links_of_a_base_survive_when_one_name_changes() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox\nRUN echo 1 > /a && ln /a /b && ln /a /c\nRUN chmod 600 /b\n";
    let archive = bench.archive(dockerfile, &[]);
    let unpacked = unpack(&archive.source()).unwrap();
    let inode = |name: &str| std::fs::metadata(unpacked.root().join(name)).unwrap().ino();
    assert_eq!((inode("a"), inode("b")), (inode("b"), inode("c")), "the three names are one file");
    assert_eq!(std::fs::metadata(unpacked.root().join("c")).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn privileged_the_same_context_gives_the_same_image_on_one_and_many_processors() {
    let bench = Bench::new();
    // More than a compressor's block, in many files and in one.
    let tree = (0..300).fold(Tree::new(), |tree, index| {
        tree.file(format!("tree/d{}/f{index}", index % 7), index.to_string().repeat(index))
    });
    bench.tree(
        &tree.file("tree/large", (0..1 << 19).map(|n: u32| n.to_string()).collect::<String>()),
    );
    bench.reproduced(
        "FROM busybox\nCOPY tree /\nRUN cp -a /d0 /d7 && rm /d1/* && touch -d @1600000000 /d1\n",
        &[],
    );
}

#[test]
fn privileged_the_archive_itself_is_an_ordinary_tar() {
    let bench = Bench::new();
    let archive = bench.archive("FROM busybox\nENV A=1\n", &["--destination=example.com/a/b:c"]);
    let list = gnu_tar_list(&archive.path).unwrap();
    assert!(list.contains("manifest.json"), "{list}");
    let inspected = testkit::oracle::skopeo_inspect(&archive.source()).unwrap();
    assert!(inspected["Env"].to_string().contains("A=1"), "{inspected}");
    let dir = testkit::scratch_dir("tar-").unwrap();
    testkit::oracle::gnu_tar_extract(&archive.path, dir.path()).unwrap();
    let manifest = std::fs::read_to_string(dir.path().join("manifest.json")).unwrap();
    assert!(manifest.contains("example.com/a/b:c"), "{manifest}\n{}", listing(dir.path()).unwrap());
}
