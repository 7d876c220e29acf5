//! Building cases with the program that is tested.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::{Arranged, BuildCase, base};
use crate::record::Record;
use crate::{Pod, PodOutput, Profile, Registry, Tree, executor_binary};

/// Builds the cases one after the other, each in a private root on one disposable machine, and returns what each gave.
///
/// One machine for many builds: starting a build takes less time than starting a pod.
///
/// # Errors
///
/// Fails if the machine cannot be had or a build left neither an image nor an exit code.
pub fn build_in_private_root(cases: &[BuildCase]) -> anyhow::Result<Vec<Record>> {
    let (built, output) = build(cases, &Machine::Workstation, str::to_owned, |flags| {
        let words: Vec<String> = flags.iter().map(|word| quoted(word)).collect();
        format!("{EBIKO} {} >stdout 2>stderr; echo $? >code", words.join(" "))
    })?;
    records(&built, &output)
}

/// Builds the cases one after the other in one pod with a shell in `/busybox`, and returns what each gave. The pod has the
/// executor's image: that for users other than root in [`Profile::Restricted`], and the usual one, which is foreign to
/// others than root, elsewhere. The files of the contexts belong to the pod's user.
///
/// # Errors
///
/// As [`build_in_private_root`].
pub fn build_in_pod(cases: &[BuildCase], profile: Profile) -> anyhow::Result<Vec<Record>> {
    let executor = match profile {
        Profile::Restricted => crate::Executor::nonroot()?,
        _ => crate::Executor::new()?,
    };
    let machine = Machine::Pod(executor, profile);
    let (built, output) = build(cases, &machine, str::to_owned, |flags| {
        let words: Vec<String> = flags.iter().map(|word| quoted(word)).collect();
        format!(
            "$T 60 /kaniko/executor --cleanup {} >stdout 2>stderr; echo $? >code",
            words.join(" ")
        )
    })?;
    records(&built, &output)
}

fn records(built: &Built, output: &PodOutput) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::new();
    for (own, case) in &built.cases {
        let record = outcome(own)
            .with_context(|| format!("`{}` cannot be judged\n{output}", own.display()))?;
        records.push(case.without_addresses(record));
    }
    Ok(records)
}

/// Where cases are built.
enum Machine {
    /// Whose own files stay as they are.
    Workstation,
    /// Whose root is built on.
    Pod(crate::Executor, Profile),
}

impl Machine {
    fn pod(&self) -> anyhow::Result<Pod> {
        Ok(match self {
            Self::Workstation => Pod::new(base()?.root())
                .profile(Profile::Workstation)
                .bind_read_only(executor_binary()?, "/usr/local/bin/ebiko"),
            Self::Pod(executor, profile) => executor
                .pod()
                .profile(*profile)
                .env("HOME", "/tmp")
                .env("T", "/busybox/busybox timeout")
                .bind_read_only("/bin/busybox", "/busybox/busybox"),
        })
    }

    fn shell(&self) -> &'static [&'static str] {
        match self {
            Self::Workstation => &["sh"],
            Self::Pod(..) => &["/busybox/busybox", "sh"],
        }
    }
}

/// What came of one case: the digest of the image, or the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BothWays {
    /// The name of the case.
    pub name: String,
    /// With a base that was not unpacked.
    pub thin: String,
    /// With one that was.
    pub whole: String,
}

/// Builds the cases at one point in time; those that do not unpack their base once more with a base that is unpacked.
///
/// What a case has no base for, or makes with `RUN` before it copies, is in a base here. So the images are not those of the
/// cases.
///
/// # Errors
///
/// As [`build_in_private_root`].
pub fn build_both_ways(cases: &[BuildCase]) -> anyhow::Result<Vec<BothWays>> {
    let (built, output) = build(cases, &Machine::Workstation, on_a_base, |flags| {
        let words: Vec<String> = flags
            .iter()
            .filter(|flag| !flag.starts_with("--oci-layout-path") && *flag != "--rewrite-timestamp")
            .map(|word| quoted(word))
            .collect();
        let build = |name: &str, more: &str| {
            format!(
                "{EBIKO} {} --rewrite-timestamp --source-date-epoch=1700000000 \
                 --oci-layout-path=$PWD/{name} --digest-file={name}.digest {more} >stdout 2>{name}.log",
                words.join(" ")
            )
        };
        let thin = build("thin", "");
        let whole = build("whole", "--materialize");
        format!("{thin}; grep -Eq 'not unpacked|base not read' thin.log && {whole}")
    })?;
    let mut results = Vec::new();
    for (own, case) in &built.cases {
        if !own.join("whole.log").exists() {
            continue;
        }
        let result = |name: &str| {
            let digest = std::fs::read_to_string(own.join(format!("{name}.digest")));
            digest.or_else(|_| {
                let log = std::fs::read_to_string(own.join(format!("{name}.log")))
                    .with_context(|| format!("`{}` was not built\n{output}", own.display()))?;
                anyhow::Ok(case.without_addresses(failure(&log)).error)
            })
        };
        let name = own.file_name().unwrap_or_default().to_string_lossy().into_owned();
        results.push(BothWays { name, thin: result("thin")?, whole: result("whole")? });
    }
    Ok(results)
}

/// The program, and how many seconds no case keeps it busy.
const EBIKO: &str = "timeout 60 /usr/local/bin/ebiko";

/// Cases that were built, with the directory of each.
struct Built {
    cases: Vec<(PathBuf, Arranged)>,
    _dir: tempfile::TempDir,
}

/// Makes the Dockerfile start from an image where it starts from nothing. Where it has one stage, what that does until its
/// last `RUN` becomes an image of its own, which two stages start from, so that neither goes on where it was made.
fn on_a_base(dockerfile: &str) -> String {
    let starts = |line: &&str, word: &str| {
        line.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    let mut lines: Vec<&str> = dockerfile.lines().collect();
    for line in &mut lines {
        if line.eq_ignore_ascii_case("FROM scratch") {
            *line = "FROM busybox";
        }
    }
    let froms: Vec<usize> = (0..lines.len()).filter(|&at| starts(&lines[at], "FROM ")).collect();
    let is_whole = |line: &&str| !line.ends_with('\\') && !line.contains("<<");
    let last_run = lines.iter().rposition(|line| starts(line, "RUN ") && is_whole(line));
    let mut text = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        match (&froms[..], last_run) {
            ([only], Some(_)) if *only == at => text.push(format!("{line} AS prepared")),
            ([_], Some(last)) if last == at => text.extend([
                (*line).to_owned(),
                "FROM prepared AS other".to_owned(),
                "FROM prepared".to_owned(),
                "COPY --from=other /bin/busybox /other".to_owned(),
            ]),
            _ => text.push((*line).to_owned()),
        }
    }
    text.join("\n") + "\n"
}

/// Arranges the cases, each with what `rewritten` makes of its Dockerfile, and runs for each, in its directory, what
/// `command` makes of its flags.
fn build(
    cases: &[BuildCase],
    machine: &Machine,
    rewritten: impl Fn(&str) -> String,
    command: impl Fn(&[String]) -> String,
) -> anyhow::Result<(Built, PodOutput)> {
    let dir = crate::scratch_dir("build-cases-")?;
    let registry = Registry::builder().image(base()?).start()?;
    let mut script = match machine {
        Machine::Workstation => String::from("mkdir -p /var/tmp\n"),
        Machine::Pod(..) => String::new(),
    };
    let mut arranged = Vec::new();
    for case in cases {
        let own = dir.path().join(case.name());
        std::fs::create_dir(&own)?;
        let case = case.arrange(&own)?;
        let path = own.join("context").join(&case.dockerfile);
        // A Dockerfile that is no text is about just that.
        if let Ok(text) = std::fs::read_to_string(&path) {
            let new = rewritten(&text);
            if new != text {
                Tree::new().file(&case.dockerfile, new).write_to(&own.join("context"))?;
            }
        }
        for base in &case.bases {
            let source = format!("oci:{}:image", own.join("bases").join(base).display());
            registry.push(&source, &format!("library/{base}"), "oci")?;
        }
        arranged.push((own, case));
    }
    for (case, (_, arranged)) in cases.iter().zip(&arranged) {
        let flags = flags(&format!("/cases/{}", case.name()), arranged, &registry.host());
        let name = quoted(&case.name());
        let _infallible = writeln!(script, "cd /cases/{name}; {}", command(&flags));
    }
    std::fs::write(dir.path().join("script"), script)?;
    let pod = machine.pod()?.timeout(Duration::from_mins(10)).bind(dir.path(), "/cases");
    if let Machine::Pod(_, Profile::Restricted | Profile::UnconfinedNonRoot) = machine {
        crate::command::capture(
            std::process::Command::new("chown").args(["-hR", "1000:1000"]).arg(dir.path()),
        )?;
    }
    let output = pod.run(machine.shell().iter().copied().chain(["/cases/script"]))?;
    Ok((Built { cases: arranged, _dir: dir }, output))
}

/// The flags for a case whose files the program sees in `dir`.
fn flags(dir: &str, case: &Arranged, registry: &str) -> Vec<String> {
    let mut flags = vec![
        format!("--context=dir://{dir}/context"),
        format!("--dockerfile={dir}/context/{}", case.dockerfile),
        format!("--registry-mirror={registry}"),
        format!("--insecure-registry={registry}"),
        "--no-push".to_owned(),
        "--log-format=json".to_owned(),
        format!("--oci-layout-path={dir}/image"),
    ];
    let pairs = |flag: &str, pairs: &std::collections::BTreeMap<String, String>| {
        pairs.iter().map(|(key, value)| format!("--{flag}={key}={value}")).collect::<Vec<_>>()
    };
    flags.extend(pairs("build-arg", &case.build_args));
    flags.extend(pairs("label", &case.labels));
    flags.extend(pairs("build-context", &case.references));
    flags.extend(
        case.directories.iter().map(|name| format!("--build-context={name}={dir}/named/{name}")),
    );
    flags.extend(case.secrets.iter().map(|id| format!("--secret=id={id},src={dir}/secrets/{id}")));
    flags.extend(case.allow.iter().map(|name| format!("--allow={name}")));
    flags.extend(case.target.iter().map(|name| format!("--target={name}")));
    flags.extend(case.platform.iter().map(|name| format!("--custom-platform={name}")));
    if case.rewrite_timestamp {
        flags.push("--rewrite-timestamp".to_owned());
    }
    flags
}

/// Reads what a build left in its directory.
fn outcome(dir: &Path) -> anyhow::Result<Record> {
    let read = |name: &str| {
        let bytes = std::fs::read(dir.join(name));
        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    if read("code").context("it was not run")?.trim() == "0" {
        return Record::of_layout(&dir.join("image"));
    }
    Ok(failure(&read("stderr")?))
}

/// The message of a failed build and the lines that it names, from a log of JSON lines.
fn failure(log: &str) -> Record {
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let Some(fatal) = lines.rfind(|line| line["level"] == "fatal") else {
        return Record::of_error(log, Vec::new());
    };
    let blamed = fatal["lines"].as_array().into_iter().flatten();
    let blamed = blamed.filter_map(|line| line.as_u64().and_then(|line| line.try_into().ok()));
    Record::of_error(fatal["msg"].as_str().unwrap_or(log), blamed.collect())
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_read_from_the_log() {
        let log = "{\"level\":\"info\",\"msg\":\"x\"}\n{\"level\":\"fatal\",\"msg\":\"error: no\",\"lines\":[2,3]}\n";
        assert_eq!(failure(log), Record::of_error("error: no", vec![2, 3]));
        assert_eq!(failure("panic"), Record::of_error("panic", vec![]));
    }

    #[test]
    fn what_is_made_before_the_copies_is_in_a_base() {
        let text = on_a_base("# c\nFROM scratch\nCOPY a /\n");
        assert_eq!(text, "# c\nFROM busybox\nCOPY a /\n");
        let text = on_a_base("from busybox\nRUN x\nRUN y \\\n z\nRUN w\nCOPY a /\n");
        assert_eq!(
            text,
            "from busybox AS prepared\nRUN x\nRUN y \\\n z\nRUN w\nFROM prepared AS other\nFROM prepared\n\
             COPY --from=other /bin/busybox /other\nCOPY a /\n"
        );
        let text = "FROM busybox AS a\nRUN x\nFROM a\nCOPY b /\n";
        assert_eq!(on_a_base(text), text);
    }

    #[test]
    fn a_word_is_one_word_for_the_shell() {
        let echo = format!("echo {}", quoted("a 'b' $c"));
        let mut sh = std::process::Command::new("sh");
        assert_eq!(crate::command::capture_text(sh.args(["-c", &echo])).unwrap(), "a 'b' $c\n");
    }
}
