//! Whole builds: the program in a pod or on this machine, and what it made held against the record.
//!
//! For each [`Case`]: [`fixtures`] starts its servers, [`tree`] lays out its directories, [`build`] runs the
//! program, [`layout`] reads what it wrote, [`record`] makes the same shape of it that the golden record has, [`compare`]
//! and [`assertion`] judge. Nothing here uses a crate of the program: what judges a build must not share its code.

mod assertion;
mod build;
mod case;
mod compare;
mod fixtures;
mod layout;
mod record;
mod tree;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use regex::Regex;
use serde_json::Value;

use self::build::Workshop;
use self::case::Case;
use super::report::{Outcome, Report};
pub(crate) use build::Place;

/// How many builds run at once.
const PARALLEL: usize = 2;

/// Runs the cases of `dir` that `only` selects. Needs root.
pub(crate) fn run(dir: &Path, place: Place, only: &Regex, report: &Report) -> anyhow::Result<()> {
    let path = dir.join("cases.json");
    let cases: Vec<Value> = super::read_json(&path)?;
    let cases = cases
        .into_iter()
        .map(Case::read)
        .collect::<anyhow::Result<Vec<_>>>()
        .with_context(|| format!("`{}` is not a list of cases", path.display()))?;
    let cases: Vec<&Case> =
        cases.iter().filter(|case| only.is_match(&format!("integration/{}", case.id()))).collect();
    if cases.is_empty() {
        return Ok(());
    }
    let workshop = Workshop::new(place)?;
    let next = AtomicUsize::new(0);
    let printing = Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(number) else { break };
                    let outcome = judge(case, &dir.join("golden"), &workshop)
                        .unwrap_or_else(|error| Outcome::fail(format!("cannot run it: {error:#}")));
                    let _one_at_a_time = printing.lock();
                    report.add("integration", case.id(), outcome);
                    if (number + 1).is_multiple_of(25) {
                        let failed = report.counts()[1];
                        println!(
                            "      {} of {} builds, {failed} failures",
                            number + 1,
                            cases.len()
                        );
                    }
                }
            });
        }
    });
    Ok(())
}

/// Builds one case and says what is different from what it should be.
fn judge(case: &Case, golden: &Path, workshop: &Workshop) -> anyhow::Result<Outcome> {
    let golden = golden.join(format!("{}.json", case.id().replace('/', "__")));
    let golden: Option<Value> =
        if golden.is_file() { Some(super::read_json(&golden)?) } else { None };
    let (substitutions, built) = workshop.build(case)?;
    let mut problems = Vec::new();
    if let Some(reason) = &built.prelude {
        return Ok(Outcome::fail(format!("an image that it needs cannot be built: {reason}")));
    }
    let is_ok = built.image.is_some();
    if is_ok != case.expects_success() {
        problems.push(if is_ok {
            "the build must fail, and succeeds".to_owned()
        } else {
            format!("the build must succeed, and fails: {}", built.error)
        });
    }
    for assert in substitutions.replace(case.asserts().clone()).as_array().into_iter().flatten() {
        if let Err(problem) = assertion::check(assert, &built) {
            problems.push(problem);
        }
    }
    if let Some(golden) = &golden
        && is_ok == case.expects_success()
    {
        problems.extend(compare::differences(golden, &record::of(&built, &substitutions)));
    }
    let Some(first) = problems.first() else { return Ok(Outcome::Pass) };
    if let Some(missing) = built.lacks_a_right(case) {
        return Ok(Outcome::Unsupported(missing));
    }
    let reason = first.lines().next().unwrap_or_default().to_owned();
    let details = format!("{}\n----- log -----\n{}", problems.join("\n"), built.log);
    Ok(Outcome::Fail { reason, details })
}
