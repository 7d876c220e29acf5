//! How `--help` is arranged.

use clap::Command;

/// Headings with their flags, in the order in which they are shown.
const GROUPS: [(&str, &[&str]); 10] = [
    (
        "Input",
        &[
            "context",
            "context-sub-path",
            "git",
            "bucket",
            "dockerfile",
            "build-arg",
            "target",
            "custom-platform",
            "build-context",
            "secret",
            "ssh",
            "source-date-epoch",
        ],
    ),
    (
        "Output",
        &[
            "destination",
            "no-push",
            "tar-path",
            "oci-layout-path",
            "digest-file",
            "image-name-with-digest-file",
            "image-name-tag-with-digest-file",
            "label",
            "annotation",
            "image-format",
        ],
    ),
    (
        "Cache",
        &[
            "cache",
            "cache-repo",
            "cache-copy-layers",
            "cache-run-layers",
            "cache-ttl",
            "cache-dir",
            "no-push-cache",
            "cache-run-dir",
        ],
    ),
    (
        "Layers",
        &[
            "compression",
            "compression-level",
            "snapshot-mode",
            "single-snapshot",
            "ignore-path",
            "ignore-var-run",
            "reproducible",
            "rewrite-timestamp",
            "materialize",
            "layer-max-entries",
            "layer-max-size",
            "layer-max-ratio",
        ],
    ),
    (
        "Registries",
        &[
            "registry-mirror",
            "registry-map",
            "skip-default-registry-fallback",
            "insecure",
            "insecure-pull",
            "insecure-registry",
            "skip-tls-verify",
            "skip-tls-verify-pull",
            "skip-tls-verify-registry",
            "registry-certificate",
            "registry-client-cert",
            "registry-redirect",
            "push-retry",
            "image-download-retry",
            "image-fs-extract-retry",
            "skip-push-permission-check",
            "push-ignore-immutable-tag-errors",
        ],
    ),
    ("Credentials", &["credential-helpers", "pull-docker-config"]),
    ("Commands of the Dockerfile", &["allow", "add-host", "shm-size", "ulimit"]),
    ("Place", &["cleanup", "force", "kaniko-dir"]),
    (
        "Questions and messages",
        &["dryrun", "check", "call", "verbosity", "log-format", "log-timestamp"],
    ),
    (
        "Accepted without effect",
        &[
            "compressed-caching",
            "force-build-metadata",
            "pre-cleanup",
            "preserve-context",
            "skip-unused-stages",
            "use-new-run",
        ],
    ),
];

/// What `-h` shows.
const SHORT: [&str; 22] = [
    "context",
    "dockerfile",
    "build-arg",
    "target",
    "custom-platform",
    "secret",
    "destination",
    "no-push",
    "tar-path",
    "oci-layout-path",
    "digest-file",
    "label",
    "cache",
    "cache-repo",
    "cache-copy-layers",
    "compression",
    "registry-mirror",
    "insecure-registry",
    "cleanup",
    "dryrun",
    "verbosity",
    "log-format",
];

/// Puts the flags of a build under headings, and leaves those that few use out of `-h`.
pub(crate) fn arranged(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        let Some(long) = argument.get_long() else { return argument };
        let place = GROUPS.iter().enumerate().find_map(|(group, (heading, flags))| {
            let index = flags.iter().position(|flag| *flag == long)?;
            Some((*heading, group * 100 + index))
        });
        let hides = !SHORT.contains(&long);
        // Of true and false nobody has to be told.
        let is_switch = argument.is_require_equals_set();
        match place {
            Some((heading, order)) => argument
                .help_heading(heading)
                .display_order(order)
                .hide_short_help(hides)
                .hide_possible_values(is_switch),
            None => argument,
        }
    });
    command.after_help("`--help` explains every flag, `help COMMAND` a command.")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn the_man_page_says_what_the_help_says() {
        let mut page = Vec::new();
        // What the short help leaves out would be there without a text.
        let whole = arranged(Cli::command()).mut_args(|argument| argument.hide_short_help(false));
        clap_mangen::Man::new(whole).render(&mut page).unwrap();
        let text = String::from_utf8(page).unwrap();
        assert!(text.contains("Build from this directory of the context"), "{text}");
        testkit::Case::new(testkit::workspace_dir().join("docs/man"))
            .assert_golden("executor.1", &text);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "reads the documentation on the host")]
    fn the_reference_has_a_row_for_every_flag_and_no_other() {
        let page = testkit::workspace_dir().join("docs/reference/command-line.md");
        let text = std::fs::read_to_string(page).unwrap();
        let flags = text.split("\n## Refused").next().unwrap();
        let mut rows: Vec<&str> = flags
            .lines()
            .filter_map(|line| line.strip_prefix("| `--")?.split('`').next())
            .collect();
        rows.sort_unstable();
        let command = Cli::command();
        let mut expected: Vec<&str> =
            command.get_arguments().filter_map(clap::Arg::get_long).collect();
        expected.sort_unstable();
        assert_eq!(rows, expected);
        for name in command.get_subcommands().map(clap::Command::get_name) {
            assert!(text.contains(&format!("| `{name}")), "{name}");
        }
    }

    #[test]
    fn every_flag_has_one_heading_and_every_entry_a_flag() {
        let mut listed: Vec<&str> = GROUPS.iter().flat_map(|(_, flags)| *flags).copied().collect();
        let mut flags: Vec<String> = Cli::command()
            .get_arguments()
            .filter_map(|argument| argument.get_long().map(str::to_owned))
            .collect();
        listed.sort_unstable();
        flags.sort_unstable();
        assert_eq!(listed, flags);
        for short in SHORT {
            assert!(listed.contains(&short), "{short}");
        }
    }

    #[test]
    fn help_fits_and_is_compact_where_it_is_short() {
        for width in [80, 100] {
            let long = arranged(Cli::command()).term_width(width).render_long_help().to_string();
            for line in long.lines() {
                let is_name = line.trim_start().starts_with('-');
                assert!(line.chars().count() <= width || is_name, "{width}: {line}");
            }
            for (heading, _) in GROUPS {
                assert!(long.contains(&format!("\n{heading}:\n")), "{heading}");
            }
        }
        let short = arranged(Cli::command()).term_width(100).render_help().to_string();
        assert!(short.lines().count() < 90, "{short}");
        assert!(short.contains("--destination") && !short.contains("--layer-max-ratio"), "{short}");
    }
}
