//! What was measured, to be asked by name.

use super::contender::{Measured, mebibytes};
use super::request::Mode;
use super::rounds::Series;
use super::statistics::median;

/// One figure of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// In seconds.
    Wall,
    /// In seconds.
    Cpu,
    /// In MiB.
    PeakAnonymous,
    /// In MiB.
    NewLayers,
    /// In MiB.
    BaseLayers,
}

impl Measure {
    /// `None` where it is not known of this builder.
    pub(super) fn of(self, measured: &Measured) -> Option<f64> {
        let used = &measured.used;
        match self {
            Self::Wall => Some(used.wall.as_secs_f64()),
            Self::Cpu => used.cpu.map(|cpu| cpu.as_secs_f64()),
            Self::PeakAnonymous => used.peak_anonymous.map(mebibytes),
            Self::NewLayers => Some(mebibytes(measured.new_layers)),
            Self::BaseLayers => Some(mebibytes(measured.base_layers)),
        }
    }
}

/// All series of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Results<'a>(pub(super) &'a [Series]);

impl Results<'_> {
    /// What the runs measured; nothing if one of them failed.
    pub(super) fn values(
        self,
        workload: &str,
        mode: Mode,
        contender: &str,
        measure: Measure,
    ) -> Vec<f64> {
        let series = self.0.iter().find(|series| {
            (series.workload, series.mode, series.contender.as_str()) == (workload, mode, contender)
        });
        let runs = series.map_or(&[][..], |series| &series.runs);
        let values = runs.iter().map(|run| measure.of(run.outcome.as_ref().ok()?));
        values.collect::<Option<_>>().unwrap_or_default()
    }

    /// The largest value of any run.
    pub(super) fn worst(
        self,
        workload: &str,
        mode: Mode,
        contender: &str,
        measure: Measure,
    ) -> Option<f64> {
        self.values(workload, mode, contender, measure).into_iter().max_by(f64::total_cmp)
    }

    /// The median of one, divided by that of the other.
    pub(super) fn ratio(
        self,
        workload: &str,
        of: (Mode, &str),
        to: (Mode, &str),
        measure: Measure,
    ) -> Option<f64> {
        let median = |(mode, contender)| median(&self.values(workload, mode, contender, measure));
        let (of, to) = (median(of)?, median(to)?);
        (of > 0.0 && to > 0.0).then_some(of / to)
    }
}
