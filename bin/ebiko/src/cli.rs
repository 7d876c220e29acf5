//! The flags of `executor`: kaniko's names, types and defaults.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, ValueEnum};

use crate::commands::Command;
use crate::context_flags::ContextFlags;
use crate::flags::{DigestFlags, MessageFlags, RegistryFlags};
use crate::{help, words};

/// Builds a container image from a Dockerfile, inside a container and without a daemon.
///
/// Inside the executor's own container the build takes place on the container's root filesystem;
/// anywhere else it takes place in a private root, and `/` is never touched.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that kaniko has")]
#[expect(clippy::doc_markdown, reason = "the comments are the text of `--help`")]
#[command(
    name = "executor",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    args_override_self = true
)]
pub(crate) struct Cli {
    /// What is done instead of a build
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Old spellings that were used, with the new ones.
    #[arg(skip)]
    pub(crate) spellings: Vec<(&'static str, &'static str)>,

    /// The Dockerfile: a path as given, or below the context, or a URL
    #[arg(short = 'f', long, value_name = "PATH", default_value = "Dockerfile")]
    pub(crate) dockerfile: PathBuf,

    #[command(flatten)]
    pub(crate) place: ContextFlags,

    /// Push the image under this name (repeatable)
    #[arg(short = 'd', long = "destination", value_name = "REGISTRY/REPOSITORY[:TAG]")]
    pub(crate) destinations: Vec<String>,

    /// Set a build argument; without a value it is taken from the environment (repeatable)
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,

    /// Give a name of FROM and --from another meaning: a directory, a URL, a git repository,
    /// docker-image://IMAGE, oci-layout://DIRECTORY or oci-layout://DIRECTORY:TAG (repeatable)
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    pub(crate) build_contexts: Vec<String>,

    /// A secret for RUN --mount=type=secret: a file or an environment variable (repeatable)
    #[arg(long = "secret", value_name = "id=ID[,src=FILE|,env=VARIABLE]")]
    pub(crate) secrets: Vec<String>,

    /// Keys for RUN --mount=type=ssh and repositories over SSH: the agent of SSH_AUTH_SOCK, a socket, or private key files
    /// (repeatable)
    #[arg(long = "ssh", value_name = "default|ID[=SOCKET|KEY[,KEY]]")]
    pub(crate) ssh: Vec<String>,

    /// Allow a RUN what it must ask for: network.host or security.insecure (repeatable)
    #[arg(long = "allow", value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub(crate) allow: Vec<String>,

    /// How many bytes the /dev/shm of a RUN holds, such as 128m
    #[arg(long, value_name = "BYTES")]
    pub(crate) shm_size: Option<String>,

    /// A limit of every RUN, such as nofile=1024:2048; -1 is none (repeatable)
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimits: Vec<String>,

    /// A host that every RUN knows by name (repeatable)
    #[arg(long = "add-host", value_name = "NAME=IP")]
    pub(crate) hosts: Vec<String>,

    /// Where the directories of RUN --mount=type=cache are kept; a volume keeps them between builds
    /// [default: a directory of the builder's own, which goes with the container]
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) cache_run_dir: Option<PathBuf>,

    /// The time of the image: seconds since 1970, or `context`; the same as the build argument
    /// SOURCE_DATE_EPOCH [environment: SOURCE_DATE_EPOCH]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) source_date_epoch: Option<String>,

    /// Make no file of a new layer younger than the time of the image
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) rewrite_timestamp: bool,

    /// Print what would be done, with reasons for what would be left out, and do nothing
    #[arg(long, alias = "dry-run", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) dryrun: bool,

    /// Check the Dockerfile and build nothing; the same as --call=check
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) check: bool,

    /// Answer a question about the Dockerfile and build nothing: check, outline or targets, each
    /// also with ,format=json
    #[arg(long, value_name = "QUESTION[,format=json]", conflicts_with = "check")]
    pub(crate) call: Option<String>,

    /// Build this stage instead of the last one; of several, with commas or repeated, the first is the
    /// image and the others are built, too
    #[arg(long = "target", value_name = "STAGE", value_delimiter = ',')]
    pub(crate) targets: Vec<String>,

    /// Add a label to the image (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<String>,

    /// Annotate the manifest of the image (repeatable); of one key twice the last counts
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub(crate) annotations: Vec<String>,

    /// The media types of the image; layers of the base get others and stay as they are [default:
    /// those of the base, and OCI's without a base]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) image_format: Option<FormatName>,

    /// Do not push the image [environment: KANIKO_NO_PUSH, which wins over the flag]
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) no_push: bool,

    /// Also write the image as a tar that `docker load` reads
    #[arg(long, alias = "tarPath", value_name = "FILE")]
    pub(crate) tar_path: Option<PathBuf>,

    /// Also write the image as an OCI image layout
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) oci_layout_path: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) digests: DigestFlags,

    /// Use layers of earlier builds in the place of steps, and keep new ones
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) cache: bool,

    /// Where layers are kept: a repository, or oci:DIRECTORY [default: `/cache` beneath the first
    /// destination]
    #[arg(long, value_name = "REGISTRY/REPOSITORY|oci:DIRECTORY")]
    pub(crate) cache_repo: Option<String>,

    /// Look for and keep layers of COPY and ADD, too. Without it, whatever copies from a stage needs
    /// the files of that stage
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) cache_copy_layers: bool,

    /// Look for and keep layers of RUN and WORKDIR
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "true", default_missing_value = "true",
          hide_default_value = false, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) cache_run_layers: bool,

    /// How old a layer may be to be used again
    #[arg(long, value_name = "DURATION", default_value = "336h")]
    pub(crate) cache_ttl: String,

    /// Base images that the warmer has left for --cache; only read, and need not be there [default:
    /// /cache]
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Use kept layers, and keep no new ones
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) no_push_cache: bool,

    #[command(flatten)]
    pub(crate) registry: RegistryFlags,

    /// How a change of a file is found: by metadata and content, by metadata, or by time
    #[arg(long, alias = "snapshotMode", value_name = "MODE", default_value = "full")]
    pub(crate) snapshot_mode: SnapshotMode,

    /// Make one layer of the whole stage
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) single_snapshot: bool,

    /// Unpack base images also where no step needs their files, for who looks at them after the build
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) materialize: bool,

    /// Keep this path out of the image; may be a glob pattern (repeatable)
    #[arg(long = "ignore-path", value_name = "PATH")]
    pub(crate) ignore_paths: Vec<String>,

    /// The same as --ignore-path=/var/run [default: what the pod has there stays out, what the image
    /// has there stays in]
    #[arg(long, alias = "whitelist-var-run", action = ArgAction::Set, num_args = 0..=1,
          require_equals = true, default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub(crate) ignore_var_run: Option<bool>,

    /// How new layers are stored; estargz and zstd:chunked are gzip and zstd from which a file can be
    /// fetched alone
    #[arg(long, value_name = "KIND", default_value = "gzip")]
    pub(crate) compression: CompressionKind,

    /// How hard to compress: 1 to 12 for gzip and estargz, 1 to 22 for zstd and zstd:chunked; any
    /// number below 1 is the default
    #[arg(long, value_name = "LEVEL", default_value = "-1", allow_negative_numbers = true)]
    pub(crate) compression_level: i32,

    /// Take 1970 for the time of the image if no other is given, and make no file of a new layer
    /// younger than the time of the image
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) reproducible: bool,

    /// How many members a layer of a base image, an archive of ADD or a context may have
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..),
          default_value = "4000000")]
    pub(crate) layer_max_entries: u64,

    /// How many bytes a layer of a base image, an archive of ADD or a context may unpack to, such as
    /// 512g
    #[arg(long, value_name = "BYTES", default_value = "256g")]
    pub(crate) layer_max_size: String,

    /// How many times its own size a layer of a base image, an archive of ADD or a context may unpack
    /// to, if that is more than 4 GiB
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..),
          default_value = "2000")]
    pub(crate) layer_max_ratio: u64,

    /// Build for this platform instead of the machine's own
    #[arg(long, alias = "customPlatform", value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) custom_platform: Option<String>,

    /// Clear the filesystem after the build and bring back what was there [environment:
    /// KANIKO_CLEANUP]
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub(crate) cleanup: Option<bool>,

    /// Where the builder keeps its files while it builds; must be the directory of the executable, or
    /// a volume for an executable in /kaniko [environment: KANIKO_DIR] [default: /kaniko]
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) kaniko_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) messages: MessageFlags,

    /// Build on the container's own root filesystem although this does not look like a container
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) force: bool,

    /// The same as without it: compressed layers are files, whatever this says
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub(crate) compressed_caching: Option<bool>,

    /// The same as without it: metadata is always recorded
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub(crate) force_build_metadata: Option<bool>,

    /// The same as without it: every build begins with an empty root [environment:
    /// KANIKO_PRE_CLEANUP]
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub(crate) pre_cleanup: Option<bool>,

    /// The same as without it: what was there is kept, and --cleanup brings it back [environment:
    /// KANIKO_PRESERVE_CONTEXT]
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub(crate) preserve_context: Option<bool>,

    /// The same as without it: stages that nobody needs are never built; --target names more
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub(crate) skip_unused_stages: Option<bool>,

    /// The same as without it: there is one way to look at files, and it is the fast one
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) use_new_run: bool,
}

/// `--snapshot-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SnapshotMode {
    /// Metadata, extended attributes and content decide
    Full,
    /// Mode, owner, size and modification time decide
    Redo,
    /// Modification time decides
    Time,
}

/// `--compression`, with BuildKit's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompressionKind {
    /// What everybody reads
    Gzip,
    /// Smaller and faster; needs an image with OCI media types
    Zstd,
    /// As they are
    #[value(alias = "uncompressed")]
    None,
    /// For containerd's stargz snapshotter; needs an image with OCI media types
    Estargz,
    /// For podman and CRI-O; needs an image with OCI media types
    #[value(name = "zstd:chunked")]
    ZstdChunked,
}

/// `--image-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatName {
    /// Docker's, which have no Zstandard
    Docker,
    /// Those of the Open Container Initiative
    Oci,
}

/// `--verbosity`, with logrus' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Verbosity {
    Panic,
    Fatal,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Plain lines
    Text,
    /// Lines with colours
    Color,
    /// One JSON object for each message
    Json,
}

/// Flags that kaniko or buildx has and this program does not have, with the reason. A build that relies on one of them
/// must not go on without it, so they are refused by name and not with "unknown".
const REFUSED: &[(&str, &str)] = &[(
    "--cgroup-parent",
    "the control group of a build is that of its container, and only a daemon can put commands into another one; set \
         limits for the container",
)];

/// The command line of the executor.
pub(crate) fn arranged() -> clap::Command {
    help::arranged(Cli::command())
}

impl Cli {
    /// Reads the command line. `--help` and `--version` come back as errors that are no failures.
    pub(crate) fn read(
        arguments: impl Iterator<Item = std::ffi::OsString>,
    ) -> Result<Self, clap::Error> {
        let command = arranged();
        let arguments = words::without_empty(&command, arguments);
        let spellings = words::deprecated(&arguments);
        command
            .try_get_matches_from(arguments)
            .and_then(|mut matches| Self::from_arg_matches_mut(&mut matches))
            .map(|cli| Self { spellings, ..cli })
            .map_err(refused)
    }
}

/// Says why a known flag is missing rather than that it is unknown, and of a stray word what kaniko says.
fn refused(error: clap::Error) -> clap::Error {
    let kind = error.kind();
    let context = match kind {
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        ErrorKind::InvalidSubcommand | ErrorKind::ArgumentConflict => {
            ContextKind::InvalidSubcommand
        }
        _ => return error,
    };
    let Some(ContextValue::String(given)) = error.get(context) else { return error };
    let text = if given.starts_with('-') {
        let name = given.split('=').next().unwrap_or(given);
        let Some((_, reason)) = REFUSED.iter().find(|(known, _)| *known == name) else {
            return error;
        };
        format!(
            "`{name}` cannot be used: {reason}. The build was not started, so that it cannot go on without it"
        )
    } else if error.get(ContextKind::SuggestedSubcommand).is_some()
        || Cli::command().find_subcommand(given).is_some()
    {
        return error;
    } else {
        // The wording is kaniko's: scripts look for it.
        format!(
            "unknown command \"{given}\" for \"executor\"; a value belongs to its flag with an equals sign"
        )
    };
    Cli::command().error(kind, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Cli, String> {
        let arguments = std::iter::once("executor").chain(arguments.iter().copied());
        Cli::read(arguments.map(Into::into)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_flag_that_is_missing_is_refused_by_name_with_the_reason() {
        for (flag, reason) in REFUSED {
            for argument in [(*flag).to_owned(), format!("{flag}=x")] {
                let error = read(&[&argument]).unwrap_err();
                let expected = format!("`{flag}` cannot be used: {reason}");
                assert!(error.contains(&expected), "{argument}: {error}");
            }
        }
        let error = read(&["--no-such-flag"]).unwrap_err();
        assert!(error.contains("unexpected argument '--no-such-flag'"), "{error}");
    }

    #[test]
    fn every_flag_of_kaniko_is_accepted_or_refused_with_a_reason() {
        let known = |flag: &str| {
            Cli::command().get_arguments().any(|argument| {
                argument.get_long() == Some(flag)
                    || argument.get_all_aliases().is_some_and(|names| names.contains(&flag))
            })
        };
        for flag in KANIKO {
            let is_refused = REFUSED.iter().any(|(name, _)| name.trim_start_matches('-') == *flag);
            assert_ne!(known(flag), is_refused, "--{flag}");
        }
    }

    /// The flags of kaniko 1.28, with those that it has given up.
    const KANIKO: &[&str] = &[
        "annotation",
        "bucket",
        "build-arg",
        "cache",
        "cache-copy-layers",
        "cache-dir",
        "cache-repo",
        "cache-run-layers",
        "cache-ttl",
        "cleanup",
        "compressed-caching",
        "compression",
        "compression-level",
        "context",
        "context-sub-path",
        "credential-helpers",
        "custom-platform",
        "customPlatform",
        "destination",
        "digest-file",
        "dockerfile",
        "dryrun",
        "force",
        "force-build-metadata",
        "git",
        "ignore-path",
        "ignore-var-run",
        "image-download-retry",
        "image-format",
        "image-fs-extract-retry",
        "image-name-tag-with-digest-file",
        "image-name-with-digest-file",
        "insecure",
        "insecure-pull",
        "insecure-registry",
        "kaniko-dir",
        "label",
        "log-format",
        "log-timestamp",
        "materialize",
        "no-push",
        "no-push-cache",
        "oci-layout-path",
        "pre-cleanup",
        "preserve-context",
        "push-ignore-immutable-tag-errors",
        "push-retry",
        "registry-certificate",
        "registry-client-cert",
        "registry-map",
        "registry-mirror",
        "reproducible",
        "secret",
        "single-snapshot",
        "skip-default-registry-fallback",
        "skip-push-permission-check",
        "skip-tls-verify",
        "skip-tls-verify-pull",
        "skip-tls-verify-registry",
        "skip-unused-stages",
        "snapshot-mode",
        "snapshotMode",
        "tar-path",
        "tarPath",
        "target",
        "use-new-run",
        "verbosity",
        "whitelist-var-run",
    ];

    #[test]
    fn a_stray_word_is_an_unknown_command() {
        for arguments in [&["build"][..], &["--no-push", "true"]] {
            let error = read(arguments).unwrap_err();
            let word = arguments.last().unwrap();
            let expected = format!("unknown command \"{word}\" for \"executor\"");
            assert!(error.contains(&expected), "{error}");
        }
        let error = read(&["pusch", "x"]).unwrap_err();
        assert!(error.contains("similar subcommand exists: 'push'"), "{error}");
    }

    #[test]
    fn booleans_take_a_value_only_after_an_equals_sign() {
        assert!(read(&["--no-push"]).unwrap().no_push);
        assert!(!read(&["--no-push=false"]).unwrap().no_push);
        assert!(read(&["--no-push", "true"]).is_err(), "a stray word is not silently dropped");
        assert_eq!(read(&["--cleanup=0"]).unwrap().cleanup, Some(false));
    }

    #[test]
    fn of_a_flag_that_is_given_twice_the_last_counts_unless_it_is_repeatable() {
        let twice = ["--dockerfile=a", "--no-push", "--build-arg=A=1", "-v=debug", "--tarPath=x"];
        let more = ["--dockerfile", "b", "--no-push=false", "--build-arg=A=2", "--tar-path=y"];
        let cli = read(&[&twice[..], &more, &["--verbosity", "warn"]].concat()).unwrap();
        assert_eq!((cli.dockerfile.as_path(), cli.no_push), (std::path::Path::new("b"), false));
        assert_eq!(cli.tar_path.as_deref(), Some(std::path::Path::new("y")));
        assert_eq!(cli.build_args.len(), 2);
    }

    #[test]
    fn a_destination_is_never_split_at_commas() {
        let cli = read(&["-d", "a,b", "--destination=c"]).unwrap();
        assert_eq!(cli.destinations, ["a,b", "c"]);
    }
}
