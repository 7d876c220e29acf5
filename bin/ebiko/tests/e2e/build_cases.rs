//! `testdata/build`: each case gives the image that BuildKit made of it.

use std::fmt::Write as _;

use testkit::build_case::{BuildCase, build_in_private_root};
use testkit::record::Record;

/// How many machines build at the same time.
const MACHINES: usize = 2;

#[test]
fn privileged_every_case_gives_the_image_that_buildkit_made() {
    let cases = BuildCase::all().unwrap();
    // Dealt out like cards, so that neighbours, which take about as long, are on different machines.
    let hands: Vec<Vec<BuildCase>> = (0..MACHINES)
        .map(|machine| cases.iter().skip(machine).step_by(MACHINES).cloned().collect())
        .collect();
    let made: Vec<Vec<Record>> = std::thread::scope(|scope| {
        let builds: Vec<_> =
            hands.iter().map(|hand| scope.spawn(|| build_in_private_root(hand).unwrap())).collect();
        builds.into_iter().map(|build| build.join().unwrap()).collect()
    });
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
