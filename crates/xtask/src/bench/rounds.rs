//! Everybody builds everything, in turns.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use testkit::base::BaseImage;
use testkit::executor_binary;

use super::contender::{self, BuildKit, Buildah, Contender, InPod, Measured, Terms};
use super::material::Material;
use super::request::{FLAT, Mode, Request};
use super::workload::{self, CACHED, WORKLOADS, Workload};

/// The name of what is measured here; every other contender is an opponent.
pub(super) const OWN: &str = "ebiko";

/// What a pod of the flat layers may use: the default of the CI systems this is for.
const FLAT_MEMORY: u64 = 500 << 20;

/// The runs of one contender with one workload.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) workload: &'static str,
    pub(super) contender: String,
    pub(super) mode: Mode,
    pub(super) runs: Vec<Run>,
}

/// One run.
#[derive(Debug)]
pub(super) struct Run {
    /// The load average over a minute when it started: how much others disturbed.
    pub(super) load: f64,
    /// Why it failed, if it did.
    pub(super) outcome: Result<Measured, String>,
}

/// Measures what the request names.
///
/// # Errors
///
/// Fails if something cannot be prepared, or the disk has too little space. A build that fails is a result.
pub(super) fn run(
    request: &Request,
    base: &BaseImage,
    material: &Material,
) -> anyhow::Result<Vec<Series>> {
    let dir = testkit::workspace_dir().join("target/bench");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
    let binary = match executor_binary() {
        Ok(binary) if std::env::var_os("EBIKO_EXECUTOR").is_some() => binary,
        _ => crate::binary::build()?,
    };
    let terms = Terms { memory: request.memory, cpus: request.cpus, flags: request.flags.clone() };
    let mut contenders: Vec<Box<dyn Contender>> = vec![Box::new(InPod::new(OWN, &binary, &terms)?)];
    for (name, path) in &request.against {
        contenders.push(Box::new(InPod::new(name, path, &terms)?));
    }
    if request.buildah {
        contenders.push(Box::new(Buildah::new(dir.join("buildah"))?));
    }
    if let Some((buildctl, address)) = &request.buildkit {
        contenders.push(Box::new(BuildKit::new(buildctl.clone(), address.clone())));
    }
    let mut series = Vec::new();
    let workloads = WORKLOADS.iter().chain([&CACHED]);
    for workload in workloads.filter(|workload| request.wants(workload.name)) {
        let rounds = request.rounds;
        series.extend(measure(
            workload,
            &contenders,
            &request.modes,
            rounds,
            base,
            material,
            &dir,
        )?);
    }
    if request.wants(FLAT) {
        let terms = Terms { memory: FLAT_MEMORY, ..terms };
        let own: Vec<Box<dyn Contender>> = vec![Box::new(InPod::new(OWN, &binary, &terms)?)];
        for workload in &workload::FLAT {
            series.extend(measure(workload, &own, &[Mode::Full], 1, base, material, &dir)?);
        }
    }
    Ok(series)
}

fn measure(
    workload: &'static Workload,
    contenders: &[Box<dyn Contender>],
    modes: &[Mode],
    rounds: u32,
    base: &BaseImage,
    material: &Material,
    dir: &Path,
) -> anyhow::Result<Vec<Series>> {
    let context = workload.prepare(&dir.join("workloads"), material)?;
    let mut series: Vec<(&dyn Contender, Series)> = Vec::new();
    for (mode, contender) in
        modes.iter().flat_map(|mode| contenders.iter().map(move |contender| (*mode, contender)))
    {
        if contender.has(mode) && (contender.has_cache() || !workload.again) {
            let runs = Vec::new();
            let name = contender.name().to_owned();
            let one = Series { workload: workload.name, contender: name, mode, runs };
            series.push((contender.as_ref(), one));
        }
    }
    for round in 1..=rounds {
        for (contender, series) in &mut series {
            check_disk(workload, dir)?;
            let load = load_average()?;
            print!(
                "{} {round}/{rounds} {} {}: ",
                workload.name,
                series.contender,
                series.mode.name()
            );
            std::io::stdout().flush()?;
            let outcome = contender::measure(*contender, workload, &context, series.mode, base)
                .map_err(|error| format!("{error:#}"));
            match &outcome {
                Ok(measured) => println!("{measured}, load {load:.1}"),
                Err(reason) => println!("failed: {reason}"),
            }
            series.runs.push(Run { load, outcome });
        }
    }
    Ok(series.into_iter().map(|(_, series)| series).collect())
}

/// Pods, registries and their storage are in the directory for temporary files, the rest below `dir`.
fn check_disk(workload: &Workload, dir: &Path) -> anyhow::Result<()> {
    for place in [dir, &std::env::temp_dir()] {
        let space = rustix::fs::statvfs(place)
            .with_context(|| format!("cannot ask for the space in `{}`", place.display()))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize) >> 30;
        if free < workload.disk {
            bail!(
                "`{}` needs {} GiB in `{}`, where {free} are free",
                workload.name,
                workload.disk,
                place.display()
            );
        }
    }
    Ok(())
}

fn load_average() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let first = text.split(' ').next().and_then(|first| first.parse().ok());
    first.context("`/proc/loadavg` is not as expected")
}
