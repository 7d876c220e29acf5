//! Whole images as text: `testdata/image/<case>/` holds a Dockerfile, its context and the image as a person reads it.

use std::fmt::Write as _;

use serde_json::Value;
use testkit::oracle::docker_archive_layers_with_times;
use testkit::{Case, FIXED_TIME, cases};

use crate::bench::{Archive, Bench, host};

#[test]
fn privileged_images_are_as_recorded() {
    let bench = Bench::new();
    for case in cases("testdata/image") {
        arrange(&bench, &case);
        let archive = bench.reproduced(&case.text("Dockerfile"), &[]);
        case.assert_golden("image.txt", &text_of(&archive));
    }
}

/// Copies the case's context: fixed times, plain modes, and of a directory `x.tar.d` an archive `x.tar` whose members
/// belong to 7:8.
fn arrange(bench: &Bench, case: &Case) {
    let script = r#"
        find . -mindepth 1 -delete
        [ ! -d "$0" ] || cp -rT "$0" .
        chmod -R u=rwX,go=rX .
        find . -mindepth 1 -exec touch -h -d "@$1" {} +
        for dir in *.tar.d; do
            [ -d "$dir" ] || continue
            tar --format=gnu --sort=name --owner=7 --group=8 -cf "${dir%.d}" -C "$dir" $(ls "$dir")
            touch -d "@$1" "${dir%.d}"
            rm -r "$dir"
        done"#;
    let from = case.path("context").display().to_string();
    host("sh", &["-euc", script, &from, &FIXED_TIME.to_string()], &bench.context());
}

/// The config, then each line of history with the layer that it explains. What comes from the base is left out, for it
/// depends on the machine: its layers, its lines of history, the architecture.
fn text_of(archive: &Archive) -> String {
    let mut config = archive.facts().config_json();
    let is_own = |line: &Value| line["comment"] == "buildkit.dockerfile.v0";
    let history = config["history"].as_array().unwrap().clone();
    let own: Vec<&Value> = history.iter().filter(|line| is_own(line)).collect();
    let layers = docker_archive_layers_with_times(&archive.path).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), layers.len());
    for key in ["history", "rootfs", "architecture", "variant"] {
        config.as_object_mut().unwrap().remove(key);
    }
    let mut text = serde_json::to_string_pretty(&config).unwrap() + "\n";
    let makes_layer = |line: &&&Value| line["empty_layer"] != true;
    let mut own_layers = layers.iter().skip(layers.len() - own.iter().filter(makes_layer).count());
    for line in own {
        assert_eq!(line["created"], config["created"], "{line}");
        let _infallible = writeln!(text, "\n{}", line["created_by"].as_str().unwrap());
        if line["empty_layer"] != true {
            for entry in own_layers.next().unwrap().lines() {
                let _infallible = writeln!(text, "    {entry}");
            }
        }
    }
    text
}
