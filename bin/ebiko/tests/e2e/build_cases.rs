//! `testdata/build`: each case gives the image that BuildKit made of it.

use std::fmt::Write as _;

use testkit::build_case::{BothWays, BuildCase, build_both_ways, build_in_private_root};
use testkit::record::Record;

/// How many machines build at the same time.
const MACHINES: usize = 2;

#[test]
fn privileged_every_case_gives_the_image_that_buildkit_made() {
    let cases = BuildCase::all().unwrap();
    let hands = dealt(&cases);
    let made: Vec<Vec<Record>> = on_machines(&hands, |hand| build_in_private_root(hand).unwrap());
    let mut text = String::new();
    let mut different = 0;
    for (case, made) in hands.iter().flatten().zip(made.iter().flatten()) {
        let differences = case.unexpected(case.recorded().unwrap().differences(made));
        different += usize::from(!differences.is_empty());
        for line in differences {
            let _infallible = writeln!(text, "{}: {line}", case.name());
        }
    }
    assert_eq!(different, 0, "of {} cases {different} are not as recorded:\n{text}", cases.len());
}

#[test]
fn privileged_a_base_that_is_not_unpacked_gives_the_same_image() {
    let cases = BuildCase::all().unwrap();
    let built: Vec<Vec<BothWays>> =
        on_machines(&dealt(&cases), |hand| build_both_ways(hand).unwrap());
    let built: Vec<&BothWays> = built.iter().flatten().collect();
    let different: Vec<&&BothWays> = built.iter().filter(|case| case.thin != case.whole).collect();
    assert!(different.is_empty(), "{different:#?}");
    let images = built.iter().filter(|case| case.thin.starts_with("sha256:")).count();
    let errors = built.len() - images;
    assert!(images > 60 && errors > 5, "compared: {images} images and {errors} errors");
}

/// Dealt out like cards, so that neighbours, which take about as long, are on different machines.
fn dealt(cases: &[BuildCase]) -> Vec<Vec<BuildCase>> {
    (0..MACHINES)
        .map(|machine| cases.iter().skip(machine).step_by(MACHINES).cloned().collect())
        .collect()
}

fn on_machines<T: Send>(
    hands: &[Vec<BuildCase>],
    build: impl Fn(&[BuildCase]) -> T + Sync,
) -> Vec<T> {
    std::thread::scope(|scope| {
        let builds: Vec<_> = hands.iter().map(|hand| scope.spawn(|| build(hand))).collect();
        builds.into_iter().map(|build| build.join().unwrap()).collect()
    })
}
