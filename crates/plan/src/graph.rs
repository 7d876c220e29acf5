//! Which stages there are, what they are based on, and what they copy from.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use dockerfile_parser::{
    Arg, Diagnostic, Diagnostics, Dockerfile, From, Instruction, InstructionKind, Mount, Source,
    Span, Word,
};
use ebiko_oci::{Platform, Reference};

use crate::actions::{BaseReference, ImageStore, StageId};
use crate::contexts::{ContextKind, NamedContexts};
use crate::epoch::{self, EpochSource};
use crate::expand::Expander;
use crate::plan::{MAX_PLAN, TOO_LARGE};
use crate::scope::{self, BuildArgs, Scope};
use crate::{BuildOptions, frontend, go, lint, platform, suggest};

/// The stages of a Dockerfile with their references resolved to one another.
///
/// Made by [`StageGraph::select`]; once all [`missing_references`](Self::missing_references) are
/// known, [`BuildPlan::lower`](crate::BuildPlan::lower) makes a plan of it.
#[derive(Debug, Clone)]
pub struct StageGraph {
    pub(crate) source: Source,
    pub(crate) escape: char,
    pub(crate) nodes: Vec<Node>,
    pub(crate) target: StageId,
    /// Stages that are built besides what the target needs.
    pub(crate) also: BTreeSet<StageId>,
    /// What `ARG name` in a stage finds outside of it.
    pub(crate) globals: Scope,
    pub(crate) global_names: BTreeSet<String>,
    /// What the checks of the file need besides.
    pub(crate) lint: lint::Facts,
    /// Whether every stage counts as needed.
    pub(crate) every_stage: bool,
    pub(crate) build_args: BuildArgs,
    pub(crate) options: BuildOptions,
    /// What `SOURCE_DATE_EPOCH` asks for.
    pub(crate) epoch: Option<EpochSource>,
    contexts: NamedContexts,
    /// For each name the last stage that has it.
    names: BTreeMap<String, StageId>,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The name after `AS`, in lower case.
    pub(crate) name: Option<String>,
    pub(crate) base: NamedSource,
    /// What follows `FROM`, expanded.
    pub(crate) base_text: String,
    /// What its image is for.
    pub(crate) platform: Platform,
    pub(crate) from: Instruction<From>,
    /// Empty where a named context has taken the place of the stage.
    pub(crate) instructions: Vec<Instruction>,
    /// Whether a named context has taken its place. Triggers of that image do not fire, here or anywhere.
    pub(crate) is_replaced: bool,
}

/// What `FROM`, `COPY --from` or `RUN --mount=from=` names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a plan has few of them, and most are of this kind")]
pub(crate) enum NamedSource {
    Scratch,
    Stage(StageId),
    Image(BaseReference),
    /// The named context of that name, which is files.
    Files(String),
}

impl std::convert::From<ContextKind> for NamedSource {
    fn from(kind: ContextKind) -> Self {
        match kind {
            ContextKind::Scratch => Self::Scratch,
            ContextKind::Image(image) => Self::Image(image),
            ContextKind::Files(name) => Self::Files(name),
        }
    }
}

impl StageGraph {
    /// The lines of the first instruction that names `image`; `None` where only a trigger of a base does.
    pub fn lines_naming(&self, image: &BaseReference) -> Option<RangeInclusive<u32>> {
        self.nodes.iter().find_map(|node| {
            if matches!(&node.base, NamedSource::Image(base) if base == image) {
                return Some(node.from.lines.clone());
            }
            let names = |instruction: &&Instruction| {
                let names = |(source, _): &(NamedSource, Span)| matches!(source, NamedSource::Image(from) if from == image);
                self.sources(instruction).is_ok_and(|sources| sources.iter().any(names))
            };
            node.instructions.iter().find(names).map(|instruction| instruction.lines.clone())
        })
    }

    /// Where the time of the image comes from, which whoever builds must find out before
    /// [`BuildPlan::lower`](crate::BuildPlan::lower). `None` if nobody asks for one.
    pub fn epoch(&self) -> Option<&EpochSource> {
        self.epoch.as_ref()
    }

    /// Resolves the names that stages use for one another and picks the target.
    ///
    /// # Errors
    ///
    /// Every `FROM`, `COPY --from` and `RUN --mount=from=` of the file must make sense, as in BuildKit. What stages
    /// do besides is looked at only where the target needs them.
    pub fn select(dockerfile: &Dockerfile, options: &BuildOptions) -> Result<Self, Diagnostics> {
        Self::try_select(dockerfile, options, false)
            .map_err(|items| Diagnostics::new(dockerfile.source.clone(), items))
    }

    /// The same as if the target needed every stage of the file, to check them.
    ///
    /// # Errors
    ///
    /// As for [`select`](Self::select).
    pub fn select_every_stage(
        dockerfile: &Dockerfile,
        options: &BuildOptions,
    ) -> Result<Self, Diagnostics> {
        Self::try_select(dockerfile, options, true)
            .map_err(|items| Diagnostics::new(dockerfile.source.clone(), items))
    }

    fn try_select(
        dockerfile: &Dockerfile,
        options: &BuildOptions,
        every_stage: bool,
    ) -> Result<Self, Vec<Diagnostic>> {
        let Some(last) = dockerfile.stages.last() else {
            let message = "dockerfile contains no stages to build";
            return Err(vec![Diagnostic::error(Span::default(), message)]);
        };
        let build_args = BuildArgs::new(options);
        let target = options.target.as_deref().filter(|name| !name.is_empty());
        let target_name = match target {
            Some(name) => name,
            None => last.from.kind.name.as_ref().map_or("default", |name| name.as_str()),
        };
        let mut graph = Self {
            source: dockerfile.source.clone(),
            escape: dockerfile.escape.as_char(),
            nodes: Vec::new(),
            target: StageId(dockerfile.stages.len() - 1),
            also: BTreeSet::new(),
            globals: scope::predefined(options, &build_args, target_name),
            global_names: BTreeSet::new(),
            lint: lint::Facts::new(dockerfile, &build_args).map_err(|error| vec![error])?,
            every_stage,
            build_args,
            options: options.clone(),
            epoch: None,
            contexts: NamedContexts::new(&options.contexts),
            names: BTreeMap::new(),
        };
        frontend::check(dockerfile, &graph.build_args).map_err(|error| vec![error])?;
        for arg in &dockerfile.meta_args {
            graph.define_globals(arg)?;
        }
        graph.epoch = epoch::find(&graph, dockerfile).map_err(|error| vec![error])?;
        let mut errors = Vec::new();
        for stage in &dockerfile.stages {
            match graph.node(stage) {
                Ok(node) => graph.add(node),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        if let Some(name) = target {
            graph.target = graph.find_target(name)?;
        }
        for name in &options.also {
            graph.also.insert(graph.find_target(name)?);
        }
        graph.also.remove(&graph.target);
        graph.check_sources()?;
        Ok(graph)
    }

    fn define_globals(&mut self, arg: &Instruction<Arg>) -> Result<(), Vec<Diagnostic>> {
        for item in &arg.kind.args {
            let value = match (self.build_args.get(&item.key), &item.default) {
                (Some(given), _) => Some(given.to_owned()),
                (None, Some(default)) => Some(self.expand_global(default).map_err(|e| vec![e])?.0),
                (None, None) => None,
            };
            if let Some(value) = value {
                self.globals.set(&item.key, value);
                if self.globals.size() > MAX_PLAN {
                    return Err(vec![Diagnostic::error(item.key.span, TOO_LARGE)]);
                }
            }
            self.global_names.insert(item.key.value.clone());
        }
        Ok(())
    }

    /// The word with global variables, and the names that have no value.
    fn expand_global(&self, word: &Word) -> Result<(String, BTreeSet<String>), Diagnostic> {
        Expander::new(self.escape)
            .expand(word, &self.globals)
            .map(|expansion| (expansion.text, expansion.unmatched))
            .map_err(|error| Diagnostic::error(word.span, error.to_string()))
    }

    fn node(&self, stage: &dockerfile_parser::Stage) -> Result<Node, Diagnostic> {
        let from = &stage.from;
        let image = &from.kind.image;
        let (text, unset) = self.expand_global(image)?;
        let with_hint = |diagnostic: Diagnostic| match unset.first() {
            None => diagnostic,
            Some(name) => diagnostic.with_hint(self.hint_for_unset(name)),
        };
        if text.is_empty() {
            let message = format!("base name ({}) should not be blank", image.value);
            return Err(with_hint(Diagnostic::error(image.span, message)));
        }
        let asked = from.kind.platform.as_ref().filter(|word| !word.value.is_empty());
        let wanted = asked.map(|word| self.platform(word)).transpose()?;
        let wanted = wanted.unwrap_or_else(|| self.options.platform.clone());
        let name = from.kind.name.as_ref();
        let replacement = match name {
            Some(name) => self
                .contexts
                .find(name, &wanted)
                .map_err(|message| Diagnostic::error(name.span, message))?,
            None => None,
        };
        let is_replaced = replacement.is_some();
        let base = match (replacement, self.names.get(&text)) {
            (Some(context), _) => context.into(),
            // Unlike everywhere else, the case of the name matters here.
            (None, Some(&id)) => NamedSource::Stage(id),
            (None, None) => self.outside(&text, &wanted, image.span).map_err(with_hint)?,
        };
        let platform = match &base {
            NamedSource::Image(image) => image.platform.clone(),
            NamedSource::Stage(id) => self.stage(*id).platform.clone(),
            NamedSource::Files(_) => wanted,
            NamedSource::Scratch => self.options.platform.clone(),
        };
        Ok(Node {
            name: name.map(|name| name.value.clone()),
            base,
            base_text: text,
            platform,
            from: from.clone(),
            instructions: if is_replaced { Vec::new() } else { stage.instructions.clone() },
            is_replaced,
        })
    }

    /// `FROM --platform`
    fn platform(&self, word: &Word) -> Result<Platform, Diagnostic> {
        let (text, unset) = self.expand_global(word)?;
        let error = |message: String| {
            let error = Diagnostic::error(word.span, message);
            match unset.first() {
                None => error,
                Some(name) => error.with_hint(self.hint_for_unset(name)),
            }
        };
        if text.is_empty() {
            return Err(error(format!("empty platform value from expression {}", word.value)));
        }
        platform::parse(&text, &self.options.build_platform)
            .map_err(|reason| error(format!("failed to parse platform {}: {reason}", word.value)))
    }

    /// What a name means that is not one of a stage.
    fn outside(
        &self,
        text: &str,
        platform: &Platform,
        span: Span,
    ) -> Result<NamedSource, Diagnostic> {
        if text == "scratch" {
            return Ok(NamedSource::Scratch);
        }
        let reference = parse_reference(text, span)?;
        let context = self.contexts.find(text, platform);
        if let Some(context) = context.map_err(|message| Diagnostic::error(span, message))? {
            return Ok(context.into());
        }
        Ok(NamedSource::Image(BaseReference {
            reference,
            platform: platform.clone(),
            store: ImageStore::Registry,
        }))
    }

    /// The named context of that name, whatever it is called.
    pub(crate) fn named_context(&self, name: &str) -> Result<Option<ContextKind>, String> {
        self.contexts.find(name, &self.options.build_platform)
    }

    fn hint_for_unset(&self, name: &str) -> String {
        let declared = self.global_names.contains(name);
        match suggest::nearest(name, self.globals.names()).filter(|_| !declared) {
            Some(near) => format!("`{name}` has no value here; did you mean `{near}`?"),
            None if declared => {
                format!("`{name}` has no value; give it a default or use `--build-arg {name}=…`")
            }
            None => format!(
                "`{name}` has no value here; declare it with `ARG {name}=…` before the first `FROM`"
            ),
        }
    }

    fn add(&mut self, node: Node) {
        if let Some(name) = &node.name {
            self.names.insert(name.to_lowercase(), StageId(self.nodes.len()));
        }
        self.nodes.push(node);
    }

    fn find_target(&self, name: &str) -> Result<StageId, Vec<Diagnostic>> {
        if let Some(&id) = self.names.get(&name.to_lowercase()) {
            return Ok(id);
        }
        let message = format!("target stage {} could not be found", go::quote(name));
        let near = suggest::nearest(name, self.names.keys().map(String::as_str));
        let near_stage = near.and_then(|near| self.names.get(near));
        let diagnostic = match (near, near_stage.map(|&id| &self.stage(id).from)) {
            (Some(near), Some(from)) => {
                let span = from.kind.name.as_ref().map_or(from.keyword.span, |name| name.span);
                Diagnostic::error(span, format!("{message} (did you mean {near}?)"))
            }
            _ => Diagnostic::error(self.nodes[0].from.keyword.span, message),
        };
        let names: Vec<_> = self.names.keys().map(|name| format!("`{name}`")).collect();
        Err(vec![match &names[..] {
            [] => diagnostic.with_hint("no stage of this file has a name"),
            [name] => diagnostic.with_hint(format!("the only stage with a name is {name}")),
            names => {
                diagnostic.with_hint(format!("the stages with names are {}", names.join(", ")))
            }
        }])
    }

    pub(crate) fn stage(&self, id: StageId) -> &Node {
        &self.nodes[id.0]
    }

    /// How error texts call a stage.
    pub(crate) fn shown_name(&self, id: StageId) -> String {
        match &self.stage(id).name {
            Some(name) => name.clone(),
            None => format!("stage-{}", id.0),
        }
    }

    /// What an instruction reads besides its own stage and the build context, each with its place.
    pub(crate) fn sources(
        &self,
        instruction: &Instruction,
    ) -> Result<Vec<(NamedSource, Span)>, Diagnostic> {
        match &instruction.kind {
            InstructionKind::Copy(copy) => {
                let from = copy.from.as_ref().filter(|from| !from.is_empty());
                from.map(|from| Ok((self.copy_source(from)?, from.span))).into_iter().collect()
            }
            InstructionKind::Run(run) => {
                let named = run
                    .mounts
                    .iter()
                    .filter_map(|mount| Mount::named_source(mount).map(|from| (from, mount.span)));
                named.map(|(from, span)| Ok((self.mount_source(&from, span)?, span))).collect()
            }
            _ => Ok(Vec::new()),
        }
    }

    /// What `COPY --from` names.
    pub(crate) fn copy_source(&self, from: &Word) -> Result<NamedSource, Diagnostic> {
        let error = |message: String| Diagnostic::error(from.span, message);
        let expanded = Expander::new(self.escape)
            .expand(from, &Scope::default())
            .map_err(|failure| error(failure.to_string()))?;
        if expanded.text != from.value {
            return Err(error(
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround".into(),
            ));
        }
        if let Ok(number) = from.parse::<i64>() {
            let index = usize::try_from(number).ok().filter(|&index| index < self.nodes.len());
            let index = index.ok_or_else(|| error(format!("invalid stage index {number}")))?;
            return Ok(NamedSource::Stage(StageId(index)));
        }
        self.mount_source(from, from.span)
    }

    /// What `from` of a mount names, which is no number.
    pub(crate) fn mount_source(&self, from: &str, span: Span) -> Result<NamedSource, Diagnostic> {
        match self.names.get(&from.to_lowercase()) {
            Some(&id) => Ok(NamedSource::Stage(id)),
            None => self.outside(from, &self.options.platform, span),
        }
    }

    /// Looks at every `--from` and `from=` of the file, and for circles among them.
    fn check_sources(&self) -> Result<(), Vec<Diagnostic>> {
        let mut errors = Vec::new();
        let mut edges: Vec<Vec<(StageId, Span)>> = vec![Vec::new(); self.nodes.len()];
        for (node, edges) in std::iter::zip(&self.nodes, &mut edges) {
            for instruction in &node.instructions {
                match self.sources(instruction) {
                    Ok(sources) => edges.extend(sources.into_iter().filter_map(
                        |(source, span)| match source {
                            NamedSource::Stage(id) => Some((id, span)),
                            _ => None,
                        },
                    )),
                    Err(error) => errors.push(error),
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        match find_circle(&edges) {
            Some((id, mut circle)) => {
                let name = self.shown_name(id);
                let message = format!("circular dependency detected on stage: {name}");
                // The edge that closes the circle is the one to look at first.
                let last = circle.pop().unwrap_or_default();
                circle.reverse();
                Err(vec![Diagnostic::error(last, message).with_related(circle)])
            }
            None => Ok(()),
        }
    }
}

fn parse_reference(text: &str, span: Span) -> Result<Reference, Diagnostic> {
    text.parse().map_err(|error: ebiko_oci::ReferenceError| {
        let name = go::quote(&error.text);
        let message = format!(
            "failed to parse stage name {name}: invalid reference format: {}",
            error.reason
        );
        Diagnostic::error(span, message)
    })
}

/// The stage from which a walk along the edges meets itself, and the edges of that walk; the last one closes the circle.
///
/// Not recursive: a file may have tens of thousands of stages, each copying from the next.
fn find_circle(edges: &[Vec<(StageId, Span)>]) -> Option<(StageId, Vec<Span>)> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        Never,
        Now,
        Done,
    }
    let mut visits = vec![Visit::Never; edges.len()];
    for first in 0..edges.len() {
        if visits[first] != Visit::Never {
            continue;
        }
        visits[first] = Visit::Now;
        let mut path = vec![(first, 0)];
        let mut walked = Vec::new();
        while let Some((stage, next)) = path.last_mut() {
            let Some(&(to, span)) = edges[*stage].get(*next) else {
                visits[*stage] = Visit::Done;
                path.pop();
                walked.pop();
                continue;
            };
            *next += 1;
            match visits[to.0] {
                Visit::Now => {
                    walked.push(span);
                    return Some((StageId(first), walked));
                }
                Visit::Done => {}
                Visit::Never => {
                    visits[to.0] = Visit::Now;
                    path.push((to.0, 0));
                    walked.push(span);
                }
            }
        }
    }
    None
}
