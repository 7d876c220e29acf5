//! The syntax of a Dockerfile, as values.
//!
//! Nothing here is expanded or checked beyond what can be known from the text alone: a [`Word`] still holds its
//! quotes, escapes and variables, exactly as BuildKit hands it to its expander.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::source::{Source, Span, Spanned, Word};

/// A whole Dockerfile.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    /// The text that all spans are about.
    pub source: Source,
    /// The parser directives at the top of the file.
    pub directives: Directives,
    /// The character that escapes; `` ` `` after `# escape=`.
    pub escape: Escape,
    /// The `ARG`s before the first `FROM`.
    pub meta_args: Vec<Instruction<Arg>>,
    /// The stages, in the order of the file. Empty in a file of `ARG`s only: whether that is an error is the
    /// caller's business, as it is in BuildKit.
    pub stages: Vec<Stage>,
    /// What is doubtful but not wrong.
    pub warnings: Vec<Diagnostic>,
    /// For each instruction that a blank line stands in, the line on which its text ends; bodies of here-documents
    /// do not count.
    pub empty_continuations: Vec<u32>,
}

/// A `FROM` and the instructions up to the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The instruction that begins the stage.
    pub from: Instruction<From>,
    /// The instructions after it.
    pub instructions: Vec<Instruction>,
}

/// One instruction, with what every instruction has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction<K = InstructionKind> {
    /// What it says.
    pub kind: K,
    /// Its name as it was written, such as `RUN` or `run`.
    pub keyword: Word,
    /// Its flags as they were written, in order, known or not.
    pub flags: Vec<Flag>,
    /// All of its bytes: from the name to the end of the last line, bodies of here-documents included.
    pub span: Span,
    /// The numbers of its first and last line, counted from 1.
    pub lines: RangeInclusive<u32>,
    /// Its text as BuildKit keeps it: one line, continuations joined, without bodies of here-documents.
    ///
    /// Progress and history lines and the texts of `ONBUILD` are made of it.
    pub original: String,
    /// The texts of the comment lines above it, back to the previous instruction.
    pub comments: Vec<String>,
}

impl<K> Instruction<K> {
    /// The span of the first flag of that name, without the dashes; the instruction's name where there is none.
    pub fn flag_span(&self, name: &str) -> Span {
        self.flags.iter().find(|flag| flag.name == name).map_or(self.keyword.span, |flag| flag.span)
    }

    /// What the comments above say about `name`: the rest of the first comment line that begins with it.
    ///
    /// This is how a stage or an argument is described: `# base what it is for`.
    pub fn description_of(&self, name: &str) -> Option<&str> {
        if name.is_empty() {
            return None;
        }
        self.comments.iter().find_map(|comment| comment.strip_prefix(name)?.strip_prefix(' '))
    }
}

/// A flag as it was written, quotes and escapes resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The name without the dashes.
    pub name: String,
    /// What follows the first `=`, if there is one.
    pub value: Option<String>,
    /// The whole flag.
    pub span: Span,
}

/// The directives that were found at the top of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=`: the frontend image that the author had in mind.
    pub syntax: Option<Directive>,
    /// `# escape=`
    pub escape: Option<Directive>,
    /// `# check=`: options of the linter.
    pub check: Option<Directive>,
}

/// A parser directive: `# key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Everything after the `=`, blanks at both ends removed.
    pub value: Word,
    /// Its line, counted from 1.
    pub line: u32,
}

impl Directive {
    /// The value up to its first space: what follows are options for people, such as `// opts`.
    pub fn first_word(&self) -> &str {
        self.value.split(' ').next().unwrap_or_default()
    }
}

/// The character that escapes the next one and continues a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Escape {
    /// `\`, the default.
    #[default]
    Backslash,
    /// `` ` ``, after `` # escape=` ``.
    Backtick,
}

impl Escape {
    /// The character itself.
    pub fn as_char(self) -> char {
        match self {
            Self::Backslash => '\\',
            Self::Backtick => '`',
        }
    }
}

/// What an instruction says, for all but `FROM`, which begins a [`Stage`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the instructions of the language")]
pub enum InstructionKind {
    Add(Add),
    Arg(Arg),
    Cmd(Cmd),
    Copy(Copy),
    Entrypoint(Entrypoint),
    Env(Env),
    Expose(Expose),
    Healthcheck(Healthcheck),
    Label(Label),
    Maintainer(Maintainer),
    OnBuild(OnBuild),
    Run(Run),
    Shell(Shell),
    StopSignal(StopSignal),
    User(User),
    Volume(Volume),
    Workdir(Workdir),
}

impl InstructionKind {
    /// The name of the instruction in upper case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::OnBuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}

/// `FROM [--platform=P] image [AS name]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// The image or stage, unexpanded.
    pub image: Word,
    /// `--platform`, unexpanded; `--platform=` is an empty word.
    pub platform: Option<Word>,
    /// The word between image and name, as written: `AS`, `as`, …
    pub as_keyword: Option<Word>,
    /// The name of the stage, in lower case.
    pub name: Option<Word>,
    /// The name of the stage, as written.
    pub name_as_written: Option<String>,
}

/// A command line, of `RUN`, `CMD`, `ENTRYPOINT` and `HEALTHCHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A text for the shell; empty where nothing was written.
    Shell(String),
    /// A program and its arguments, from a JSON array; may be empty.
    Exec(Vec<String>),
}

/// `RUN`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The command; a here-document's operator is still part of the text.
    pub command: Command,
    /// The here-documents, in the order of their operators. Always empty for [`Command::Exec`].
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, each unexpanded and unchecked: see [`Mount::parse`](crate::Mount::parse), which belongs after
    /// expansion, and for stages that are built only.
    pub mounts: Vec<Word>,
    /// `--network`
    pub network: Option<Spanned<Network>>,
    /// `--security`
    pub security: Option<Spanned<Security>>,
    /// `--device`
    pub devices: Vec<Spanned<Device>>,
}

impl Run {
    /// The here-document that the whole command is; `None` where there is a word before or behind its operator.
    pub fn script(&self) -> Option<&Heredoc> {
        let Command::Shell(text) = &self.command else { return None };
        let heredoc = self.heredocs.first()?;
        crate::heredoc::operator(text).map(|_| heredoc)
    }
}

/// The value of `RUN --network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the values of the flag")]
pub enum Network {
    #[default]
    Default,
    None,
    Host,
}

/// The value of `RUN --security`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the values of the flag")]
pub enum Security {
    #[default]
    Sandbox,
    Insecure,
}

/// The value of `RUN --device`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The name of the device, such as `vendor.com/class=name`.
    pub name: String,
    /// Whether the build must fail without it.
    pub required: bool,
}

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it, quotes removed.
    pub name: String,
    /// The lines of the body with their line ends, as they were written.
    pub content: String,
    /// Whether variables in the body are to be expanded: no part of the name is quoted.
    pub expand: bool,
    /// Whether leading tabs of each line are to be removed: `<<-`. See [`Heredoc::chomped`].
    pub chomp: bool,
    /// The number before the operator, 0 where there is none.
    pub file_descriptor: u64,
    /// The body.
    pub span: Span,
}

impl Heredoc {
    /// The body as it is meant: without leading tabs if the operator is `<<-`.
    pub fn chomped(&self) -> String {
        if self.chomp { without_tabs(&self.content) } else { self.content.clone() }
    }
}

/// The lines without the tabs they begin with.
pub(crate) fn without_tabs(content: &str) -> String {
    content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// A file whose content is in the Dockerfile: a here-document as a source of `COPY` or `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineFile {
    /// Its name.
    pub name: String,
    /// Its content, unexpanded; leading tabs are gone if the operator is `<<-`. Files of one name share it.
    pub content: Arc<str>,
    /// Whether variables in the content are to be expanded, with `\` as the escape character in every file.
    pub expand: bool,
    /// The operator and name in the list of sources.
    pub span: Span,
}

/// `COPY`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The sources that are paths, unexpanded. They are copied before [`files`](Self::files).
    pub sources: Vec<Word>,
    /// The sources that are here-documents.
    pub files: Vec<InlineFile>,
    /// Where to, unexpanded.
    pub destination: Word,
    /// `--from`
    pub from: Option<Word>,
    /// `--chown`, unexpanded.
    pub chown: Option<Word>,
    /// `--chmod`, unexpanded.
    pub chmod: Option<Word>,
    /// `--link`
    pub link: Option<Spanned<bool>>,
    /// `--parents`
    pub parents: Option<Spanned<bool>>,
    /// `--exclude`, never expanded.
    pub exclude: Vec<Word>,
}

/// `ADD`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// The sources that are paths or addresses, unexpanded. They are copied before [`files`](Self::files).
    pub sources: Vec<Word>,
    /// The sources that are here-documents.
    pub files: Vec<InlineFile>,
    /// Where to, unexpanded.
    pub destination: Word,
    /// `--chown`, unexpanded.
    pub chown: Option<Word>,
    /// `--chmod`, unexpanded.
    pub chmod: Option<Word>,
    /// `--link`
    pub link: Option<Spanned<bool>>,
    /// `--keep-git-dir`
    pub keep_git_dir: Option<Spanned<bool>>,
    /// `--checksum`, unexpanded.
    pub checksum: Option<Word>,
    /// `--unpack`
    pub unpack: Option<Spanned<bool>>,
    /// `--exclude`, never expanded.
    pub exclude: Vec<Word>,
}

/// A `key=value` of `ENV` or `LABEL`, both unexpanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// What is before the first `=`. Never empty.
    pub key: Word,
    /// What is after it.
    pub value: Word,
    /// Whether it was written as `ENV key value`.
    pub legacy: bool,
}

/// `ENV`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Env {
    /// In the order of the text.
    pub pairs: Vec<KeyValue>,
}

/// `LABEL`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// In the order of the text.
    pub pairs: Vec<KeyValue>,
}

/// `ARG`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// In the order of the text. Never empty.
    pub args: Vec<ArgItem>,
}

/// One argument of `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgItem {
    /// Its name, unexpanded.
    pub key: Word,
    /// What is after the first `=`, unexpanded; `None` without a `=`.
    pub default: Option<Word>,
}

/// `CMD`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cmd {
    /// The command.
    pub command: Command,
}

/// `ENTRYPOINT`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrypoint {
    /// The command.
    pub command: Command,
}

/// `EXPOSE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expose {
    /// The ports, unexpanded, in ascending order of their bytes: BuildKit sorts before it expands.
    pub ports: Vec<Word>,
}

/// `VOLUME`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The paths, unexpanded, blanks at both ends removed.
    pub paths: Vec<Word>,
}

/// `USER`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The rest of the line, unexpanded.
    pub user: Word,
}

/// `WORKDIR`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workdir {
    /// The rest of the line, unexpanded.
    pub path: Word,
}

/// `STOPSIGNAL`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopSignal {
    /// The rest of the line, unexpanded; whether it is a signal is known after expansion only.
    pub signal: Word,
}

/// `SHELL`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shell {
    /// The program and its arguments. Never empty.
    pub argv: Vec<String>,
}

/// `MAINTAINER`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintainer {
    /// The rest of the line.
    pub name: Word,
}

/// `HEALTHCHECK`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`: turns off the check of the base image.
    Disabled,
    /// `HEALTHCHECK CMD …`
    Check {
        /// The command; never empty.
        command: Command,
        /// `--interval`; zero stands for "not given" in all four durations, as it does in an image config.
        interval: Duration,
        /// `--timeout`
        timeout: Duration,
        /// `--start-period`
        start_period: Duration,
        /// `--start-interval`
        start_interval: Duration,
        /// `--retries`; zero stands for "not given".
        retries: u32,
    },
}

/// `ONBUILD`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnBuild {
    /// The trigger as it is stored in an image config: the text behind `ONBUILD`, continuations joined, bodies of
    /// here-documents behind it.
    pub text: String,
    /// What the trigger means once it fires, with spans in this file.
    ///
    /// An error here is none yet: BuildKit stores any text whose words it can split, and fails when a build
    /// starts from the image. [`Dockerfile::warnings`] says so.
    pub trigger: Result<Box<Instruction>, Vec<Diagnostic>>,
}
