//! What the program does besides building.

mod completion;
mod index;
mod push;
pub(crate) mod warmer;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use clap::{Parser as _, Subcommand};
use ebiko_oci::{ImageTree, Reference};
use ebiko_registry::Registry;
use ebiko_transport::Transport;

use crate::cli::Cli;
use crate::credentials::Asking;
use crate::digest_files::{self, DigestFiles};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::flags::{MessageFlags, PublishFlags, RegistryFlags};
use crate::login::Login;
use crate::report::Reporter;
use crate::{credentials, network, signals};

use self::warmer::WarmerCli;

/// What the executor does if it is told to instead of a build.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Push an image that is in a file or a directory
    Push(push::PushFlags),

    Login(Login),

    /// Make indexes, by which one name stands for images for several platforms
    #[command(subcommand)]
    Index(index::IndexCommand),

    /// Print which program this is
    Version,

    /// Print a script with which a shell completes flags, such as `source <(executor completion bash)`
    Completion {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: completion::Shell,
    },
}

impl Command {
    fn messages(&self) -> &MessageFlags {
        match self {
            Self::Push(flags) => &flags.publish.messages,
            Self::Login(login) => &login.messages,
            Self::Index(index::IndexCommand::Create(flags)) => &flags.publish.messages,
            Self::Version | Self::Completion { .. } => const { &MessageFlags::PLAIN },
        }
    }

    /// Does it. The answer is the exit status.
    pub(crate) fn run(
        &self,
        environment: &Environment,
        reporter: &Arc<Reporter>,
    ) -> Result<u8, Failure> {
        match self {
            Self::Push(flags) => push::run(flags, environment, reporter),
            Self::Login(login) => {
                login.run(environment, std::io::stdin().lock(), reporter)?;
                Ok(0)
            }
            Self::Index(index::IndexCommand::Create(flags)) => {
                index::create(flags, environment, reporter)
            }
            Self::Completion { shell } => {
                // As below.
                drop(std::io::stdout().lock().write_all(shell.script().as_bytes()));
                Ok(0)
            }
            Self::Version => {
                // The first line is kaniko's, by which front ends find it.
                let version = env!("CARGO_PKG_VERSION");
                let text = format!("Kaniko version :  v{version}\nebiko {version}\n");
                // Whoever closed our standard output does not want to see more of it.
                drop(std::io::stdout().lock().write_all(text.as_bytes()));
                Ok(0)
            }
        }
    }
}

/// Which of the programs in this file is meant: the name by which it was started says so.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of them")]
pub(crate) enum Program {
    Executor(Cli),
    Warmer(WarmerCli),
}

impl Program {
    /// Reads the command line. `--help` and `--version` come back as errors that are no failures.
    pub(crate) fn read(arguments: impl Iterator<Item = OsString>) -> Result<Self, clap::Error> {
        let arguments: Vec<OsString> = arguments.collect();
        let name = arguments.first().and_then(|first| Path::new(first).file_name());
        if name.is_some_and(|name| name == "warmer") {
            return WarmerCli::try_parse_from(arguments).map(Self::Warmer);
        }
        Cli::read(arguments.into_iter()).map(Self::Executor)
    }

    pub(crate) fn messages(&self) -> &MessageFlags {
        match self {
            Self::Executor(Cli { command: Some(command), .. }) => command.messages(),
            Self::Executor(cli) => &cli.messages,
            Self::Warmer(flags) => &flags.messages,
        }
    }

    /// How the executor reaches registries.
    pub(crate) fn registry(&self) -> Option<&RegistryFlags> {
        match self {
            Self::Executor(Cli { command: Some(Command::Push(flags)), .. }) => {
                Some(&flags.publish.registry)
            }
            Self::Executor(cli) => Some(&cli.registry),
            Self::Warmer(_) => None,
        }
    }
}

/// What is pushed by a command that leaves nothing behind if it is ended early.
struct Publication {
    destinations: Vec<Reference>,
    digests: DigestFiles,
    registry: Registry,
    network: Transport,
}

impl Publication {
    /// Asks the destinations whether they may be pushed to, unless the flags say otherwise.
    fn begin(
        flags: &PublishFlags,
        environment: &Environment,
        reporter: &Arc<Reporter>,
    ) -> anyhow::Result<Self> {
        let destinations = digest_files::destinations(&flags.destinations, reporter)?;
        let digests = DigestFiles::plan(&flags.digests, environment)?;
        signals::end_at_first()?;
        let network = network::transport(&flags.registry, environment, reporter)?;
        credentials::prepare_repository(environment, &network)?;
        let registry = network::registry(
            &flags.registry,
            environment,
            network.clone(),
            Asking::Later,
            &destinations,
            reporter,
        )?;
        if !flags.registry.skip_push_permission_check {
            registry.check_push(&destinations)?;
        }
        Ok(Self { destinations, digests, registry, network })
    }

    /// Writes the digest files and pushes, in this order.
    fn finish(&self, tree: &ImageTree, reporter: &Reporter) -> anyhow::Result<()> {
        let digest = tree.root.digest;
        self.digests.write(digest, &self.destinations, &self.network, reporter)?;
        self.registry.push_tree(tree, &self.destinations, reporter)?;
        self.digests.pushed(digest, &self.destinations, reporter)
    }
}

/// A mistake in the flags that their parser cannot see, said as it says its own.
fn usage<C: clap::CommandFactory>(text: &str) -> anyhow::Error {
    anyhow::anyhow!("{text}; see `{} --help`", C::command().get_name())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn read(arguments: &[&str]) -> Result<Program, String> {
        Program::read(arguments.iter().map(Into::into)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_flags_of_the_warmer_are_consistent() {
        WarmerCli::command().debug_assert();
    }

    #[test]
    fn the_name_of_the_file_decides() {
        for (name, is_warmer) in [
            ("/kaniko/executor", false),
            ("/kaniko/warmer", true),
            ("warmer", true),
            ("ebiko", false),
        ] {
            let image = if is_warmer { "--image=a" } else { "--no-push" };
            let program = read(&[name, image]).unwrap();
            assert_eq!(matches!(program, Program::Warmer(_)), is_warmer, "{name}");
        }
        assert!(read(&["/warmer/executor", "--image=a"]).is_err(), "the directory does not count");
    }

    #[test]
    fn a_build_needs_no_command_and_a_stray_word_is_an_error() {
        assert!(matches!(read(&["executor"]), Ok(Program::Executor(Cli { command: None, .. }))));
        for words in [&["build"][..], &["--no-push", "true"], &["--no-push", "push", "x", "-d=a"]] {
            let arguments = [&["executor"], words].concat();
            assert!(read(&arguments).is_err(), "{arguments:?}");
        }
        let error = read(&["executor", "pusch", "x"]).unwrap_err();
        assert!(error.contains("pusch"), "{error}");
    }

    #[test]
    fn commands_have_flags_of_their_own() {
        let flags =
            ["executor", "push", "image.tar", "-d=a", "-d", "b,c", "--insecure", "-v=debug"];
        let Ok(Program::Executor(Cli { command: Some(Command::Push(push)), .. })) = read(&flags)
        else {
            panic!("it is a push")
        };
        assert_eq!(push.publish.destinations, ["a", "b,c"]);
        assert!(push.publish.registry.insecure);
        for wrong in [
            &["push", "-d=a"][..],
            &["push", "x"],
            &["push", "x", "y", "-d=a"],
            &["push", "x", "-d=a", "--context=."],
            &["index"],
            &["index", "create", "-d=a"],
            &["index", "create", "x"],
        ] {
            assert!(read(&[&["executor"], wrong].concat()).is_err(), "{wrong:?}");
        }
        let create = ["executor", "index", "create", "-d=a", "x", "y", "--digest-file=z"];
        assert!(read(&create).is_ok());
    }

    /// Whether a program of this name knows these flags.
    fn understood(words: Vec<OsString>) -> Result<(), String> {
        match crate::plugin::name(&words) {
            Some(name) => crate::plugin::understood(name, &words),
            None => Program::read(words.into_iter()).map(drop).map_err(|error| error.to_string()),
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "reads the documentation on the host")]
    fn every_command_of_the_guides_is_understood() {
        let guides = testkit::workspace_dir().join("docs/guide");
        let mut count = 0;
        for entry in std::fs::read_dir(guides).unwrap() {
            let path = entry.unwrap().path();
            // Files that a page is about are in a directory beside it.
            if path.is_dir() {
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            // A command may go on in the next line.
            let text = text.replace("\\\n", " ");
            for line in text.lines() {
                let Some(command) =
                    line.strip_prefix("$ ").filter(|line| line.starts_with("/kaniko/"))
                else {
                    continue;
                };
                let command = command.split(['<', '#']).next().unwrap_or_default();
                let words = command.split_whitespace().map(|word| word.trim_matches('\''));
                let words: Vec<&str> = words.filter(|word| *word != "…").collect();
                let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
                if let Err(error) = understood(words) {
                    panic!("{line}\n{error}");
                }
                count += 1;
            }
        }
        assert!(count > 5, "{count}");
    }
}
