//! The values of the inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::io;
use std::path::Path;

use crate::dotenv;
use crate::flags::{FLAGS, Flag, Kind, WITHOUT_EFFECT};
use crate::name::Name;
use crate::value::{boolean, integer, list, semicolon_list};

/// The files of the place where the step runs.
pub trait Files {
    /// Reads a small file; a relative path is from the working directory.
    ///
    /// # Errors
    ///
    /// As [`std::fs::read`].
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Whether there is something at `path`.
    fn exists(&self, path: &Path) -> bool;

    /// The working directory.
    fn directory(&self) -> &Path;
}

/// The step cannot be done as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PluginError {
    message: String,
    hint: Option<&'static str>,
}

impl PluginError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(crate) fn with_hint(message: impl Into<String>, hint: &'static str) -> Self {
        Self { message: message.into(), hint: Some(hint) }
    }

    /// What the user can do about it, if there is something they can do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        self.hint
    }
}

/// What is asked of the program instead of doing the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// `--print-argv`: the command line, as a JSON array.
    Argv,
    /// `--print-config`: the text of the config that the original would write, as far as no cloud must be asked for it.
    Config,
    /// `--help`.
    Help,
    /// `--version`.
    Version,
}

/// The values of all inputs of a step.
#[derive(Clone)]
pub struct Settings {
    pub(crate) name: Name,
    values: BTreeMap<&'static str, Value>,
    variables: BTreeMap<String, String>,
    question: Option<Question>,
}

#[derive(Clone)]
enum Value {
    Text(String),
    Boolean(bool),
    Integer(i64),
    List(Vec<String>),
}

/// Without the values: some are secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given: Vec<&&str> = self.values.keys().collect();
        f.debug_struct("Settings")
            .field("name", &self.name)
            .field("given", &given)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads the environment, the file that `PLUGIN_ENV_FILE` names, and the command line without the program's name, which
    /// wins over both.
    ///
    /// # Errors
    ///
    /// Fails at the first value that is none of its kind, at a flag that is unknown, and if the file cannot be read.
    pub fn read(
        name: Name,
        variables: &BTreeMap<String, String>,
        arguments: &[String],
        files: &dyn Files,
    ) -> Result<Self, PluginError> {
        let mut variables = variables.clone();
        if let Some(file) = variables.get("PLUGIN_ENV_FILE").filter(|file| !file.is_empty()) {
            let text = files
                .read(Path::new(file))
                .map_err(|error| PluginError::new(format!("open {file}: {}", reason(&error))))?;
            for (key, value) in
                dotenv::parse(&String::from_utf8_lossy(&text), &variables).map_err(|why| {
                    PluginError::new(format!(
                        "cannot use the file {file} of PLUGIN_ENV_FILE: {why}"
                    ))
                })?
            {
                variables.entry(key).or_insert(value);
            }
        }
        let mut settings = Self { name, values: BTreeMap::new(), variables, question: None };
        for flag in FLAGS.iter().filter(|flag| flag.is_of(name)) {
            if let Some(text) = settings.given(flag, files) {
                let value = parse(flag, &text)?;
                settings.values.insert(flag.name, value);
            }
        }
        settings.read_arguments(arguments)?;
        Ok(settings)
    }

    /// What is asked instead of doing the step.
    #[must_use]
    pub fn question(&self) -> Option<Question> {
        self.question
    }

    /// The text of `--help`.
    #[must_use]
    pub fn help(name: Name) -> String {
        let mut text = format!(
            "{} builds and pushes an image as the Harness and Drone step of this name does.\n\nUsage: {} [FLAG…]\n\n\
             Each flag takes its value from the first of its variables that is set, if it is not on the command line:\n\n",
            name.file(),
            name.file()
        );
        for flag in FLAGS.iter().filter(|flag| flag.is_of(name)) {
            let value = match flag.kind {
                Kind::Text => " TEXT",
                Kind::Boolean => "",
                Kind::Integer => " NUMBER",
                Kind::List => " A,B",
                Kind::SemicolonList => " 'A;B'",
            };
            let default = match flag.default {
                "" => String::new(),
                default => format!(" [default: {default}]"),
            };
            let _written = writeln!(
                text,
                "  --{}{value}\n          {}{default} [{}]",
                flag.name,
                flag.about,
                flag.variables.replace(',', ", ")
            );
        }
        text.push_str(
            "  --print-argv\n          print the executor's command line as a JSON array and do nothing\n  \
             --print-config\n          print the config.json that would be in force and do nothing\n  \
             --help\n  --version\n",
        );
        text
    }

    fn given(&self, flag: &Flag, files: &dyn Files) -> Option<String> {
        let from_variable =
            flag.variables.split(',').find_map(|variable| self.variables.get(variable)).cloned();
        // The only input with a file.
        from_variable.or_else(|| {
            let text = (flag.name == "tags").then(|| files.read(Path::new(".tags")).ok())??;
            String::from_utf8(text).ok()
        })
    }

    /// Go's `flag` package: `-name` and `--name` are the same, a boolean takes a value only after an equals sign, and a list
    /// that is given again grows.
    fn read_arguments(&mut self, arguments: &[String]) -> Result<(), PluginError> {
        let mut lists: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        let mut rest = arguments.iter();
        while let Some(word) = rest.next() {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                return Err(unknown(word));
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let question = match name {
                "print-argv" => Some(Question::Argv),
                "print-config" => Some(Question::Config),
                "help" | "h" => Some(Question::Help),
                "version" | "v" => Some(Question::Version),
                _ => None,
            };
            if question.is_some() && value.is_none() {
                self.question = question;
                continue;
            }
            let known = FLAGS.iter().find(|flag| flag.name == name && flag.is_of(self.name));
            let flag = known.ok_or_else(|| unknown(word))?;
            let text = match (value, flag.kind) {
                (Some(value), _) => value,
                (None, Kind::Boolean) => "true".to_owned(),
                (None, _) => rest.next().cloned().ok_or_else(|| {
                    PluginError::new(format!("flag needs an argument: -{}", flag.name))
                })?,
            };
            match flag.kind {
                Kind::List => lists.entry(flag.name).or_default().push(text),
                _ => drop(self.values.insert(flag.name, parse(flag, &text)?)),
            }
        }
        self.values.extend(lists.into_iter().map(|(name, list)| (name, Value::List(list))));
        Ok(())
    }

    /// The text of an input. All of these return the value of nothing for an input that this step does not have.
    pub(crate) fn text(&self, name: &str) -> &str {
        match self.values.get(name) {
            Some(Value::Text(text)) => text,
            _ => self.default(name),
        }
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        matches!(self.values.get(name), Some(Value::Boolean(true)))
    }

    /// A boolean for which it matters whether it was given.
    pub(crate) fn choice(&self, name: &str) -> Option<bool> {
        match self.values.get(name) {
            Some(Value::Boolean(value)) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn number(&self, name: &str) -> i64 {
        match self.values.get(name) {
            Some(Value::Integer(number)) => *number,
            _ => 0,
        }
    }

    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        match self.values.get(name) {
            Some(Value::List(list)) => list.clone(),
            _ => match self.default(name) {
                "" => Vec::new(),
                default => list(default),
            },
        }
    }

    /// The elements of a list that are something.
    pub(crate) fn elements(&self, name: &str) -> impl Iterator<Item = String> {
        let element = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        self.list(name).into_iter().filter_map(element)
    }

    fn default(&self, name: &str) -> &'static str {
        let flag = FLAGS.iter().find(|flag| flag.name == name && flag.is_of(self.name));
        flag.map_or("", |flag| flag.default)
    }

    /// A variable of the environment, also one that is no input.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Every variable, with those of the file that `PLUGIN_ENV_FILE` names.
    #[must_use]
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// One line for each variable that looks like an input and changes nothing.
    pub(crate) fn ignored(&self) -> Vec<String> {
        let known: BTreeSet<&str> = FLAGS
            .iter()
            .filter(|flag| flag.is_of(self.name))
            .flat_map(|flag| flag.variables.split(','))
            .chain(["PLUGIN_ENV_FILE"])
            .collect();
        let unknown = self
            .variables
            .keys()
            .filter(|name| name.starts_with("PLUGIN_") && !known.contains(name.as_str()));
        unknown
            .map(|name| match WITHOUT_EFFECT.iter().find(|(known, _)| known == name) {
                Some((_, why)) => format!("{name} is ignored: {why}"),
                None => format!("{name} is ignored: {} knows no such variable", self.name.file()),
            })
            .collect()
    }
}

fn unknown(word: &str) -> PluginError {
    PluginError::with_hint(
        format!("flag provided but not defined: {word}"),
        "the flag `--help` lists what there is",
    )
}

fn parse(flag: &Flag, text: &str) -> Result<Value, PluginError> {
    let wrong = |kind: &str, why: String| {
        PluginError::new(format!(
            "could not parse {text} as {kind} value for flag {}: {why}",
            flag.name
        ))
    };
    Ok(match flag.kind {
        Kind::Text => Value::Text(text.to_owned()),
        Kind::Boolean if text.is_empty() => Value::Boolean(false),
        Kind::Boolean => Value::Boolean(boolean(text).map_err(|why| wrong("bool", why))?),
        Kind::Integer => Value::Integer(integer(text).map_err(|why| wrong("int", why))?),
        Kind::List => Value::List(list(text)),
        Kind::SemicolonList => Value::List(semicolon_list(text)),
    })
}

/// What Go says of an error of the system.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}
