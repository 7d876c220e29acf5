//! `SOURCE_DATE_EPOCH`: the time that an image is to have.

use dockerfile_parser::{Add, Arg, Diagnostic, Dockerfile, InstructionKind, Stage, Word};

use crate::actions::{CopySource, DownloadSource};
use crate::contexts::ContextKind;
use crate::download;
use crate::expand::{Expander, Variables as _};
use crate::git::GitAddress;
use crate::graph::StageGraph;
use crate::scope::Scope;

/// The argument.
pub(crate) const NAME: &str = "SOURCE_DATE_EPOCH";

/// Where the time of an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EpochSource {
    /// It is written down, in seconds since 1970.
    Seconds(i64),
    /// The build context: the time of a commit, of a file as its server has it, or of the youngest file in an archive.
    /// A directory has none, and then there is no time at all.
    Context,
    /// The named context of that name in the request, which is files; seen as the build context is.
    Named(String),
    /// What a stage adds: a repository or a file that is fetched. There is no time where these have none.
    Source(CopySource),
}

/// What the argument asks for. An argument of the request counts even if it is empty, which asks for nothing.
pub(crate) fn find(
    graph: &StageGraph,
    dockerfile: &Dockerfile,
) -> Result<Option<EpochSource>, Diagnostic> {
    let value = graph.build_args.get(NAME).or_else(|| graph.globals.get(NAME)).unwrap_or_default();
    if value.is_empty() {
        return Ok(None);
    }
    if let Some(seconds) = seconds(value) {
        return Ok(Some(EpochSource::Seconds(seconds)));
    }
    if value == "context" {
        return Ok(Some(EpochSource::Context));
    }
    let items = dockerfile.meta_args.iter().flat_map(|arg| &arg.kind.args);
    let declared = items.filter(|item| *item.key == NAME).map(|item| item.key.span).next();
    let error = |message| Diagnostic::error(declared.unwrap_or_default(), message);
    match graph.named_context(value).map_err(error)? {
        Some(ContextKind::Files(name)) => return Ok(Some(EpochSource::Named(name))),
        // An image has no time of its own.
        Some(ContextKind::Scratch | ContextKind::Image(_)) => return Ok(None),
        None => {}
    }
    let is_named = |stage: &&Stage| {
        let name = stage.from.kind.name.as_ref();
        name.is_some_and(|name| name.to_lowercase() == value.to_lowercase())
    };
    match dockerfile.stages.iter().find(is_named) {
        Some(stage) => source(graph, stage)
            .map(|source| Some(EpochSource::Source(source)))
            .map_err(|message| Diagnostic::error(stage.from.span, message)),
        None => Err(error(format!("invalid {NAME}: {value}"))),
    }
}

/// A number of seconds as Go reads it.
fn seconds(value: &str) -> Option<i64> {
    value.parse().ok()
}

/// The one thing that a stage adds; it may do nothing else.
fn source(graph: &StageGraph, stage: &Stage) -> Result<CopySource, String> {
    let mut scope = graph.globals.clone();
    scope.remove(NAME);
    let expand = |word: &Word, scope: &Scope| match Expander::new(graph.escape).expand(word, scope)
    {
        Ok(expansion) => Ok(expansion.text),
        Err(error) => Err(error.to_string()),
    };
    if expand(&stage.from.kind.image, &scope)? != "scratch" {
        return Err(format!("{NAME} stage must use FROM scratch"));
    }
    let mut found = None;
    for instruction in &stage.instructions {
        match &instruction.kind {
            InstructionKind::Arg(Arg { args }) => {
                for item in args {
                    let value = match (graph.build_args.get(&item.key), &item.default) {
                        (Some(given), _) => given.to_owned(),
                        (None, Some(default)) => expand(default, &scope)?,
                        (None, None) => continue,
                    };
                    scope.set(&item.key, value);
                }
            }
            InstructionKind::Add(_) if found.is_some() => {
                return Err(format!("{NAME} stage must contain exactly one remote ADD"));
            }
            InstructionKind::Add(add) => {
                let [word] = &add.sources[..] else { return Err(not_one()) };
                if !add.files.is_empty() {
                    return Err(not_one());
                }
                let source = expand(word, &scope)?;
                let checksum =
                    add.checksum.as_ref().map(|word| expand(word, &scope)).transpose()?;
                let checksum = checksum.filter(|checksum| !checksum.is_empty());
                found = Some(remote(&source, checksum.as_deref(), add)?);
            }
            other => {
                return Err(format!(
                    "{NAME} stage does not meet source-only requirements: unsupported {} instruction",
                    other.name()
                ));
            }
        }
    }
    found.ok_or_else(|| format!("{NAME} stage must contain exactly one remote ADD"))
}

fn not_one() -> String {
    format!("{NAME} stage must contain exactly one remote ADD source")
}

fn remote(source: &str, checksum: Option<&str>, add: &Add) -> Result<CopySource, String> {
    match GitAddress::parse(source).map_err(|error| error.to_string())? {
        Some(address) if !address.is_like_a_path => {
            let keeps = add.keep_git_dir.map(|keeps| keeps.value);
            let source = address.added(keeps, checksum).map_err(|error| error.to_string())?;
            Ok(CopySource::Git(source))
        }
        _ if download::is_download(source) => {
            Ok(CopySource::Download(DownloadSource::new(source, checksum)?))
        }
        _ => Err(format!("{NAME} stage source must be a single HTTP(S) or Git ADD")),
    }
}
