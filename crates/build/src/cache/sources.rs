//! What the keys of a build are made from besides its plan: files, commits, and how layers are made.

use std::collections::BTreeMap;

use ebiko_context::Context;
use ebiko_exec::{SourceFiles, read_sources, reads_sources};
use ebiko_oci::{Digest, ImageFormat, PortError};
use ebiko_plan::{
    Action, BuildPlan, CopyFrom, CopySource, DownloadSource, GitSource, KeyInputs, SourceDigests,
    StageId, copy_source,
};

use super::versions::Versions;
use crate::inputs::InputStore;
use crate::request::{BuildRequest, Layering, Ports};

/// What is known of the sources of one step.
#[derive(Debug, Default)]
pub(super) struct Known {
    contents: SourceDigests,
    /// By which it is found out later whether files were changed.
    pub(super) stamps: BTreeMap<String, Digest>,
    /// The commits that repositories stood for.
    pub(super) commits: BTreeMap<GitSource, String>,
    /// What downloads were.
    pub(super) downloads: BTreeMap<DownloadSource, Digest>,
}

/// Looks at everything that the steps of `plan` read. A step that has something that cannot be read is left out: it will
/// fail when its turn comes, and say why.
pub(super) fn look(
    plan: &BuildPlan,
    request: &BuildRequest,
    ports: &Ports<'_>,
    versions: &Versions<'_>,
    inputs: &mut InputStore<'_>,
) -> BTreeMap<(StageId, usize), Known> {
    let mut all = BTreeMap::new();
    let Ok(context) = Context::open(&request.context, request.ignore_file.as_deref()) else {
        return all;
    };
    for stage in &plan.stages {
        for (index, step) in stage.steps.iter().enumerate() {
            let Some(action) = step.action.as_ref().filter(|action| reads_sources(action)) else {
                continue;
            };
            let Ok(mut known) = ask(action, ports, versions, inputs) else { break };
            let files = SourceFiles {
                context: &context,
                inputs: inputs.files(),
                threads: request.threads,
                interrupt: ports.interrupt,
            };
            let Ok(states) = read_sources(action, &files) else { break };
            for (name, state) in states {
                known.contents.insert(name.clone(), state.content);
                known.stamps.insert(name, state.stamp);
            }
            all.insert((stage.id, index), known);
        }
    }
    all
}

/// Finds out what is on other machines, without fetching it where that can be done. Contexts are fetched.
fn ask(
    action: &Action,
    ports: &Ports<'_>,
    versions: &Versions<'_>,
    inputs: &mut InputStore<'_>,
) -> Result<Known, PortError> {
    let mut known = Known::default();
    if let Action::Copy(copy) = action {
        for source in &copy.sources {
            match source {
                CopySource::Path(_) => {}
                CopySource::Download(download) => {
                    let digest = versions.content(download, inputs)?;
                    known.contents.insert(copy_source(&copy.from, source), digest);
                    known.downloads.insert(download.clone(), digest);
                }
                CopySource::Git(git) => {
                    let commit = ports.sources.commit(git)?;
                    let digest = Digest::of(commit.as_bytes());
                    known.contents.insert(copy_source(&copy.from, source), digest);
                    known.commits.insert(git.clone(), commit);
                }
            }
        }
    }
    for from in action.reads() {
        if let CopyFrom::Named(name) = from {
            inputs.context(name)?;
        }
    }
    Ok(known)
}

pub(super) fn key_inputs(
    known: &BTreeMap<(StageId, usize), Known>,
    plan: &BuildPlan,
    request: &BuildRequest,
) -> KeyInputs {
    let files = known.iter().map(|(step, known)| (*step, known.contents.clone()));
    let pair = |name: &str, value: String| (name.to_owned(), value);
    let newest = request.file_times.newest(plan.epoch);
    let layering = match request.layering {
        Layering::PerStep => "one for each step",
        Layering::PerStage => "one for each stage",
    };
    let resources = &request.resources;
    let limits = resources.limits.iter();
    let limits: Vec<String> =
        limits.map(|limit| format!("{:?} {} {}", limit.resource, limit.soft, limit.hard)).collect();
    let mut layers = vec![
        pair("the compression", format!("{:?}", request.compression)),
        pair("`--snapshot-mode`", format!("{:?}", request.snapshot_mode)),
        pair("`--ignore-path`", request.ignore_paths.join("\0")),
        pair("`--single-snapshot`", layering.to_owned()),
        pair("the times of files", format!("{newest:?}")),
    ];
    // Where the format is asked for, two builds on one base may store their layers in two ways.
    let is_docker_from_scratch = request.scratch_format == ImageFormat::Docker;
    let format = request.format.or(is_docker_from_scratch.then_some(ImageFormat::Docker));
    layers.extend(format.map(|format| pair("`--image-format`", format!("{format:?}"))));
    KeyInputs {
        files: files.collect(),
        layers,
        commands: vec![
            pair("`--add-host`", format!("{:?}", resources.hosts)),
            pair("`--ulimit`", limits.join("\0")),
            pair("`--shm-size`", format!("{:?}", resources.shm_size)),
        ],
    }
}
