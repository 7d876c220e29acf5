//! What is needed of files that were made before: questions to the plan.

use ebiko_plan::{Action, BuildPlan, CopyAction, CopySource, StageBase, StagePlan, Unpack};

use crate::request::{BaseFiles, Layering};

/// How much of its base a stage needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Nothing: no step changes a file.
    Nothing,
    /// To know which files there are, because all that happens to them is that others take their place.
    Index,
    /// The files.
    Files,
}

/// What `stage` needs, and whoever goes on in its root.
pub(crate) fn need(
    plan: &BuildPlan,
    stage: &StagePlan,
    base_files: BaseFiles,
    layering: Layering,
) -> Need {
    // One layer for the whole stage is found by looking at all of its files.
    if base_files == BaseFiles::Always || layering == Layering::PerStage {
        return Need::Files;
    }
    let mut need = Need::Nothing;
    let mut next = Some(stage);
    while let Some(stage) = next {
        if stage.files_read_later || !stage.recorded {
            return Need::Files;
        }
        let actions = stage.steps.iter().filter_map(|step| step.action.as_ref());
        need = actions.map(need_of).fold(need, Need::max);
        next = continuation(plan, stage);
    }
    need
}

fn need_of(action: &Action) -> Need {
    match action {
        Action::Run(_) => Need::Files,
        Action::Copy(copy) if may_unpack(copy) => Need::Files,
        Action::Copy(_) | Action::WorkDir(_) => Need::Index,
    }
}

/// Whether a source may be an archive that is unpacked. Archives have hard links to what is in the root.
fn may_unpack(copy: &CopyAction) -> bool {
    copy.sources.iter().any(|source| match source {
        CopySource::Path(_) => copy.unpack != Unpack::Nothing,
        CopySource::Download(_) => copy.unpack == Unpack::Everything,
        CopySource::Git(_) => false,
    })
}

/// The stage that goes on in the root of `stage`: the next one, if it and nobody else wants its files.
pub(crate) fn continuation<'p>(plan: &'p BuildPlan, stage: &StagePlan) -> Option<&'p StagePlan> {
    let starts_here = |other: &&StagePlan| other.base == StageBase::Stage(stage.id);
    let mut later = plan.stages.iter().skip_while(|other| other.id != stage.id).skip(1);
    let next = later.next().filter(starts_here)?;
    (!later.any(|other| starts_here(&other)) && !stage.files_read_later).then_some(next)
}

/// The copies that read later from where step `index` of `stage` copies; `None` if something else reads there too.
pub(crate) fn later_reads<'p>(
    plan: &'p BuildPlan,
    stage: &'p StagePlan,
    index: usize,
) -> Option<Vec<&'p CopyAction>> {
    let action = stage.steps.get(index).and_then(|step| step.action.as_ref());
    let Some(Action::Copy(copy)) = action else { return None };
    let rest = stage.steps.iter().skip(index + 1);
    let later = plan.stages.iter().skip_while(|other| other.id != stage.id).skip(1);
    let steps = rest.chain(later.flat_map(|stage| &stage.steps));
    let readers = steps
        .filter_map(|step| step.action.as_ref())
        .filter(|action| action.reads().any(|from| *from == copy.from));
    let copies = readers.map(|action| match action {
        Action::Copy(copy) => Some(copy),
        Action::Run(_) | Action::WorkDir(_) => None,
    });
    copies.collect()
}

#[cfg(test)]
mod tests {
    use dockerfile_parser::Dockerfile;
    use ebiko_oci::{Digest, ImageConfig, Platform};
    use ebiko_plan::{BaseImage, Bases, BuildOptions, StageGraph};

    use super::*;

    fn plan(dockerfile: &str) -> BuildPlan {
        let dockerfile = Dockerfile::parse("Dockerfile", dockerfile.as_bytes()).unwrap();
        let options = BuildOptions::new(Platform::linux("amd64"));
        let graph = StageGraph::select(&dockerfile, &options).unwrap();
        let config = ImageConfig::scratch(Platform::linux("amd64"));
        let base = BaseImage { config, digest: Digest::of(b"") };
        let missing = graph.missing_references(&Bases::new()).unwrap();
        let bases = missing.into_iter().map(|name| (name, base.clone())).collect();
        BuildPlan::lower(&graph, &bases, None).unwrap()
    }

    /// What each stage needs.
    #[track_caller]
    fn check(dockerfile: &str, expected: &[Need]) {
        check_with(dockerfile, BaseFiles::AsNeeded, Layering::PerStep, expected);
    }

    #[track_caller]
    fn check_with(dockerfile: &str, files: BaseFiles, layering: Layering, expected: &[Need]) {
        let plan = plan(dockerfile);
        let stages = plan.stages.iter();
        let needs: Vec<Need> = stages.map(|stage| need(&plan, stage, files, layering)).collect();
        assert_eq!(needs, expected, "{dockerfile}");
    }

    use Need::{Files, Index, Nothing};

    #[test]
    fn a_stage_that_only_copies_needs_to_know_its_base() {
        check("FROM a\nCOPY x /\n", &[Index]);
        check("FROM a\nCOPY --link --chown=a --chmod=1 --parents x /\nWORKDIR /w\n", &[Index]);
        check("FROM a\nCOPY <<f /\nx\nf\n", &[Index]);
        check("FROM a\nCOPY --from=b /x /\n", &[Index]);
        check("FROM a\nUSER u\nWORKDIR /w\n", &[Index]);
    }

    #[test]
    fn a_stage_that_changes_no_file_needs_nothing() {
        check("FROM a\n", &[Nothing]);
        check("FROM a\nENV a=b\nWORKDIR /\nCMD x\n", &[Nothing]);
    }

    #[test]
    fn a_command_needs_the_files() {
        check("FROM a\nRUN x\n", &[Files]);
        check("FROM a\nCOPY x /\nRUN x\n", &[Files]);
    }

    #[test]
    fn what_may_be_an_archive_needs_the_files() {
        check("FROM a\nADD x /\n", &[Files]);
        check("FROM a\nADD --unpack=false x /\n", &[Index]);
        check("FROM a\nADD http://h/x /\n", &[Index]);
        check("FROM a\nADD --unpack http://h/x /\n", &[Files]);
        check("FROM a\nADD https://github.com/a/b.git /\n", &[Index]);
        check("FROM a\nADD http://h/x y /\n", &[Files]);
    }

    #[test]
    fn a_stage_that_is_read_needs_its_files() {
        check("FROM a AS b\nCOPY x /\nFROM c\nCOPY --from=b /x /\n", &[Files, Index]);
        check("FROM a AS b\nFROM c\nCOPY --from=b /x /\n", &[Files, Index]);
    }

    #[test]
    fn a_stage_needs_what_the_one_needs_that_goes_on_in_it() {
        check("FROM a AS b\nCOPY x /\nFROM b\nCOPY y /\n", &[Index, Index]);
        check("FROM a AS b\nFROM b\nCOPY y /\n", &[Index, Index]);
        check("FROM a AS b\nFROM b AS c\nFROM c\nRUN x\n", &[Files, Files, Files]);
        // Two start from the first one, so that each unpacks its image.
        check(
            "FROM a AS b\nCOPY x /\nFROM b AS c\nRUN x\nFROM b\nCOPY --from=c /x /\n",
            &[Index, Files, Index],
        );
    }

    #[test]
    fn a_request_can_want_the_files_whatever_the_steps_are() {
        for dockerfile in ["FROM a\nCOPY x /\n", "FROM a\nCMD x\n"] {
            check_with(dockerfile, BaseFiles::Always, Layering::PerStep, &[Files]);
            check_with(dockerfile, BaseFiles::AsNeeded, Layering::PerStage, &[Files]);
        }
    }

    /// How many copies read later from where each copy from elsewhere reads.
    #[track_caller]
    fn check_later(dockerfile: &str, expected: &[Option<usize>]) {
        let plan = plan(dockerfile);
        let mut later = Vec::new();
        for stage in &plan.stages {
            for (index, step) in stage.steps.iter().enumerate() {
                if step.text.contains(" --from") {
                    later.push(later_reads(&plan, stage, index).map(|copies| copies.len()));
                }
            }
        }
        assert_eq!(later, expected, "{dockerfile}");
    }

    #[test]
    fn who_reads_a_stage_or_image_later_is_known() {
        check_later("FROM a AS b\nFROM c\nCOPY --from=b /x /\n", &[Some(0)]);
        check_later(
            "FROM a AS b\nFROM c\nCOPY --from=b /x /\nCOPY --from=b /y /\n",
            &[Some(1), Some(0)],
        );
        check_later("FROM c\nCOPY --from=a /x /\nCOPY --from=b /x /\n", &[Some(0), Some(0)]);
        check_later(
            "FROM a AS b\nFROM c AS d\nCOPY --from=b /x /\nFROM d\nCOPY --from=b /x /\n",
            &[Some(1), Some(0)],
        );
        check_later(
            "FROM a AS b\nFROM c\nCOPY --from=b /x /\nRUN --mount=from=b,target=/m x\n",
            &[None],
        );
        check_later(
            "FROM a AS b\nRUN x\nFROM c\nRUN --mount=from=b,target=/m x\nCOPY --from=b /x /\n",
            &[Some(0)],
        );
        // What a stage starts from is an image, not the files that another stage lends.
        check_later(
            "FROM a AS b\nFROM c AS d\nCOPY --from=b /x /\nFROM b\nCOPY --from=d /x /\n",
            &[Some(0), Some(0)],
        );
    }
}
