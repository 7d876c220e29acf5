//! Flags that several commands have.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};

use crate::cli::{LogFormat, Verbosity};
use crate::digest_files::Target;
use crate::network_flags::NetworkFlags;

/// How registries are reached, in both directions.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RegistryFlags {
    /// Push with plain HTTP
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) insecure: bool,

    /// Begin to build without asking whether the destinations may be pushed to
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) skip_push_permission_check: bool,

    /// Take it for pushed where a tag is there already and the registry does not let it change
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) push_ignore_immutable_tag_errors: bool,

    /// Repeat a failed request of a push this many times more than the usual four
    #[arg(long, value_name = "NUMBER", default_value = "0", value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(crate) push_retry: u32,

    #[command(flatten)]
    pub(crate) pull: PullFlags,
}

/// How registries are reached to read from them.
#[derive(Debug, Clone, Default, Args)]
#[expect(clippy::doc_markdown, reason = "the comments are the text of `--help`")]
pub(crate) struct PullFlags {
    /// Pull with plain HTTP
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) insecure_pull: bool,

    /// Use plain HTTP with this registry (repeatable)
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]")]
    pub(crate) insecure_registries: Vec<String>,

    /// Pull from NEW instead of OLD, and from OLD where NEW fails (repeatable) [environment:
    /// KANIKO_REGISTRY_MAP]
    #[arg(long = "registry-map", value_name = "OLD=NEW[;OLD=NEW…]")]
    pub(crate) registry_maps: Vec<String>,

    /// Pull from this registry instead of Docker Hub (repeatable) [environment:
    /// KANIKO_REGISTRY_MIRROR]
    #[arg(long = "registry-mirror", value_name = "HOST[:PORT][/PREFIX]")]
    pub(crate) registry_mirrors: Vec<String>,

    #[command(flatten)]
    pub(crate) network: NetworkFlags,

    #[command(flatten)]
    pub(crate) credentials: CredentialFlags,
}

/// Where credentials come from besides the docker config.
#[derive(Debug, Clone, Default, Args)]
#[expect(clippy::doc_markdown, reason = "the comments are the text of `--help`")]
pub(crate) struct CredentialFlags {
    /// Ask this credential helper: env, google, ecr, acr or gitlab; "" asks none (repeatable)
    /// [default: all, in this order]
    #[arg(long = "credential-helpers", value_name = "NAME", value_delimiter = ',')]
    pub(crate) credential_helpers: Vec<String>,

    /// Credentials for pulling only: a file like config.json, whose entries come before those of
    /// config.json with the same path. So one registry can be pulled from and pushed to as two
    /// users [environment: EBIKO_PULL_DOCKER_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) pull_docker_config: Option<PathBuf>,
}

/// Files that say what was pushed.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DigestFlags {
    /// Write the image's digest to this file, or send it with PUT to this address
    #[arg(long = "digest-file", value_name = "FILE|https://ADDRESS")]
    pub(crate) digest: Option<Target>,

    /// Write a line REGISTRY/REPOSITORY@DIGEST for each destination to this file
    #[arg(long = "image-name-with-digest-file", value_name = "FILE|https://ADDRESS")]
    pub(crate) names: Option<Target>,

    /// Write a line REGISTRY/REPOSITORY:TAG@DIGEST for each destination to this file
    #[arg(long = "image-name-tag-with-digest-file", value_name = "FILE|https://ADDRESS")]
    pub(crate) tagged_names: Option<Target>,
}

/// What a command needs that pushes what was made before.
#[derive(Debug, Clone, Args)]
pub(crate) struct PublishFlags {
    /// Push under this name (repeatable)
    #[arg(
        short = 'd',
        long = "destination",
        value_name = "REGISTRY/REPOSITORY[:TAG]",
        required = true
    )]
    pub(crate) destinations: Vec<String>,

    #[command(flatten)]
    pub(crate) digests: DigestFlags,

    #[command(flatten)]
    pub(crate) registry: RegistryFlags,

    #[command(flatten)]
    pub(crate) messages: MessageFlags,
}

/// Which messages there are, and how they look.
#[derive(Debug, Clone, Args)]
#[expect(clippy::doc_markdown, reason = "the comments are the text of `--help`")]
pub(crate) struct MessageFlags {
    /// Which messages to print
    #[arg(short = 'v', long, value_name = "LEVEL", default_value = "info")]
    pub(crate) verbosity: Verbosity,

    /// How messages look; color is plain text where standard error is no terminal or NO_COLOR is
    /// set [default: color]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,

    /// Begin every message with the time; those in JSON have it always
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) log_timestamp: bool,
}

impl MessageFlags {
    /// Those of a command that has no such flags.
    pub(crate) const PLAIN: Self =
        Self { verbosity: Verbosity::Info, log_format: None, log_timestamp: false };
}
