//! Which stages there are, what they are based on, and what they copy from.

use std::collections::{BTreeMap, BTreeSet};

use dockerfile_parser::{
    Arg, Diagnostic, Diagnostics, Dockerfile, From, Instruction, InstructionKind, Source, Span,
    Word,
};
use ebiko_oci::Reference;

use crate::actions::{BaseReference, StageId};
use crate::expand::{Expander, Variables as _};
use crate::plan::{MAX_PLAN, TOO_LARGE};
use crate::scope::{self, BuildArgs, Scope};
use crate::{BuildOptions, suggest, unsupported};

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
    /// What `ARG name` in a stage finds outside of it.
    pub(crate) globals: Scope,
    pub(crate) global_names: BTreeSet<String>,
    /// Whether the file asks for rules to be checked.
    pub(crate) has_check: bool,
    pub(crate) build_args: BuildArgs,
    pub(crate) options: BuildOptions,
    /// For each name the last stage that has it.
    names: BTreeMap<String, StageId>,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The name after `AS`, in lower case.
    pub(crate) name: Option<String>,
    pub(crate) base: NodeBase,
    /// What follows `FROM`, expanded.
    pub(crate) base_text: String,
    pub(crate) from: Instruction<From>,
    pub(crate) instructions: Vec<Instruction>,
}

#[derive(Debug, Clone)]
pub(crate) enum NodeBase {
    Scratch,
    Stage(StageId),
    Image(Reference),
}

/// What `COPY --from` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CopySource {
    Scratch,
    Stage(StageId),
    Image(Reference),
}

impl StageGraph {
    /// The first line that names `image`, in a `FROM` or a `COPY --from`; `None` where only a trigger of a base does.
    pub fn line_naming(&self, image: &BaseReference) -> Option<u32> {
        self.nodes.iter().find_map(|node| {
            if matches!(&node.base, NodeBase::Image(base) if *base == image.reference) {
                return Some(*node.from.lines.start());
            }
            let names = |instruction: &&Instruction| {
                matches!(
                    self.copy_source(instruction),
                    Ok(Some(CopySource::Image(from))) if from == image.reference
                )
            };
            node.instructions.iter().find(names).map(|instruction| *instruction.lines.start())
        })
    }

    /// Resolves the names that stages use for one another and picks the target.
    ///
    /// # Errors
    ///
    /// Every `FROM` and `COPY --from` of the file must make sense, as in BuildKit. What stages do
    /// besides is looked at only where the target needs them; instructions that ebiko does not know
    /// yet are refused there, before anything is fetched.
    pub fn select(dockerfile: &Dockerfile, options: &BuildOptions) -> Result<Self, Diagnostics> {
        Self::try_select(dockerfile, options)
            .map_err(|items| Diagnostics::new(dockerfile.source.clone(), items))
    }

    fn try_select(
        dockerfile: &Dockerfile,
        options: &BuildOptions,
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
            globals: scope::predefined(options, &build_args, target_name),
            global_names: BTreeSet::new(),
            has_check: dockerfile.directives.check.is_some(),
            build_args,
            options: options.clone(),
            names: BTreeMap::new(),
        };
        for arg in &dockerfile.meta_args {
            graph.define_globals(arg)?;
        }
        graph.refuse_epoch(dockerfile)?;
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
        graph.check_copy_sources()?;
        let reach = graph.reach(&BTreeMap::new())?;
        let errors: Vec<_> =
            reach.stages.keys().flat_map(|&id| unsupported::in_stage(graph.stage(id))).collect();
        if errors.is_empty() { Ok(graph) } else { Err(errors) }
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

    /// A time that is asked for must not be ignored.
    fn refuse_epoch(&self, dockerfile: &Dockerfile) -> Result<(), Vec<Diagnostic>> {
        const NAME: &str = "SOURCE_DATE_EPOCH";
        let value = self.build_args.get(NAME).or_else(|| self.globals.get(NAME));
        if value.is_none_or(str::is_empty) {
            return Ok(());
        }
        let items = dockerfile.meta_args.iter().flat_map(|arg| &arg.kind.args);
        let declared = items.filter(|item| *item.key == NAME).map(|item| item.key.span).next();
        let span = declared.unwrap_or(dockerfile.stages[0].from.keyword.span);
        let message = format!("the build argument `{NAME}` is not supported yet");
        Err(vec![Diagnostic::error(span, message)])
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
        // Unlike everywhere else, the case of the name matters here.
        let base = match self.names.get(&text) {
            Some(&id) => NodeBase::Stage(id),
            None if text == "scratch" => NodeBase::Scratch,
            None => NodeBase::Image(parse_reference(&text, image.span).map_err(with_hint)?),
        };
        Ok(Node {
            name: from.kind.name.as_ref().map(|name| name.value.clone()),
            base,
            base_text: text,
            from: from.clone(),
            instructions: stage.instructions.clone(),
        })
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
        let message = format!("target stage {} could not be found", crate::go::quote(name));
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

    pub(crate) fn image(&self, reference: &Reference) -> BaseReference {
        BaseReference { reference: reference.clone(), platform: self.options.platform.clone() }
    }

    /// What `--from` of this instruction names, `None` for the build context.
    pub(crate) fn copy_source(
        &self,
        instruction: &Instruction,
    ) -> Result<Option<CopySource>, Diagnostic> {
        let InstructionKind::Copy(copy) = &instruction.kind else { return Ok(None) };
        let Some(from) = copy.from.as_ref().filter(|from| !from.is_empty()) else {
            return Ok(None);
        };
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
            return Ok(Some(CopySource::Stage(StageId(index))));
        }
        Ok(Some(match self.names.get(&from.to_lowercase()) {
            Some(&id) => CopySource::Stage(id),
            None if from.value == "scratch" => CopySource::Scratch,
            None => CopySource::Image(parse_reference(from, from.span)?),
        }))
    }

    /// Looks at every `COPY --from` of the file, and for circles among them.
    fn check_copy_sources(&self) -> Result<(), Vec<Diagnostic>> {
        let mut errors = Vec::new();
        let mut edges: Vec<Vec<(StageId, Span)>> = vec![Vec::new(); self.nodes.len()];
        for (node, edges) in std::iter::zip(&self.nodes, &mut edges) {
            for instruction in &node.instructions {
                match self.copy_source(instruction) {
                    Ok(Some(CopySource::Stage(id))) => {
                        edges.push((id, instruction.flag_span("from")));
                    }
                    Ok(_) => {}
                    Err(error) => errors.push(error),
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        match find_circle(&edges) {
            Some((id, span)) => {
                let name = self.shown_name(id);
                let message = format!("circular dependency detected on stage: {name}");
                Err(vec![Diagnostic::error(span, message)])
            }
            None => Ok(()),
        }
    }
}

fn parse_reference(text: &str, span: Span) -> Result<Reference, Diagnostic> {
    text.parse().map_err(|error: ebiko_oci::ReferenceError| {
        let name = crate::go::quote(&error.text);
        let message = format!(
            "failed to parse stage name {name}: invalid reference format: {}",
            error.reason
        );
        Diagnostic::error(span, message)
    })
}

/// The stage from which a walk along the edges meets itself, and the edge that closes the circle.
///
/// Not recursive: a file may have tens of thousands of stages, each copying from the next.
fn find_circle(edges: &[Vec<(StageId, Span)>]) -> Option<(StageId, Span)> {
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
        while let Some((stage, next)) = path.last_mut() {
            let Some(&(to, span)) = edges[*stage].get(*next) else {
                visits[*stage] = Visit::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match visits[to.0] {
                Visit::Now => return Some((StageId(first), span)),
                Visit::Done => {}
                Visit::Never => {
                    visits[to.0] = Visit::Now;
                    path.push((to.0, 0));
                }
            }
        }
    }
    None
}
