//! One build with BuildKit.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use testkit::ImageFacts;
use testkit::build_case::{Arranged, BuildCase};
use testkit::record::Record;

/// A BuildKit that somebody runs.
#[derive(Debug)]
pub(super) struct BuildKit {
    /// The client.
    pub(super) buildctl: PathBuf,
    /// Where the daemon listens, if not at the client's default.
    pub(super) address: Option<String>,
}

impl BuildKit {
    /// Builds a case and returns what it gave. Bases come from this machine and not from a registry, so the daemon needs no
    /// configuration.
    ///
    /// # Errors
    ///
    /// Fails if the client cannot be started or leaves no readable image. A build that fails is a result.
    pub(super) fn build(&self, case: &BuildCase) -> anyhow::Result<Record> {
        let dir = testkit::scratch_dir("oracle-")?;
        let arranged = case.arrange(dir.path())?;
        let mut command = Command::new(&self.buildctl);
        if let Some(address) = &self.address {
            command.args(["--addr", address]);
        }
        command.args(["build", "--progress=plain", "--frontend=dockerfile.v0"]);
        command.args(flags(dir.path(), &arranged)?);
        let output = command.output().with_context(|| {
            format!("cannot start `{}`; `--buildctl` names another", self.buildctl.display())
        })?;
        let record = if output.status.success() {
            Record::of_layout(&dir.path().join("image"))
                .with_context(|| format!("cannot read what BuildKit made of `{}`", case.name()))?
        } else {
            failure(&String::from_utf8_lossy(&output.stderr))
        };
        Ok(arranged.without_addresses(record))
    }
}

/// `buildctl build`'s flags for a case below `dir`.
fn flags(dir: &Path, case: &Arranged) -> anyhow::Result<Vec<String>> {
    let shown = |path: &str| dir.join(path).display().to_string();
    let mut flags = vec![
        format!("--local=context={}", shown("context")),
        format!("--local=dockerfile={}", shown("context")),
        format!("--opt=filename={}", case.dockerfile),
        format!(
            "--output=type=oci,tar=false,dest={}{}",
            shown("image"),
            if case.rewrite_timestamp { ",rewrite-timestamp=true" } else { "" }
        ),
    ];
    let mut option = |name: &str, value: &str| flags.push(format!("--opt={name}={value}"));
    for (kind, pairs) in
        [("build-arg", &case.build_args), ("label", &case.labels), ("context", &case.references)]
    {
        for (key, value) in pairs {
            option(&format!("{kind}:{key}"), value);
        }
    }
    for (name, value) in [("target", &case.target), ("platform", &case.platform)] {
        if let Some(value) = value {
            option(name, value);
        }
    }
    for name in &case.directories {
        flags.push(format!("--opt=context:{name}=local:{name}"));
        flags.push(format!("--local={name}={}", shown(&format!("named/{name}"))));
    }
    let busybox = ("busybox".to_owned(), testkit::build_case::base()?.layout());
    let bases = case.bases.iter().map(|name| (name.clone(), dir.join("bases").join(name)));
    for (name, layout) in bases.chain([busybox]) {
        let digest = ImageFacts::from_oci_layout(&layout)?.manifest_digest;
        let digest = digest.context("a layout has a manifest")?;
        flags.push(format!("--oci-layout={name}={}", layout.display()));
        flags.push(format!("--opt=context:{name}=oci-layout://{name}@{digest}"));
    }
    flags.extend(
        case.secrets
            .iter()
            .map(|id| format!("--secret=id={id},src={}", shown(&format!("secrets/{id}")))),
    );
    flags.extend(case.allow.iter().map(|name| format!("--allow={name}")));
    Ok(flags)
}

/// The message of a failed build without what is another one each time, and the lines that the excerpt of the Dockerfile marks.
fn failure(output: &str) -> Record {
    let is_excerpt = |line: &str| {
        line.trim_start().split_once(" | ").is_some_and(|(number, _)| number.parse::<u32>().is_ok())
    };
    let marked = |line: &str| {
        let (number, rest) = line.trim_start().split_once(" | ")?;
        rest.starts_with(">>>").then(|| number.parse().ok()).flatten()
    };
    let mut lines: Vec<u32> = output.lines().filter_map(marked).collect();
    lines.dedup();
    let message = output.rsplit_once("\nerror: ").map_or(output, |(_, message)| message);
    let message: Vec<&str> = message
        .lines()
        .take_while(|line| !is_excerpt(line) && !line.starts_with("-----"))
        .collect();
    let message = message.join("\n").trim().replacen("failed to solve: ", "", 1);
    // Two names of 25 letters and digits, made for this build.
    let message = match message.split_once("ref ") {
        Some((before, after)) if after.get(25..27) == Some("::") => {
            format!("{before}ref …{}", after.get(52..).unwrap_or_default())
        }
        _ => message,
    };
    Record::of_error(without_mount(&message), lines)
}

/// Leaves out where the daemon has mounted the root that a path in the message is below.
fn without_mount(message: &str) -> String {
    const MOUNT: &str = "/cachemounts/buildkit";
    let words = message.split(' ').map(|word| match word.split_once(MOUNT) {
        Some((_, path)) => path.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_image() {
        assert_eq!(without_mount("onto /var/x/cachemounts/buildkit12/a b"), "onto /a b");
        assert_eq!(without_mount("onto /a  b"), "onto /a  b");
    }

    #[test]
    fn of_a_failure_the_message_and_the_marked_lines_are_kept() {
        let output = "#1 [internal] load\n#1 ERROR: x\nDockerfile:2\n--------------------\n   1 |     FROM scratch\n   2 | >>> COPY a \\\n   \
                      3 | >>>   /b\n--------------------\nerror: failed to solve: failed to compute cache key: failed to calculate \
                      checksum of ref abcdefghijklmnopqrstuvwxy::abcdefghijklmnopqrstuvwxy: \"/a\": not found\n";
        let record = failure(output);
        assert_eq!(record.error_lines, [2, 3]);
        assert_eq!(
            record.error,
            "failed to compute cache key: failed to calculate checksum of ref …: \"/a\": not found"
        );
    }
}
