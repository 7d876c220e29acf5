//! Programs that know credentials: `docker-credential-NAME`.
//!
//! The protocol: `get` is the argument, the registry is standard input, and the answer is JSON on standard output, or a
//! message there and a status that is not 0. This crate starts no process; [`CredentialPrograms`] does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;

use super::Credential;
use super::config::{Config, Content, Scope};

/// What all programs say that have nothing; some add words around it.
const NOT_FOUND: &str = "credentials not found";

/// How much of a program's message is shown.
const SHOWN: usize = 200;

/// Runs programs that know credentials.
pub trait CredentialPrograms: Sync {
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

impl Silence {
    pub(super) fn is_missing(&self) -> bool {
        *self == Self::Missing
    }
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

/// What programs have said, by name and registry.
#[derive(Clone, Default)]
pub(super) struct Answers(BTreeMap<(String, String), Result<Credential, Silence>>);

impl Answers {
    /// Asks all that `configs` name, at the same time, since one may well take a second; and says which failed.
    pub(super) fn ask(
        configs: &[Config],
        programs: &dyn CredentialPrograms,
        registries: &[String],
    ) -> (Self, Vec<String>) {
        let mut questions: BTreeSet<(String, String)> = BTreeSet::new();
        for config in configs {
            questions.extend(
                config
                    .programs
                    .iter()
                    .map(|program| (program.name.clone(), program.scope.server())),
            );
            let Some(store) = &config.store else { continue };
            let is_empty = |content: &Content| matches!(content, Content::Nothing);
            let empty = config.entries.iter().filter(|entry| is_empty(&entry.content));
            let servers = registries.iter().map(|registry| Scope::parse(registry).server());
            let servers = servers.chain(empty.map(|entry| entry.key.clone()));
            questions.extend(servers.map(|server| (store.clone(), server)));
        }
        let answers = std::thread::scope(|scope| {
            let threads: Vec<_> = questions
                .into_iter()
                .map(|question| {
                    scope.spawn(move || {
                        let answer = ask(programs, &question.0, &question.1);
                        (question, answer)
                    })
                })
                .collect();
            // A panic in a port is an answer that is not there.
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect::<BTreeMap<_, _>>()
        });
        let failure = |((name, server), answer): (&(String, String), &Result<_, Silence>)| {
            let Err(Silence::Failed(reason)) = answer else { return None };
            Some(format!(
                "`docker-credential-{name}` has no credentials for `{server}`: it {reason}"
            ))
        };
        let failures = answers.iter().filter_map(failure).collect();
        (Self(answers), failures)
    }

    pub(super) fn get(&self, name: &str, server: &str) -> Option<&Result<Credential, Silence>> {
        self.0.get(&(name.to_owned(), server.to_owned()))
    }
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
