//! Questions about a Dockerfile that need no build.

use std::sync::Arc;

use dockerfile_parser::Dockerfile;
use ebiko_context::{IgnoreFile, OpenContextError};
use ebiko_plan::lint::{self, CheckReport, ExcludedPaths};
use ebiko_plan::{Bases, Outline, StageGraph, TargetList};

use crate::bases::ResolvedBases;
use crate::failure::BuildError;
use crate::request::{BuildRequest, Ports};

/// Checks the Dockerfile without building it: all stages, or those that the target needs if the request names one.
///
/// Images that cannot be found are passed over; nothing is said then that depends on their configs.
///
/// # Errors
///
/// Fails where the ignore file cannot be read; what is wrong with the Dockerfile is in the report.
pub fn check(request: &BuildRequest, ports: &Ports<'_>) -> Result<CheckReport, BuildError> {
    let excluded = excluded_paths(request)?;
    let (name, text) = (&request.dockerfile_name, &request.dockerfile);
    let bases = known_bases(request, ports);
    Ok(lint::check(name, text, &request.options, &bases, excluded))
}

/// Tells which arguments, secrets and agents the target of the Dockerfile uses.
///
/// # Errors
///
/// Fails where the Dockerfile has errors. Images that cannot be found are passed over.
pub fn outline(request: &BuildRequest, ports: &Ports<'_>) -> Result<Outline, BuildError> {
    let dockerfile = Dockerfile::parse(&request.dockerfile_name, &request.dockerfile)?;
    let graph = StageGraph::select(&dockerfile, &request.options)?;
    let bases = ResolvedBases::as_far_as_known(&graph, ports);
    Ok(graph.outline(&bases)?)
}

/// Tells which stages the Dockerfile has.
///
/// # Errors
///
/// Fails where the Dockerfile has errors.
pub fn targets(request: &BuildRequest) -> Result<TargetList, BuildError> {
    let dockerfile = Dockerfile::parse(&request.dockerfile_name, &request.dockerfile)?;
    Ok(TargetList::of(&dockerfile))
}

fn known_bases(request: &BuildRequest, ports: &Ports<'_>) -> Bases {
    let has_target = request.options.target.as_ref().is_some_and(|target| !target.is_empty());
    let graph = Dockerfile::parse(&request.dockerfile_name, &request.dockerfile).and_then(|file| {
        if has_target {
            StageGraph::select(&file, &request.options)
        } else {
            StageGraph::select_every_stage(&file, &request.options)
        }
    });
    graph.map_or_else(|_| Bases::new(), |graph| ResolvedBases::as_far_as_known(&graph, ports))
}

/// What the ignore file keeps out of the build context, if there is one.
pub(crate) fn excluded_paths(
    request: &BuildRequest,
) -> Result<Option<Arc<dyn ExcludedPaths>>, BuildError> {
    let Some(text) = &request.ignore_file else { return Ok(None) };
    let file = IgnoreFile::parse(text).map_err(OpenContextError::from)?;
    Ok(Some(Arc::new(Excluded(file))))
}

#[derive(Debug)]
struct Excluded(IgnoreFile);

impl ExcludedPaths for Excluded {
    fn has_exceptions(&self) -> bool {
        self.0.patterns().has_exceptions()
    }

    fn excludes_everything(&self) -> bool {
        self.0.excludes_everything()
    }

    fn excludes(&self, path: &str) -> bool {
        // An ignore file has no pattern that cannot be compared.
        self.0.patterns().excludes(path.as_bytes()).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, path: &str, expected: [bool; 3]) {
        let excluded = Excluded(IgnoreFile::parse(text.as_bytes()).unwrap());
        let actual =
            [excluded.has_exceptions(), excluded.excludes_everything(), excluded.excludes(path)];
        assert_eq!(actual, expected, "{text:?}");
    }

    #[test]
    fn an_ignore_file_answers_what_the_checks_ask() {
        check("*.o\n", "a/b.o", [false, false, false]);
        check("**/*.o\n", "a/b.o", [false, false, true]);
        check("# all\n/*\n", "a/b", [false, true, true]);
        check("**\n!a\n", "a/b", [true, true, false]);
        check("!*\n", "a", [true, false, false]);
    }
}
