//! Programs that know credentials: `docker-credential-NAME`.
//!
//! The protocol: `get` is the argument, the registry is standard input, and the answer is JSON on standard output, or a
//! message there and a status that is not 0. This crate starts no process; [`CredentialPrograms`] does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use serde::Deserialize;

use super::Credential;
use super::config::{Config, Content, Scope};
use crate::registry::lock;

/// What all programs say that have nothing; some add words around it.
const NOT_FOUND: &str = "credentials not found";

/// How many programs run at the same time. Some are large, and a pod is small.
const AT_ONCE: usize = 4;

/// How much of a program's message is shown.
const SHOWN: usize = 200;

/// Runs programs that know credentials.
pub trait CredentialPrograms: Send + Sync {
    /// Runs `docker-credential-NAME get` with `server` as its standard input.
    ///
    /// `name` holds letters, digits, `.`, `_` and `-` only.
    fn run(&self, name: &str, server: &str) -> ProgramOutcome;
}

/// What became of a program.
#[derive(Clone, PartialEq, Eq)]
pub enum ProgramOutcome {
    /// There is no such program.
    Missing,
    /// It could not be run, or did not end.
    Failed {
        /// Why.
        reason: String,
    },
    /// It ended.
    Ended {
        /// Whether its status was 0.
        is_success: bool,
        /// What it wrote.
        stdout: Vec<u8>,
    },
}

/// Without what it wrote, which is a secret.
impl fmt::Debug for ProgramOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("Missing"),
            Self::Failed { reason } => f.debug_struct("Failed").field("reason", reason).finish(),
            Self::Ended { is_success, stdout } => f
                .debug_struct("Ended")
                .field("is_success", is_success)
                .field("stdout", &format_args!("{} bytes", stdout.len()))
                .finish(),
        }
    }
}

/// Why a program gave nothing, as what follows its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    Missing,
    Nothing,
    Failed(String),
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is neither in PATH nor beside the executor"),
            Self::Nothing => f.write_str("has none"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

/// Programs, and what they have said.
#[derive(Default)]
pub(super) struct Programs {
    /// Where there is none, nobody is asked any more.
    port: Option<Arc<dyn CredentialPrograms>>,
    answers: Mutex<Answers>,
}

/// By name and registry.
type Answers = BTreeMap<(String, String), Result<Credential, Silence>>;

/// What a program has said, and whether that is news.
pub(super) struct Said {
    pub(super) answer: Result<Credential, Silence>,
    pub(super) is_news: bool,
}

impl Programs {
    /// To be asked when their answers are needed.
    pub(super) fn later(port: Arc<dyn CredentialPrograms>) -> Self {
        Self { port: Some(port), answers: Mutex::default() }
    }

    /// Asks all that `configs` name, several at a time, since one may well take a second; and says which failed.
    pub(super) fn now(
        port: &dyn CredentialPrograms,
        configs: &[Config],
        registries: &[String],
    ) -> (Self, Vec<String>) {
        let questions = questions(configs, registries);
        let threads = questions.len().min(AT_ONCE);
        let questions = Mutex::new(questions.into_iter());
        let answers = Mutex::new(Answers::new());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let Some(question) = lock(&questions).next() else { return };
                        let answer = ask(port, &question.0, &question.1);
                        lock(&answers).insert(question, answer);
                    }
                });
            }
        });
        let failures = lock(&answers)
            .iter()
            .filter_map(|((name, server), answer)| match answer {
                Err(Silence::Failed(reason)) => Some(failure(name, server, reason)),
                _ => None,
            })
            .collect();
        (Self { port: None, answers }, failures)
    }

    /// What the program `name` says about `server`, `None` if it was not asked and cannot be any more.
    pub(super) fn get(&self, name: &str, server: &str) -> Option<Said> {
        let key = (name.to_owned(), server.to_owned());
        // Held while a program runs: one at a time, and nobody is asked twice.
        let mut answers = lock(&self.answers);
        if let Some(answer) = answers.get(&key) {
            return Some(Said { answer: answer.clone(), is_news: false });
        }
        let answer = ask(&**self.port.as_ref()?, name, server);
        answers.insert(key, answer.clone());
        Some(Said { answer, is_news: true })
    }
}

/// All that can be asked: programs for their registries; stores for `registries`, and for those with an empty entry, which
/// is what `docker login` leaves there.
fn questions(configs: &[Config], registries: &[String]) -> BTreeSet<(String, String)> {
    let mut questions: BTreeSet<(String, String)> = BTreeSet::new();
    for config in configs {
        let own = config.programs.iter();
        questions.extend(own.map(|program| (program.name.clone(), program.scope.server())));
        let Some(store) = &config.store else { continue };
        let empty = config.entries.iter().filter(|entry| matches!(entry.content, Content::Nothing));
        let servers = registries.iter().map(|registry| Scope::parse(registry).server());
        let servers = servers.chain(empty.map(|entry| entry.key.clone()));
        questions.extend(servers.map(|server| (store.clone(), server)));
    }
    questions
}

/// The line that tells of a failure.
pub(super) fn failure(name: &str, server: &str, reason: &str) -> String {
    format!("`docker-credential-{name}` has no credentials for `{server}`: it {reason}")
}

fn ask(programs: &dyn CredentialPrograms, name: &str, server: &str) -> Result<Credential, Silence> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !name.bytes().all(is_plain) {
        return Err(Silence::Failed("has no name that a program may have".into()));
    }
    match programs.run(name, server) {
        ProgramOutcome::Missing => Err(Silence::Missing),
        ProgramOutcome::Failed { reason } => Err(Silence::Failed(reason)),
        ProgramOutcome::Ended { is_success: true, stdout } => read(&stdout),
        ProgramOutcome::Ended { is_success: false, stdout } => Err(refusal(&stdout)),
    }
}

/// What a program answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    username: String,
    secret: String,
}

fn read(stdout: &[u8]) -> Result<Credential, Silence> {
    // The JSON error could quote the secret.
    let Output { username, secret } = serde_json::from_slice(stdout)
        .map_err(|_| Silence::Failed("answers something that is not its JSON".into()))?;
    if secret.is_empty() {
        return Err(Silence::Nothing);
    }
    Ok(Credential::of_pair(username, secret))
}

fn refusal(stdout: &[u8]) -> Silence {
    let text = String::from_utf8_lossy(stdout);
    let line = text.trim().lines().next().unwrap_or_default();
    if text.contains(NOT_FOUND) {
        return Silence::Nothing;
    }
    // Whatever is JSON may be an answer with a secret.
    if line.is_empty() || text.contains(['{', '}']) {
        return Silence::Failed("failed".into());
    }
    let shown = line.chars().filter(|character| !character.is_control()).take(SHOWN);
    Silence::Failed(format!("failed: {}", shown.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scripted(ProgramOutcome);

    impl CredentialPrograms for Scripted {
        fn run(&self, _name: &str, _server: &str) -> ProgramOutcome {
            self.0.clone()
        }
    }

    fn ended(is_success: bool, stdout: &str) -> ProgramOutcome {
        ProgramOutcome::Ended { is_success, stdout: stdout.into() }
    }

    #[track_caller]
    fn check(name: &str, outcome: ProgramOutcome, expected: &str) {
        let actual = match ask(&Scripted(outcome), name, "r.io") {
            Ok(Credential::Basic { user, password }) => format!("{user}:{}", password.reveal()),
            Ok(Credential::Identity { token }) => format!("identity {}", token.reveal()),
            Ok(Credential::Bearer { .. }) => "bearer".into(),
            Err(silence) => format!("it {silence}"),
        };
        assert_eq!(actual, expected);
    }

    #[test]
    fn an_answer_is_a_pair_or_a_refresh_token() {
        let answer = r#"{"ServerURL":"r.io","Username":"u","Secret":"p"}"#;
        check("pass", ended(true, answer), "u:p");
        let answer = r#"{"ServerURL":"r.io","Username":"<token>","Secret":"t"}"#;
        check("acr-env", ended(true, answer), "identity t");
        check("pass", ended(true, r#"{"Username":"","Secret":""}"#), "it has none");
    }

    #[test]
    fn what_is_no_answer_says_why_without_a_secret() {
        check("pass", ended(false, "credentials not found in native keychain\n"), "it has none");
        check("pass", ended(false, "exit 7\nmore"), "it failed: exit 7");
        check("pass", ended(false, r#"{"Secret":"s3cret"}"#), "it failed");
        check("pass", ended(true, "s3cret"), "it answers something that is not its JSON");
        let reason = "did not end in 30 s".to_owned();
        check("pass", ProgramOutcome::Failed { reason }, "it did not end in 30 s");
        check("pass", ProgramOutcome::Missing, "it is neither in PATH nor beside the executor");
        let print = format!("{:?}", ended(true, "s3cret"));
        assert!(!print.contains("s3cret"), "{print}");
    }

    #[test]
    fn a_name_cannot_leave_the_places_where_programs_are() {
        for name in ["../x", "a/b", "a b", "a\0", "a;b"] {
            let answer = ended(true, r#"{"Username":"u","Secret":"p"}"#);
            check(name, answer, "it has no name that a program may have");
        }
    }
}
