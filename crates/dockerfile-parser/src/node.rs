//! Lines become nodes: an instruction's name, flags and arguments, divided as its grammar wants, and not yet judged.
//!
//! The step is separate from typing because `ONBUILD` needs it alone: a trigger's words are divided when it is stored,
//! and judged when it fires.

use std::ops::{Range, RangeInclusive};
use std::vec;

use crate::ast::{Escape, Flag, Heredoc};
use crate::diagnostic::Diagnostic;
use crate::directive::Tracker;
use crate::heredoc::{self, Operator};
use crate::json::{self, NotStrings};
use crate::source::{Span, Word};
use crate::suggest::nearest;
use crate::text::{Line, Text};
use crate::words::{self, is_blank};

/// An instruction, divided.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) keyword: Word,
    pub(crate) flags: Vec<Flag>,
    pub(crate) args: Args,
    pub(crate) heredocs: Vec<Heredoc>,
    /// The lines of the bodies, terminators included.
    pub(crate) body: Vec<Line>,
    /// The instruction as one line.
    pub(crate) line: Text,
    pub(crate) span: Span,
    pub(crate) lines: RangeInclusive<u32>,
    pub(crate) comments: Vec<String>,
}

/// The arguments in the form that the grammar of the instruction gives them.
#[derive(Debug)]
pub(crate) enum Args {
    /// Of an unknown instruction.
    Ignored,
    /// `ADD`, `COPY`, `VOLUME`, `FROM`, `EXPOSE`
    List { words: Vec<Word>, json: bool },
    /// `RUN`, `CMD`, `ENTRYPOINT`, `SHELL`
    Command(CommandArgs),
    /// `ENV`, `LABEL`
    Pairs(Vec<Pair>),
    /// `ARG`
    Assignments(Vec<(Word, Option<Word>)>),
    /// `MAINTAINER`, `STOPSIGNAL`, `USER`, `WORKDIR`
    Text(Option<Word>),
    /// `HEALTHCHECK`
    Typed { kind: Word, command: CommandArgs },
    /// `HEALTHCHECK` and `ONBUILD` without arguments.
    Nothing,
    /// `ONBUILD`: the name of the inner instruction, and whether that may have here-documents.
    Nested { keyword: Word, heredocs: bool },
}

#[derive(Debug)]
pub(crate) enum CommandArgs {
    Text(Option<Word>),
    Json(Vec<Word>),
}

#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) key: Word,
    pub(crate) value: Word,
    pub(crate) legacy: bool,
}

/// What reading a file gave.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) nodes: Vec<Node>,
    /// Where each instruction is, those that could not be divided included.
    pub(crate) places: Vec<(Span, RangeInclusive<u32>)>,
    pub(crate) escape: Escape,
    /// Errors and warnings.
    pub(crate) problems: Vec<Diagnostic>,
    /// The last lines of the instructions that hold a blank line.
    pub(crate) empty_continuations: Vec<u32>,
}

/// Reads lines up to the end.
pub(crate) fn read(lines: Vec<Line>) -> File {
    let mut reader = Reader {
        lines: lines.into_iter(),
        last: (0, 0),
        directives: Tracker::new(),
        problems: Vec::new(),
        empty_continuations: Vec::new(),
    };
    let mut nodes = Vec::new();
    let mut places = Vec::new();
    let mut comments = Vec::new();
    while let Some(line) = reader.next() {
        let start = line.text.span(line.content()).start;
        let node = reader.instruction(&line, &mut comments);
        let (number, end) = reader.last;
        let lines = node.as_ref().map_or(line.number..=number, |node| node.lines.clone());
        places.push((Span::new(start, end), lines));
        nodes.extend(node);
    }
    if nodes.is_empty() && reader.problems.is_empty() {
        let end = reader.last.1;
        let error = Diagnostic::error(Span::new(end, end), "file with no instructions")
            .with_hint("a Dockerfile begins with `FROM`, which names the image to build on");
        reader.problems.push(error);
    }
    File {
        nodes,
        places,
        escape: reader.directives.escape,
        problems: reader.problems,
        empty_continuations: reader.empty_continuations,
    }
}

struct Reader {
    lines: vec::IntoIter<Line>,
    /// The number of the line that was read last, and the end of its content.
    last: (u32, usize),
    directives: Tracker,
    problems: Vec<Diagnostic>,
    empty_continuations: Vec<u32>,
}

impl Reader {
    fn next(&mut self) -> Option<Line> {
        let line = self.lines.next()?;
        self.last = (line.number, line.text.span(line.content()).end);
        Some(line)
    }

    /// Reads the instruction that begins on `first`, if one does.
    fn instruction(&mut self, first: &Line, comments: &mut Vec<String>) -> Option<Node> {
        let content = first.content();
        let blanks = content.end - first.text.as_str()[content.clone()].trim_start().len();
        let mut line = first.text.slice(blanks..content.end);
        let start = line.whole().start;
        let directive = self.directives.read(&line, first.number).unwrap_or_else(|error| {
            self.problems.push(error);
            false
        });
        if line.as_str().starts_with('#') {
            if !directive {
                add_comment(first, comments);
            }
            return None;
        }
        let escape = self.directives.escape;
        let mut joined = continued(line.as_str(), escape);
        if joined.is_none() && line.as_str().is_empty() {
            return None;
        }
        line.truncate(joined.unwrap_or(line.as_str().len()));
        let mut has_blank_line = false;
        while joined.is_some() {
            let Some(next) = self.next() else { break };
            let content = next.content();
            let string = &next.text.as_str()[content.clone()];
            let words = string.trim_start();
            if words.starts_with('#') {
                continue;
            }
            if words.is_empty() {
                self.problems.push(empty_continuation(next.text.span(content)));
                has_blank_line = true;
                continue;
            }
            joined = continued(string, escape);
            line.push(&next.text, 0..joined.unwrap_or(content.end));
        }
        if has_blank_line {
            self.empty_continuations.push(self.last.0);
        }
        self.node(line, start, first.number, std::mem::take(comments))
    }

    fn node(
        &mut self,
        line: Text,
        start: usize,
        first: u32,
        comments: Vec<String>,
    ) -> Option<Node> {
        let split = words::split(&line, self.directives.escape);
        let args = arguments(&split.keyword, &split.rest, self.directives.escape).unwrap_or_else(
            |error| {
                self.problems.push(error);
                None
            },
        );
        let head = self.last.0;
        let (heredocs, body) = match &args {
            Some(args) if can_hold_heredocs(&split.keyword, args) => match self.heredocs(&line) {
                None if matches!(args, Args::Ignored) => (Vec::new(), Vec::new()),
                bodies => bodies?,
            },
            _ => (Vec::new(), Vec::new()),
        };
        self.problems
            .extend(line.invalid().map(|place| not_utf8(place, args.as_ref(), &split.keyword)));
        self.problems.extend(split.flags.iter().filter_map(not_ascii));
        let args = args?;
        // BuildKit knows of no heredocs here, and does not blame their lines.
        let last = if matches!(args, Args::Ignored) { head } else { self.last.0 };
        Some(Node {
            keyword: split.keyword,
            flags: split.flags,
            args,
            heredocs,
            body,
            line,
            span: Span::new(start, self.last.1),
            lines: first..=last,
            comments,
        })
    }

    /// Reads the bodies of the here-documents in `line`; `None` where one is not ended, which ends the file.
    fn heredocs(&mut self, line: &Text) -> Option<(Vec<Heredoc>, Vec<Line>)> {
        let operators = heredoc::operators(line.as_str()).unwrap_or_else(|heredoc::TooDeep| {
            let message = "substitutions are nested too deeply";
            self.problems.push(Diagnostic::error(line.whole(), message));
            Vec::new()
        });
        let mut heredocs = Vec::new();
        let mut body = Vec::new();
        for operator in operators {
            let at = operator.at;
            if let Some(heredoc) = self.heredoc(operator, &mut body) {
                heredocs.push(heredoc);
                continue;
            }
            let rest = &line.as_str()[at..];
            let end = at + rest.find(is_blank).unwrap_or(rest.len());
            let error = Diagnostic::error(line.span(at..end), "unterminated heredoc").with_hint(
                "the line that ends it holds the name alone: no blanks before or behind it",
            );
            self.problems.push(error);
            return None;
        }
        Some((heredocs, body))
    }

    fn heredoc(&mut self, operator: Operator, body: &mut Vec<Line>) -> Option<Heredoc> {
        let mut content: Option<Text> = None;
        loop {
            let line = self.next()?;
            let end = line.content();
            let string = &line.text.as_str()[end.clone()];
            let tabs = if operator.chomp {
                string.len() - string.trim_start_matches('\t').len()
            } else {
                0
            };
            if string[tabs..] == operator.name {
                let end = line.text.slice(tabs..end.end);
                let nothing = end.slice(0..0);
                body.push(Line { text: end, number: line.number });
                let content = content.unwrap_or(nothing);
                if let Some(place) = content.invalid() {
                    let message = "a heredoc holds a byte that is not UTF-8";
                    self.problems.push(Diagnostic::error(place, message));
                }
                return Some(Heredoc {
                    name: operator.name,
                    span: content.whole(),
                    content: content.into_string(),
                    expand: operator.expand,
                    chomp: operator.chomp,
                    file_descriptor: operator.file_descriptor,
                });
            }
            match &mut content {
                Some(content) => content.push(&line.text, 0..line.text.as_str().len()),
                None => content = Some(line.text.clone()),
            }
            body.push(line);
        }
    }
}

fn add_comment(line: &Line, comments: &mut Vec<String>) {
    // BuildKit drops one byte, wherever the `#` is: an indented comment keeps its `#`.
    let mut chars = line.text.as_str().chars();
    chars.next();
    match chars.as_str().trim() {
        "" => comments.clear(),
        comment => comments.push(comment.to_owned()),
    }
}

/// The length of the line without its escape character, if it ends with one that continues it.
fn continued(line: &str, escape: Escape) -> Option<usize> {
    let escape = escape.as_char();
    let line = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    // Two escape characters are one that is escaped. BuildKit takes three for the same.
    (!line.ends_with(escape)).then_some(line.len())
}

fn empty_continuation(line: Span) -> Diagnostic {
    Diagnostic::warning(line, "empty continuation line").with_hint(
        "remove the blank line, or make it a comment: BuildKit announces that it will be an error",
    )
}

/// A shell gets the bytes as they are, and this parser does not have them; all else ends in JSON, which replaces them.
fn not_utf8(place: Span, args: Option<&Args>, keyword: &Word) -> Diagnostic {
    if keyword.eq_ignore_ascii_case("run")
        && matches!(args, Some(Args::Command(CommandArgs::Text(_))))
    {
        return Diagnostic::error(place, "the command holds a byte that is not UTF-8")
            .with_hint("save the file as UTF-8");
    }
    Diagnostic::warning(place, "a byte that is not UTF-8 is read as U+FFFD")
        .with_hint("save the file as UTF-8")
}

fn not_ascii(flag: &Flag) -> Option<Diagnostic> {
    let is_ascii = flag.name.is_ascii() && flag.value.as_deref().is_none_or(str::is_ascii);
    (!is_ascii).then(|| {
        Diagnostic::warning(flag.span, "a flag holds characters that are not ASCII")
            .with_hint("flags are read byte by byte, so that `é` becomes `Ã©`")
    })
}

fn can_hold_heredocs(keyword: &Word, args: &Args) -> bool {
    match args {
        Args::Nested { heredocs, .. } => *heredocs,
        Args::List { json, .. } => {
            !json && matches!(keyword.to_lowercase().as_str(), "add" | "copy")
        }
        Args::Command(CommandArgs::Text(_)) => keyword.eq_ignore_ascii_case("run"),
        // The body of a misspelt instruction is not a heap of further mistakes.
        Args::Ignored => {
            let guess = nearest(&keyword.to_lowercase(), KEYWORDS);
            matches!(guess, Some("add" | "copy" | "run"))
        }
        _ => false,
    }
}

/// The names of all instructions.
pub(crate) const KEYWORDS: &[&str] = &[
    "add",
    "arg",
    "cmd",
    "copy",
    "entrypoint",
    "env",
    "expose",
    "from",
    "healthcheck",
    "label",
    "maintainer",
    "onbuild",
    "run",
    "shell",
    "stopsignal",
    "user",
    "volume",
    "workdir",
];

/// Divides what follows name and flags.
fn arguments(keyword: &Word, rest: &Text, escape: Escape) -> Result<Option<Args>, Diagnostic> {
    let text = || Some(rest.word(0..rest.as_str().len())).filter(|word| !word.is_empty());
    Ok(Some(match keyword.to_lowercase().as_str() {
        "add" | "copy" | "volume" => match json_words(rest)? {
            Some(words) => Args::List { words, json: true },
            None => Args::List { words: words::blank_separated(rest), json: false },
        },
        "from" | "expose" => Args::List { words: words::blank_separated(rest), json: false },
        "run" | "cmd" | "entrypoint" | "shell" => Args::Command(command(rest)?),
        "env" => Args::Pairs(pairs("ENV", rest, escape)?),
        "label" => Args::Pairs(pairs("LABEL", rest, escape)?),
        "arg" => {
            let words = words::quoted_words(rest.as_str(), escape);
            Args::Assignments(words.into_iter().map(|range| assignment(rest, range)).collect())
        }
        "maintainer" | "stopsignal" | "user" | "workdir" => Args::Text(text()),
        "healthcheck" | "onbuild" if rest.as_str().is_empty() => Args::Nothing,
        "healthcheck" => {
            let string = rest.as_str();
            let is_space = |c: char| matches!(c, '\t'..='\r' | ' ');
            let end = string.find(is_space).unwrap_or(string.len());
            let next = string.len() - string[end..].trim_start_matches(is_space).len();
            Args::Typed {
                kind: rest.word(0..end),
                command: command(&rest.slice(next..string.len()))?,
            }
        }
        "onbuild" => nested(rest, escape)?,
        _ => Args::Ignored,
    }))
}

/// An error in the words of the inner instruction is one of the file, for everything else there is time.
fn nested(rest: &Text, escape: Escape) -> Result<Args, Diagnostic> {
    let inner = words::split(rest, escape);
    // `ONBUILD ONBUILD` is refused later; following it here would be a recursion as deep as the line is long.
    let heredocs = if inner.keyword.eq_ignore_ascii_case("onbuild") {
        false
    } else {
        let args = arguments(&inner.keyword, &inner.rest, escape)?;
        args.is_some_and(|args| can_hold_heredocs(&inner.keyword, &args))
    };
    Ok(Args::Nested { keyword: inner.keyword, heredocs })
}

fn json_words(rest: &Text) -> Result<Option<Vec<Word>>, Diagnostic> {
    match json::strings(rest.as_str()) {
        Ok(strings) => Ok(Some(
            strings.into_iter().map(|(value, range)| Word::new(value, rest.span(range))).collect(),
        )),
        Err(NotStrings::NotJson) => Ok(None),
        Err(NotStrings::Element(range)) => {
            let message = "when using JSON array syntax, arrays must be comprised of strings only";
            Err(Diagnostic::error(rest.span(range), message))
        }
    }
}

fn command(rest: &Text) -> Result<CommandArgs, Diagnostic> {
    if let Some(words) = json_words(rest)? {
        return Ok(CommandArgs::Json(words));
    }
    let text = rest.word(0..rest.as_str().len());
    Ok(CommandArgs::Text(Some(text).filter(|text| !text.is_empty())))
}

fn pairs(name: &str, rest: &Text, escape: Escape) -> Result<Vec<Pair>, Diagnostic> {
    let string = rest.as_str();
    let words = words::quoted_words(rest.as_str(), escape);
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    if !string[first.clone()].contains('=') {
        let Some(end) = string.find(is_blank) else {
            let error = Diagnostic::error(rest.whole(), format!("{name} must have two arguments"));
            return Err(error.with_hint(format!("write `{name} {string}=value`")));
        };
        let value = string.len() - string[end..].trim_start_matches(is_blank).len();
        let (key, value) = (rest.word(0..end), rest.word(value..string.len()));
        return Ok(vec![Pair { key, value, legacy: true }]);
    }
    let pair = |range: Range<usize>| match assignment(rest, range) {
        (key, Some(value)) => Ok(Pair { key, value, legacy: false }),
        (word, None) => {
            let message = format!(
                "Syntax error - can't find = in {:?}. Must be of the form: name=value",
                word.value
            );
            Err(Diagnostic::error(word.span, message).with_hint("a value with blanks needs quotes"))
        }
    };
    words.into_iter().map(pair).collect()
}

/// A word in two at its first `=`, if it has one.
fn assignment(rest: &Text, range: Range<usize>) -> (Word, Option<Word>) {
    match rest.as_str()[range.clone()].find('=') {
        Some(at) => {
            let at = range.start + at;
            (rest.word(range.start..at), Some(rest.word(at + 1..range.end)))
        }
        None => (rest.word(range), None),
    }
}
