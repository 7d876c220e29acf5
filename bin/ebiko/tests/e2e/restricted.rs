//! Builds without root.

use std::fmt::Write as _;

use testkit::Profile;
use testkit::build_case::{BuildCase, build_in_pod};

/// Cases that give another image without root, and why.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// How many pods build at the same time.
const PODS: usize = 2;

#[test]
fn privileged_every_case_gives_the_same_image_without_root() {
    let cases = BuildCase::all().unwrap();
    let hands: Vec<Vec<BuildCase>> =
        (0..PODS).map(|pod| cases.iter().skip(pod).step_by(PODS).cloned().collect()).collect();
    let made = std::thread::scope(|scope| {
        let build = |hand: &Vec<BuildCase>| build_in_pod(hand, Profile::Restricted).unwrap();
        let builds: Vec<_> = hands.iter().map(|hand| scope.spawn(move || build(hand))).collect();
        builds.into_iter().flat_map(|build| build.join().unwrap()).collect::<Vec<_>>()
    });
    let mut text = String::new();
    let mut different = Vec::new();
    for (case, made) in hands.iter().flatten().zip(&made) {
        let differences = case.unexpected(case.recorded().unwrap().differences(made));
        if !differences.is_empty() {
            different.push(case.name());
        }
        for line in differences {
            let _infallible = writeln!(text, "{}: {line}", case.name());
        }
    }
    different.sort_unstable();
    let expected: Vec<&str> = EXCEPTIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(different, expected, "of {} cases:\n{text}", cases.len());
    assert!(EXCEPTIONS.len() * 100 < cases.len() * 3, "more than 3 % are exceptions");
}
