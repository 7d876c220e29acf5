//! `executor login`: writes a user and a password for a registry into the Docker config.

#![expect(clippy::disallowed_methods, reason = "the machine's own config, where no root is")]

use std::fs::DirBuilder;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ebiko_registry::log_in;

use crate::cli::Verbosity;
use crate::credentials::{docker_config, read_file};
use crate::environment::Environment;
use crate::flags::MessageFlags;
use crate::report::Reporter;

/// A password is a line.
const PASSWORD_LIMIT: u64 = 1 << 20;

/// Write a user and a password for a registry into $DOCKER_CONFIG/config.json
///
/// The registry is not asked whether they are right.
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "the comments are the text of `--help`")]
pub(crate) struct Login {
    /// The registry, perhaps with a path: the login is then for the repositories below it
    #[arg(value_name = "REGISTRY")]
    registry: String,

    /// The user
    #[arg(short = 'u', long, value_name = "USER")]
    username: String,

    /// The password; other processes can see it on the command line
    #[arg(
        short = 'p',
        long,
        value_name = "PASSWORD",
        required_unless_present = "password_stdin",
        conflicts_with = "password_stdin"
    )]
    password: Option<String>,

    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,

    #[command(flatten)]
    pub(crate) messages: MessageFlags,
}

/// Without the password.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("registry", &self.registry)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Login {
    /// Writes the login down.
    pub(crate) fn run(
        &self,
        environment: &Environment,
        input: impl Read,
        reporter: &Reporter,
    ) -> anyhow::Result<()> {
        let password = self.read_password(input)?;
        let Some(file) = docker_config(environment) else {
            bail!("there is no place for the login: neither DOCKER_CONFIG nor HOME is set");
        };
        let failed = || format!("cannot write the login into `{}`", file.display());
        let before = match read_file(&file) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(failed),
        };
        let after = log_in(before.as_deref(), &self.registry, &self.username, &password)
            .with_context(failed)?;
        write(&file, after.as_bytes()).with_context(failed)?;
        reporter.say(
            Verbosity::Info,
            format!("the login of `{}` is in `{}`", self.registry, file.display()),
        );
        Ok(())
    }

    fn read_password(&self, input: impl Read) -> anyhow::Result<String> {
        let password = if let Some(password) = &self.password {
            password.clone()
        } else {
            let mut text = String::new();
            input
                .take(PASSWORD_LIMIT)
                .read_to_string(&mut text)
                .context("cannot read the password from standard input")?;
            // `echo` adds one line end, on Windows of two characters.
            let line = text.strip_suffix('\n').unwrap_or(&text);
            line.strip_suffix('\r').unwrap_or(line).to_owned()
        };
        if password.trim().is_empty() || self.username.is_empty() {
            bail!("the user and the password must not be empty");
        }
        Ok(password)
    }
}

/// Replaces `file` at once, for this user only. A link stays one.
fn write(file: &Path, text: &[u8]) -> io::Result<()> {
    let file: PathBuf = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let directory = file.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // It is made with mode 0600.
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    temporary.write_all(text)?;
    temporary.as_file().sync_all()?;
    temporary.persist(&file).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::cli::Cli;
    use crate::commands::Command;

    /// Logs in with these arguments and this input; the config, or the error.
    fn check(directory: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
        let arguments = ["executor", "login"].iter().chain(arguments).map(Into::into);
        let cli = Cli::read(arguments).map_err(|error| error.to_string())?;
        let Some(Command::Login(login)) = cli.command else { return Err("no login".into()) };
        let environment = Environment::of([("DOCKER_CONFIG", directory.to_str().unwrap())]);
        let reporter = Reporter::new(
            &MessageFlags { verbosity: Verbosity::Panic, ..MessageFlags::PLAIN },
            &environment,
        );
        login
            .run(&environment, input.as_bytes(), &reporter)
            .map_err(|error| format!("{error:#}"))?;
        let text = std::fs::read_to_string(directory.join("config.json")).unwrap();
        Ok(text.split_whitespace().collect())
    }

    #[test]
    fn a_login_makes_a_config_that_only_its_user_can_read() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("new/.docker");
        let config = check(&directory, &["r.io", "-u", "u", "--password-stdin"], "p:w\r\n");
        assert_eq!(config.as_deref(), Ok(r#"{"auths":{"r.io":{"auth":"dTpwOnc="}}}"#));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join("config.json"))), (0o700, 0o600));
        let config = check(&directory, &["docker.io", "--username=u", "-p", "p:w"], "");
        assert_eq!(
            config.as_deref(),
            Ok(
                r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpwOnc="},"r.io":{"auth":"dTpwOnc="}}}"#
            )
        );
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "nothing else is left there");
    }

    #[test]
    fn a_config_that_is_a_link_stays_one() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real.json");
        std::fs::write(&real, r#"{"a":1}"#).unwrap();
        let link = directory.path().join("config.json");
        std::os::unix::fs::symlink("real.json", &link).unwrap();
        check(directory.path(), &["r.io", "-u", "u", "-p", "p"], "").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(std::fs::read_to_string(real).unwrap().contains(r#""a": 1"#));
    }

    #[test]
    fn the_commands_of_the_guide_do_what_they_say() {
        let guide = testkit::workspace_dir().join("docs/guide/credentials.md");
        let guide = std::fs::read_to_string(guide).unwrap();
        let commands =
            guide.lines().filter_map(|line| line.strip_prefix("$ /kaniko/executor login "));
        let directory = tempfile::tempdir().unwrap();
        let mut config = String::new();
        for command in commands {
            let (arguments, _) = command.split_once(" < ").unwrap();
            let arguments: Vec<&str> = arguments.split(' ').collect();
            config = check(directory.path(), &arguments, "token\n").unwrap();
        }
        let auth = r#"{"auth":"bWU6dG9rZW4="}"#;
        assert_eq!(
            config,
            format!(r#"{{"auths":{{"ghcr.io":{auth},"registry.example/team":{auth}}}}}"#)
        );
    }

    #[test]
    fn a_login_without_a_password_or_into_no_config_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let login = |arguments: &[&str], input: &str| {
            check(directory.path(), arguments, input).unwrap_err()
        };
        let empty = "the user and the password must not be empty";
        assert_eq!(login(&["r.io", "-u", "u", "--password-stdin"], " \n"), empty);
        assert_eq!(login(&["r.io", "-u", "", "-p", "p"], ""), empty);
        assert!(login(&["r.io", "-u", "u"], "").contains("--password"));
        assert!(
            login(&["r.io", "-u", "u", "-p", "p", "--password-stdin"], "")
                .contains("cannot be used")
        );
        assert!(login(&["r.io", "-p", "p"], "").contains("--username"));
        assert!(login(&["-u", "u", "-p", "p"], "").contains("REGISTRY"));
        std::fs::write(directory.path().join("config.json"), "s3cret").unwrap();
        let error = login(&["r.io", "-u", "u", "-p", "s3cret"], "");
        assert!(error.contains("is not a JSON object") && !error.contains("s3cret"), "{error}");
    }
}
