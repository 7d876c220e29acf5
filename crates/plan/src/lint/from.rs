//! The rules about `FROM`: the names and platforms of bases, with the variables that stand in them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use dockerfile_parser::{Dockerfile, From, Instruction, Stage};
use ebiko_oci::{Platform, Reference};

use super::options::{CheckOptions, Collector};
use super::rule::{Rule, messages};
use crate::BuildOptions;
use crate::expand::{Expander, Expansion, Variables as _};
use crate::scope::{self, BuildArgs, Scope};
use crate::suggest;

/// What `FROM` sees: predefined variables, and the `ARG`s above the first one.
#[derive(Debug)]
pub(crate) struct Globals {
    values: Scope,
    /// Names that are declared, with a value or without.
    declared: BTreeSet<String>,
    expander: Expander,
    build_platform: Platform,
    /// The `ARG`s; the last of a name counts.
    pub(crate) args: BTreeMap<String, GlobalArg>,
}

/// An `ARG` above the first `FROM`.
#[derive(Debug, Clone)]
pub(crate) struct GlobalArg {
    pub(crate) value: Option<String>,
    /// Names of variables that its value is made of.
    pub(crate) uses: BTreeSet<String>,
    pub(crate) description: Option<String>,
    pub(crate) lines: RangeInclusive<u32>,
}

impl Globals {
    /// Those of a build. `None` where a default cannot be expanded.
    pub(crate) fn of_build(file: &Dockerfile, options: &BuildOptions) -> Option<Self> {
        let build_args = BuildArgs::new(options);
        Self::read(file, options, &build_args, |name| build_args.get(name).map(ToOwned::to_owned))
    }

    /// Those of a build whose `ARG`s all have their defaults.
    fn by_default(file: &Dockerfile, options: &BuildOptions) -> Option<Self> {
        Self::read(file, options, &BuildArgs::new(options), |_| None)
    }

    fn read(
        file: &Dockerfile,
        options: &BuildOptions,
        build_args: &BuildArgs,
        given: impl Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        let last = file.stages.last().and_then(|stage| stage.from.kind.name.as_ref());
        let target = match options.target.as_deref() {
            Some(name) if !name.is_empty() => name,
            _ => last.map_or("default", |name| name.as_str()),
        };
        let expander = Expander::new(file.escape.as_char());
        let mut values = scope::predefined(options, build_args, target);
        let mut declared: BTreeSet<String> = values.names().map(ToOwned::to_owned).collect();
        let mut args: BTreeMap<String, GlobalArg> = BTreeMap::new();
        for (arg, item) in
            file.meta_args.iter().flat_map(|arg| arg.kind.args.iter().map(move |item| (arg, item)))
        {
            let name = item.key.as_str();
            let mut uses = BTreeSet::new();
            let value = match (given(name), &item.default) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => {
                    let expansion = expander.expand(default, &values).ok()?;
                    uses = expansion.matched;
                    Some(expansion.text)
                }
                (None, None) => None,
            };
            // A value that is made of the one before is made of what that was made of.
            if uses.remove(name)
                && let Some(before) = args.get(name)
            {
                uses.extend(before.uses.iter().cloned());
            }
            if let Some(value) = &value {
                values.set(name, value.as_str());
                if values.size() > crate::plan::MAX_PLAN {
                    return None;
                }
            }
            declared.insert(name.to_owned());
            let description = arg.description_of(name).map(ToOwned::to_owned);
            let lines = arg.lines.clone();
            args.insert(name.to_owned(), GlobalArg { value, uses, description, lines });
        }
        let build_platform = options.build_platform.clone();
        Some(Self { values, declared, expander, build_platform, args })
    }

    /// The variables that the base and the platform of a stage are made of.
    pub(crate) fn used_by(&self, from: &From) -> BTreeSet<String> {
        let words = std::iter::once(&from.image).chain(&from.platform);
        words.filter_map(|word| self.expand(word)).flat_map(|expansion| expansion.matched).collect()
    }

    fn expand(&self, word: &str) -> Option<Expansion> {
        self.expander.expand(word, &self.values).ok()
    }
}

/// Checks that bases have names even where no build argument is given.
pub(super) fn default_arguments(
    file: &Dockerfile,
    build: &BuildOptions,
    options: &CheckOptions,
    collector: &mut Collector,
) {
    let Some(globals) = Globals::by_default(file, build) else { return };
    for from in file.stages.iter().map(|stage| &stage.from) {
        let image = &from.kind.image;
        let Some(expansion) = globals.expand(image) else { return };
        if expansion.text.parse::<Reference>().is_err() {
            let message = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                image.value
            );
            collector.add(options, Rule::InvalidDefaultArgInFrom, &from.lines, message);
        }
    }
}

/// Checks the `FROM`s one after the other, up to one that makes no sense.
///
/// Whether the name of an image is one is seen later, when all of them are looked up.
pub(super) fn bases(
    stages: &[Stage],
    globals: &Globals,
    options: &CheckOptions,
    collector: &mut Collector,
) {
    for Stage { from, .. } in stages {
        if base(from, globals, &options.at(from), collector).is_none() {
            return;
        }
    }
}

fn base(
    from: &Instruction<From>,
    globals: &Globals,
    options: &CheckOptions,
    collector: &mut Collector,
) -> Option<()> {
    let image = globals.expand(&from.kind.image)?;
    undeclared(from, globals, &image, options, collector);
    if image.text.is_empty() {
        return None;
    }
    let Some(written) = from.kind.platform.as_ref().filter(|written| !written.is_empty()) else {
        return Some(());
    };
    let platform = globals.expand(written)?;
    undeclared(from, globals, &platform, options, collector);
    let is_target = platform.unmatched.is_empty()
        && platform.matched.iter().eq(["TARGETPLATFORM"])
        && globals.values.get("TARGETPLATFORM") == Some(platform.text.as_str());
    if is_target {
        let message = format!(
            "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
            written.value
        );
        collector.add(options, Rule::RedundantTargetPlatform, &from.lines, message);
    }
    let parsed = crate::platform::parse(&platform.text, &globals.build_platform).ok()?;
    if platform.matched.is_empty() && platform.unmatched.is_empty() {
        // A stage that is named for a platform is meant to be for that one.
        let stage = from.kind.name.as_ref().map_or("", |name| name.as_str());
        if !stage.contains(&parsed.os) && !stage.contains(&parsed.architecture) {
            let value = crate::go::quote(&platform.text);
            let message = format!("FROM --platform flag should not use constant value {value}");
            collector.add(options, Rule::FromPlatformFlagConstDisallowed, &from.lines, message);
        }
    }
    Some(())
}

fn undeclared(
    from: &Instruction<From>,
    globals: &Globals,
    expansion: &Expansion,
    options: &CheckOptions,
    collector: &mut Collector,
) {
    for name in expansion.unmatched.iter().filter(|name| !globals.declared.contains(*name)) {
        let near = suggest::nearest(name, globals.declared.iter().map(String::as_str));
        let message = messages::undefined_arg_in_from(name, near);
        collector.add(options, Rule::UndefinedArgInFrom, &from.lines, message);
    }
}
