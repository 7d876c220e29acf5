//! Environment variables of kaniko that change nothing here, or not what they change there.

use std::collections::BTreeSet;

use ebiko_build::{Habit, ImageFormat};

use crate::cli::{Cli, Verbosity};
use crate::environment::Environment;

/// Variables of kaniko without a meaning here, and why.
const WITHOUT_EFFECT: [(&str, &str); 10] = [
    ("AWS_ECR_CACHE_DIR", TOKENS),
    ("AWS_ECR_DISABLE_CACHE", TOKENS),
    ("AWS_ECR_IGNORE_CREDS_STORAGE", TOKENS),
    ("BENCHMARK_FILE", "each step says how long it took"),
    ("KANIKO_IGNORE_ASSERTIONS", "there are no assertions that could be ignored"),
    ("KANIKO_TELEMETRY_ENDPOINT", "no telemetry is sent"),
    ("KANIKO_TELEMETRY_OMIT_DOCKERFILE", "no telemetry is sent"),
    ("SNAPSHOT_TIMEOUT", "looking at files has no time limit"),
    ("SNAPSHOT_TIMEOUT_DURATION", "looking at files has no time limit"),
    ("STACKLOG_PATH", "no profile is written"),
];

const TOKENS: &str = "tokens are kept in memory only";

/// The prefix of kaniko's switches between an old and a new behaviour.
const SWITCH: &str = "FF_KANIKO_";

/// The switches of kaniko 1.28 that change nothing here, with what is done always. All of them are on, as it were.
const SWITCHES: [(&str, &str); 30] = [
    ("BUILDKIT_ARG_ENV_PRECEDENCE", "the later one of ARG and ENV wins"),
    ("CACHE_LOOKAHEAD", "all cache keys are known before anything runs"),
    ("CACHE_PROBE_AFTER_MISS", "every step is looked for in the cache"),
    ("CLEAN_KANIKO_DIR", "the builder's directory is cleaned after every build"),
    (
        "CROSS_REPO_MOUNT",
        "blobs are mounted from other repositories where the registry can do that",
    ),
    (
        "DEPRECATE_INTER_STAGE_RESTORE",
        "what was in the container is not brought back between stages",
    ),
    ("HASH_DIR_FRAMING", "cache keys cannot collide"),
    ("IGNORE_CACHED_MANIFEST", "base images are kept as OCI layouts only"),
    (
        "INFER_CROSS_STAGE_CACHE_KEY",
        "the key of a copy from a stage is made from the key of that stage",
    ),
    ("NO_PROPAGATE_ANNOTATIONS", "annotations of a base are not inherited"),
    ("OCI_WARMER", "the warmer writes OCI layouts"),
    ("PATH_SCOPED_REGISTRY_AUTH", "the longest path in a docker config wins"),
    ("PRECOMPILE_DOCKERIGNORE", "patterns of .dockerignore are read once"),
    ("PRESERVE_HARDLINKS", "hard links stay together"),
    ("PRESERVE_MOUNTED_PATHS", "what is mounted in the container stays"),
    ("RELATIVE_LINK_TARGETS", "hard links in layers have relative targets"),
    ("REPRODUCIBLE_PRESERVE_BASE_LAYERS", "--reproducible leaves the layers of a base as they are"),
    ("RESOLVE_CACHE_KEY", "cache keys are made from expanded instructions"),
    ("ROLLING_CACHE_KEY", "cache keys cannot collide"),
    ("RUN_MOUNT_BIND", "RUN --mount=type=bind works"),
    ("RUN_VIA_TINI", "processes that a RUN leaves behind are ended"),
    ("SCOPED_DOCKERIGNORE", ".dockerignore is about the context only"),
    ("SECUREJOIN_EXTRACTION", "links in layers never lead out of the root"),
    ("SHARED_BASE_CACHE", "a base is read once"),
    ("SKIP_CACHED_STAGES", "stages that are wholly in the cache are not built"),
    ("SKIP_RELABEL_RECOMPRESS", "layers are not compressed again for another media type"),
    ("SKIP_WRITE_WHITEOUTS", "whiteouts are not files"),
    ("UNTAR_SKIP_ROOT", "an archive does not change the directory that it is unpacked into"),
    ("VOLUME_SKIP_MKDIR", "VOLUME makes no directory"),
    ("WARMER_CACHE_LOCK", "warmers wait for each other"),
];

/// What can be set besides [`HABITS`].
const DISABLE_HTTP2: &str = "DISABLE_HTTP2";
const SCRATCH_IS_OCI: &str = "OCI_SCRATCH_BASE";

/// What is in images and is kaniko's habit where the switch is off. Here each is on unless it is set to false, because
/// kaniko's defaults are not what a Dockerfile says; an image that relies on a habit keeps it with one variable.
const HABITS: [(&str, Habit); 5] = [
    ("CHOWN_ON_IMPLICIT_DIRS", Habit::ParentsForRoot),
    ("COPY_AS_ROOT", Habit::CopiesForUser),
    ("COPY_CHMOD_ON_IMPLICIT_DIRS", Habit::ParentsWithoutChmod),
    ("EXPAND_HEREDOC", Habit::HereDocumentsAsWritten),
    ("RUN_HONOR_GROUP", Habit::RunWithoutGroup),
];

/// Whether a switch does here what it does in kaniko.
fn can_be_set(switch: &str) -> bool {
    [DISABLE_HTTP2, SCRATCH_IS_OCI].contains(&switch)
        || HABITS.iter().any(|(name, _)| *name == switch)
}

/// The habits of kaniko that the build keeps.
///
/// # Errors
///
/// A value that is neither true nor false: whose files will be in the image is nothing to guess.
pub(crate) fn habits(environment: &Environment) -> anyhow::Result<BTreeSet<Habit>> {
    let mut habits = BTreeSet::new();
    for (switch, habit) in HABITS {
        if environment.get_bool(&format!("{SWITCH}{switch}"))? == Some(false) {
            habits.insert(habit);
        }
    }
    Ok(habits)
}

/// What the user should know of flags and variables that do not do what they do in kaniko, a line each.
pub(crate) fn notes(cli: &Cli, environment: &Environment) -> Vec<(Verbosity, String)> {
    let mut notes = Vec::new();
    for (old, new) in &cli.spellings {
        // The wording is kaniko's.
        notes.push((Verbosity::Warn, format!("Flag {old} is deprecated. Use: {new}")));
    }
    for (flag, reason) in without_effect(cli) {
        notes.push((Verbosity::Info, format!("`{flag}` changes nothing: {reason}")));
    }
    let kept = [("KANIKO_PRE_CLEANUP", EMPTY_ROOT), ("KANIKO_PRESERVE_CONTEXT", PRESERVED)];
    for (name, reason) in WITHOUT_EFFECT.into_iter().chain(kept) {
        if environment.get_filled(name).is_some() {
            let text = format!("the environment variable {name} changes nothing: {reason}");
            notes.push((Verbosity::Info, text));
        }
    }
    for (name, value) in environment.all() {
        let Some(switch) = name.strip_prefix(SWITCH) else { continue };
        if can_be_set(switch) {
            continue;
        }
        let note = match SWITCHES.iter().find(|(known, _)| *known == switch) {
            None => Some(format!("the environment variable {name} is unknown and left out")),
            Some((_, always)) => match environment.get_bool(name) {
                Ok(Some(false)) => Some(format!(
                    "the environment variable {name}={value} changes nothing: {always}, always"
                )),
                Ok(_) => None,
                Err(error) => Some(format!("{error}; it is left out")),
            },
        };
        notes.extend(note.map(|text| (Verbosity::Warn, text)));
    }
    notes
}

const EMPTY_ROOT: &str = "every build begins with an empty root";
const PRESERVED: &str = "what was in the container is always kept, and --cleanup brings it back";

/// The flags that were given and that are accepted because scripts have them, with the reason.
fn without_effect(cli: &Cli) -> impl Iterator<Item = (&'static str, &'static str)> {
    let flags = [
        (cli.use_new_run, "--use-new-run", "there is one way to look at files"),
        (cli.compressed_caching.is_some(), "--compressed-caching", "compressed layers are files"),
        (
            cli.cache_dir.is_some() && !cli.cache,
            "--cache-dir without --cache",
            "base images are looked for there with --cache",
        ),
        (
            cli.place.has_git_in_vain(),
            "--git without a repository",
            "the context is no git repository",
        ),
        (cli.pre_cleanup.is_some(), "--pre-cleanup", EMPTY_ROOT),
        (cli.preserve_context.is_some(), "--preserve-context", PRESERVED),
        (
            cli.force_build_metadata.is_some(),
            "--force-build-metadata",
            "metadata is always recorded",
        ),
        (
            cli.skip_unused_stages.is_some(),
            "--skip-unused-stages",
            "stages that the target does not need are never built; name further stages with --target",
        ),
    ];
    flags.into_iter().filter_map(|(is_given, flag, reason)| is_given.then_some((flag, reason)))
}

/// The media types of an image that starts from nothing.
pub(crate) fn scratch_format(environment: &Environment) -> anyhow::Result<ImageFormat> {
    let is_oci = environment.get_bool(&format!("{SWITCH}{SCRATCH_IS_OCI}"))?.unwrap_or(true);
    Ok(if is_oci { ImageFormat::Oci } else { ImageFormat::Docker })
}

/// `KANIKO_PRINT_PLAN`: whether the plan is printed before it is carried out.
pub(crate) fn prints_plan(environment: &Environment) -> anyhow::Result<bool> {
    Ok(environment.get_bool("KANIKO_PRINT_PLAN")?.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(arguments: &[&str], variables: &[(&'static str, &str)]) -> Vec<String> {
        let arguments = ["executor"].iter().chain(arguments).map(Into::into);
        let cli = Cli::read(arguments).unwrap();
        let variables = variables.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let environment = Environment::of_list(variables);
        super::notes(&cli, &environment).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn what_changes_nothing_is_said_once_with_the_reason() {
        assert!(notes(&["--no-push"], &[("HOME", "/")]).is_empty());
        for flag in [
            "--use-new-run",
            "--compressed-caching=false",
            "--cache-dir=x",
            "--pre-cleanup",
            "--preserve-context=false",
            "--force-build-metadata",
            "--skip-unused-stages=false",
        ] {
            let notes = notes(&[flag], &[]);
            assert_eq!(notes.len(), 1, "{flag}: {notes:?}");
            assert!(
                notes[0].starts_with(&format!("`{}", flag.split('=').next().unwrap())),
                "{notes:?}"
            );
        }
        for (name, reason) in WITHOUT_EFFECT {
            let expected = format!("the environment variable {name} changes nothing: {reason}");
            assert_eq!(notes(&[], &[(name, "1")]), [expected]);
        }
        assert_eq!(
            notes(&[], &[("KANIKO_PRE_CLEANUP", "1"), ("KANIKO_PRESERVE_CONTEXT", "1")]).len(),
            2
        );
    }

    #[test]
    fn old_spellings_are_told_in_kanikos_words() {
        assert_eq!(
            notes(&["--snapshotMode=redo", "--whitelist-var-run"], &[]),
            [
                "Flag --snapshotMode is deprecated. Use: --snapshot-mode",
                "Flag --whitelist-var-run is deprecated. Use: --ignore-var-run"
            ]
        );
    }

    #[test]
    fn switches_are_silent_unless_they_ask_for_what_is_not_done_here() {
        for (switch, always) in SWITCHES {
            let name: &'static str = format!("{SWITCH}{switch}").leak();
            assert!(notes(&[], &[(name, "true")]).is_empty(), "{name}");
            let off = notes(&[], &[(name, "0")]);
            assert_eq!(
                off,
                [format!("the environment variable {name}=0 changes nothing: {always}, always")]
            );
        }
        for switch in
            HABITS.map(|(name, _)| name).into_iter().chain([DISABLE_HTTP2, SCRATCH_IS_OCI])
        {
            let name: &'static str = format!("{SWITCH}{switch}").leak();
            for value in ["0", "true"] {
                assert!(notes(&[], &[(name, value)]).is_empty(), "{name}={value}");
            }
        }
        assert_eq!(
            notes(&[], &[("FF_KANIKO_NO_SUCH", "1"), ("FF_KANIKO_ROLLING_CACHE_KEY", "x")]),
            [
                "the environment variable FF_KANIKO_NO_SUCH is unknown and left out",
                "the environment variable FF_KANIKO_ROLLING_CACHE_KEY is `x`; it must be true or false; it is left out",
            ]
        );
    }

    #[test]
    fn a_habit_is_kept_where_its_switch_is_off() {
        for (switch, habit) in HABITS {
            let name: &'static str = format!("{SWITCH}{switch}").leak();
            let with = |value| habits(&Environment::of([(name, value)]));
            assert_eq!(with("false").unwrap(), BTreeSet::from([habit]), "{name}");
            assert!(with("1").unwrap().is_empty(), "{name}");
            let error = with("x").unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        assert!(habits(&Environment::default()).unwrap().is_empty());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "reads the documentation on the host")]
    fn the_reference_has_every_variable_that_is_known_here() {
        let page = testkit::workspace_dir().join("docs/reference/environment.md");
        let text = std::fs::read_to_string(page).unwrap();
        let mut rows: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `FF_KANIKO_")?.split('`').next())
            .collect();
        rows.sort_unstable();
        let settable =
            HABITS.map(|(name, _)| name).into_iter().chain([DISABLE_HTTP2, SCRATCH_IS_OCI]);
        let mut switches: Vec<&str> = SWITCHES.iter().map(|(name, _)| *name).collect();
        for name in settable {
            assert!(text.contains(&format!("| `FF_KANIKO_{name}` | **can be set.**")), "{name}");
            switches.push(name);
        }
        switches.sort_unstable();
        assert_eq!(rows, switches);
        for (switch, always) in SWITCHES {
            assert!(text.contains(&format!("| `FF_KANIKO_{switch}` | {always}")), "{switch}");
        }
        for (name, reason) in WITHOUT_EFFECT {
            let row = text.lines().find(|line| line.contains(&format!("`{name}`"))).unwrap();
            assert!(row.contains(reason), "{name}: {row}");
        }
    }

    #[test]
    fn an_image_from_nothing_has_the_media_types_that_the_switch_says() {
        let format =
            |value| scratch_format(&Environment::of([("FF_KANIKO_OCI_SCRATCH_BASE", value)]));
        assert_eq!(format("false").unwrap(), ImageFormat::Docker);
        assert_eq!(format("true").unwrap(), ImageFormat::Oci);
        assert_eq!(scratch_format(&Environment::default()).unwrap(), ImageFormat::Oci);
        assert!(format("x").is_err());
    }
}
