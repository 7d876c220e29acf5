//! What has to hold, and whether it does.

use std::fmt;

use super::request::{Mode, Request};
use super::results::{Measure, Results};
use super::rounds::{OWN, Series};
use super::statistics::geometric_mean;
use super::workload::{CACHED, FLAT, WORKLOADS, Workload};

/// One bar, and whether it is met.
#[derive(Debug, serde::Serialize)]
pub(super) struct Verdict {
    pub(super) text: String,
    pub(super) is_met: bool,
}

impl Verdict {
    pub(super) fn new(text: impl Into<String>, is_met: bool) -> Self {
        Self { text: text.into(), is_met }
    }

    fn at_least(what: &str, value: f64, bar: f64) -> Self {
        Self::new(format!("{what}: {value:.2}x, at least {bar:.1}x"), value >= bar)
    }

    fn at_most(what: &str, value: f64, bar: f64) -> Self {
        Self::new(format!("{what}: {value:.2}x, at most {bar:.2}x"), value <= bar)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<7} {}", if self.is_met { "ok" } else { "MISSED" }, self.text)
    }
}

/// How much longer an executor takes for a build that is wholly in the cache.
const CACHED_BAR: f64 = 10.0;

/// Peak anonymous memory of any build, in MiB.
const MEMORY: f64 = 64.0;

/// How much more the largest of the flat layers may take than the smallest, in MiB: what two runs of one build differ by.
const GROWTH: f64 = 4.0;

/// Where buildah and BuildKit are to be slower, although they have the base already.
const FASTER_THAN_BUILDAH: [&str; 5] = ["files", "big", "context", "stages", "steps"];
const FASTER_THAN_BUILDKIT: [&str; 3] = ["files", "big", "context"];

/// Holds the results against every bar for which there are any.
pub(super) fn judge(all: &[Series], request: &Request) -> Vec<Verdict> {
    let results = Results(all);
    let mut verdicts: Vec<Verdict> = all.iter().filter_map(failure).collect();
    for (name, _) in &request.against {
        against_executor(&results, name, &mut verdicts);
    }
    for (name, _) in &request.against {
        let (theirs, own) = ((Mode::Full, name.as_str()), (Mode::Full, OWN));
        if let Some(ratio) = results.ratio(CACHED.name, theirs, own, Measure::Wall) {
            let what = format!("{name}, wall, {}", CACHED.name);
            verdicts.push(Verdict::at_least(&what, ratio, CACHED_BAR));
        }
    }
    full_against_redo(&results, &mut verdicts);
    memory(&results, &mut verdicts);
    for (name, workloads) in
        [("buildah", &FASTER_THAN_BUILDAH[..]), ("buildkit", &FASTER_THAN_BUILDKIT[..])]
    {
        for workload in workloads {
            if let Some(ratio) =
                results.ratio(workload, (Mode::Full, name), (Mode::Full, OWN), Measure::Wall)
            {
                let what = format!("{workload}: {name} takes");
                verdicts.push(Verdict::new(
                    format!("{what} {ratio:.2}x the time, more than 1.00x"),
                    ratio > 1.0,
                ));
            }
        }
    }
    verdicts.extend(flat(&results));
    verdicts
}

/// Our own build must not fail. That another's does is told and not judged.
fn failure(series: &Series) -> Option<Verdict> {
    let failed = series.runs.iter().find_map(|run| run.outcome.as_ref().err())?;
    let text = format!(
        "{} builds {} ({}): {failed}",
        series.contender,
        series.workload,
        series.mode.name()
    );
    (series.contender == OWN).then(|| Verdict::new(text, false))
}

fn against_executor(results: &Results<'_>, name: &str, verdicts: &mut Vec<Verdict>) {
    let ratios = |mode, measure: Measure| -> Vec<(&str, f64)> {
        let ratio = |workload: &Workload| {
            let ratio = results.ratio(workload.name, (mode, name), (mode, OWN), measure)?;
            Some((workload.name, ratio))
        };
        WORKLOADS.iter().filter_map(ratio).collect()
    };
    for (mode, mean_bar, files_bar) in [(Mode::Full, 4.0, 7.0), (Mode::Redo, 3.0, 3.5)] {
        let walls = ratios(mode, Measure::Wall);
        let Some(mean) = mean(&walls) else { continue };
        let head = format!("{name} ({}), wall", mode.name());
        let of = format!("geometric mean of {} of {} workloads", walls.len(), WORKLOADS.len());
        verdicts.push(Verdict::at_least(&format!("{head}, {of}"), mean, mean_bar));
        let (slowest, files) = (extreme(&walls, f64::min), find(&walls, "files"));
        if let (Mode::Full, Some((workload, ratio))) = (mode, slowest) {
            let what = format!("{head}, the least of all, {workload}");
            verdicts.push(Verdict::at_least(&what, ratio, 2.0));
        }
        if let Some(ratio) = files {
            verdicts.push(Verdict::at_least(&format!("{head}, files"), ratio, files_bar));
        }
        // In the other mode kaniko itself reads less.
        let cpus = ratios(mode, Measure::Cpu);
        if mode == Mode::Full
            && let Some(mean) = self::mean(&cpus)
        {
            let what = format!("{name} ({}), CPU, {of}", mode.name());
            verdicts.push(Verdict::at_least(&what, mean, 3.0));
        }
    }
    let sizes: Vec<(&str, f64)> = ratios(Mode::Full, Measure::NewLayers)
        .into_iter()
        .map(|(workload, ratio)| (workload, ratio.recip()))
        .collect();
    if let Some((workload, ratio)) = extreme(&sizes, f64::max) {
        let what = format!("bytes of new layers against {name}'s, the most of all, {workload}");
        verdicts.push(Verdict::at_most(&what, ratio, 1.0));
    }
}

fn full_against_redo(results: &Results<'_>, verdicts: &mut Vec<Verdict>) {
    let ratio = |workload: &Workload| {
        let ratio =
            results.ratio(workload.name, (Mode::Full, OWN), (Mode::Redo, OWN), Measure::Wall)?;
        Some((workload.name, ratio))
    };
    let ratios: Vec<(&str, f64)> = WORKLOADS.iter().filter_map(ratio).collect();
    if let Some(mean) = mean(&ratios) {
        let what =
            format!("{OWN}'s full against its redo, wall, geometric mean of {}", ratios.len());
        verdicts.push(Verdict::at_most(&what, mean, 1.1));
    }
}

fn memory(results: &Results<'_>, verdicts: &mut Vec<Verdict>) {
    let workloads = WORKLOADS.iter().chain([&CACHED]).map(|workload| workload.name);
    let peaks = workloads.flat_map(|workload| {
        [Mode::Full, Mode::Redo].into_iter().filter_map(move |mode| {
            Some((workload, results.worst(workload, mode, OWN, Measure::PeakAnonymous)?))
        })
    });
    let peaks: Vec<(&str, f64)> = peaks.collect();
    if let Some((workload, peak)) = extreme(&peaks, f64::max) {
        let text = format!(
            "{OWN}'s peak anonymous memory, the most of all, {workload}: {peak:.1} MiB, at most {MEMORY:.0} MiB"
        );
        verdicts.push(Verdict::new(text, peak <= MEMORY));
    }
}

fn flat(results: &Results<'_>) -> Option<Verdict> {
    let peak =
        |workload: &Workload| results.worst(workload.name, Mode::Full, OWN, Measure::PeakAnonymous);
    let peaks: Vec<f64> = FLAT.iter().filter_map(peak).collect();
    let [first, .., last] = peaks.as_slice() else { return None };
    let most = peaks.iter().copied().fold(0.0, f64::max);
    let shown: Vec<String> = peaks.iter().map(|peak| format!("{peak:.1}")).collect();
    let text = format!(
        "{OWN}'s peak anonymous memory at 500 MiB, layers of {}: {} MiB, at most {MEMORY:.0} MiB, growing at most {GROWTH:.0} MiB",
        FLAT.iter().map(|workload| workload.name).collect::<Vec<_>>().join(", "),
        shown.join(", ")
    );
    Some(Verdict::new(text, most <= MEMORY && last - first <= GROWTH && peaks.len() == FLAT.len()))
}

pub(super) fn mean(ratios: &[(&str, f64)]) -> Option<f64> {
    geometric_mean(&ratios.iter().map(|(_, ratio)| *ratio).collect::<Vec<_>>())
}

fn find(ratios: &[(&str, f64)], workload: &str) -> Option<f64> {
    ratios.iter().find(|(name, _)| *name == workload).map(|(_, ratio)| *ratio)
}

/// The one that `choose` prefers to all others.
fn extreme<'n>(values: &[(&'n str, f64)], choose: fn(f64, f64) -> f64) -> Option<(&'n str, f64)> {
    let best = values.iter().map(|(_, value)| *value).reduce(choose)?;
    values.iter().copied().find(|(_, value)| value.total_cmp(&best).is_eq())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::contender::{Measured, Used};
    use crate::bench::rounds::Run;

    /// A series of one contender: wall seconds, and what everything else follows from.
    fn series(
        workload: &'static str,
        contender: &str,
        mode: Mode,
        walls: &[f64],
        memory: u64,
    ) -> Series {
        let run = |wall: &f64| {
            let used = Used {
                wall: Duration::from_secs_f64(*wall),
                cpu: Some(Duration::from_secs_f64(*wall / 2.0)),
                peak_anonymous: Some(memory << 20),
            };
            Run { load: 0.0, outcome: Ok(Measured { used, new_layers: 1 << 20, base_layers: 0 }) }
        };
        let runs = walls.iter().map(run).collect();
        Series { workload, contender: contender.to_owned(), mode, runs }
    }

    fn judged(all: &[Series], args: &str) -> Vec<String> {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        let verdicts = judge(all, &Request::parse(&args).unwrap());
        verdicts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_executor_is_held_against_the_bars_of_its_mode() {
        let all = [
            series("files", OWN, Mode::Full, &[1.0, 2.0, 9.0], 40),
            series("files", "other", Mode::Full, &[16.0, 16.0, 16.0], 900),
            series("copy", OWN, Mode::Full, &[1.0], 20),
            series("copy", "other", Mode::Full, &[1.5], 20),
        ];
        assert_eq!(
            judged(&all, "--against other=/x"),
            [
                "MISSED  other (full), wall, geometric mean of 2 of 8 workloads: 3.46x, at least 4.0x",
                "MISSED  other (full), wall, the least of all, copy: 1.50x, at least 2.0x",
                "ok      other (full), wall, files: 8.00x, at least 7.0x",
                "ok      other (full), CPU, geometric mean of 2 of 8 workloads: 3.46x, at least 3.0x",
                "ok      bytes of new layers against other's, the most of all, files: 1.00x, at most 1.00x",
                "ok      ebiko's peak anonymous memory, the most of all, files: 40.0 MiB, at most 64 MiB",
            ]
        );
    }

    #[test]
    fn both_modes_are_compared_with_each_other() {
        let all = [
            series("files", OWN, Mode::Full, &[2.4], 65),
            series("files", OWN, Mode::Redo, &[2.0], 30),
            series("files", "other", Mode::Redo, &[8.0], 30),
        ];
        let lines = judged(&all, "--against other=/x --mode both");
        for line in [
            "ok      other (redo), wall, files: 4.00x, at least 3.5x",
            "MISSED  ebiko's full against its redo, wall, geometric mean of 1: 1.20x, at most 1.10x",
            "MISSED  ebiko's peak anonymous memory, the most of all, files: 65.0 MiB, at most 64 MiB",
        ] {
            assert!(lines.iter().any(|known| known == line), "{line}\n{lines:#?}");
        }
        assert!(!lines.iter().any(|line| line.contains("other (full)")), "{lines:#?}");
        assert!(!lines.iter().any(|line| line.contains("CPU")), "{lines:#?}");
    }

    #[test]
    fn buildah_and_buildkit_are_to_be_slower_where_the_bars_say_so() {
        let all = [
            series("steps", OWN, Mode::Full, &[2.0], 1),
            series("steps", "buildah", Mode::Full, &[3.0], 1),
            series("steps", "buildkit", Mode::Full, &[1.0], 1),
            series("big", OWN, Mode::Full, &[2.0], 1),
            series("big", "buildkit", Mode::Full, &[1.0], 1),
        ];
        let lines = judged(&all, "--buildah");
        assert_eq!(
            lines[1..],
            [
                "ok      steps: buildah takes 1.50x the time, more than 1.00x",
                "MISSED  big: buildkit takes 0.50x the time, more than 1.00x",
            ]
        );
    }

    #[test]
    fn memory_must_be_small_and_must_not_grow_with_the_layer() {
        let all = |peaks: [u64; 3]| {
            FLAT.iter()
                .zip(peaks)
                .map(|(workload, peak)| series(workload.name, OWN, Mode::Full, &[1.0], peak))
                .collect::<Vec<_>>()
        };
        for (peaks, is_met) in [([20, 21, 22], true), ([20, 25, 30], false), ([70, 70, 70], false)]
        {
            let verdict = flat(&Results(&all(peaks))).unwrap();
            assert_eq!(verdict.is_met, is_met, "{verdict}");
        }
        assert!(flat(&Results(&[])).is_none());
    }

    #[test]
    fn our_own_failure_is_a_missed_bar_and_that_of_another_is_none() {
        let mut all = [
            series("files", OWN, Mode::Full, &[1.0], 1),
            series("files", "other", Mode::Full, &[1.0, 2.0], 1),
        ];
        all[1].runs[0].outcome = Err("killed".to_owned());
        let lines = judged(&all, "--against other=/x");
        assert_eq!(lines.len(), 1, "nothing is compared with a failure: {lines:#?}");
        all[0].runs[0].outcome = Err("no".to_owned());
        let lines = judged(&all, "--against other=/x");
        assert_eq!(lines, ["MISSED  ebiko builds files (full): no"]);
    }
}
