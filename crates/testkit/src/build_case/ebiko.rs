//! Building cases with the program that is tested.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::{Arranged, BuildCase, base};
use crate::record::Record;
use crate::{Pod, Profile, Registry, executor_binary};

/// No case takes longer than this many seconds.
const LIMIT: u32 = 60;

/// Builds the cases one after the other, each in a private root on one disposable machine, and returns what each gave.
///
/// One machine for many builds: starting a build takes less time than starting a pod.
///
/// # Errors
///
/// Fails if the machine cannot be had or a build left neither an image nor an exit code.
pub fn build_in_private_root(cases: &[BuildCase]) -> anyhow::Result<Vec<Record>> {
    let dir = crate::scratch_dir("build-cases-")?;
    let registry = Registry::builder().image(base()?).start()?;
    let mut script = String::from("mkdir -p /var/tmp\n");
    let mut arranged = Vec::new();
    for case in cases {
        let own = dir.path().join(case.name());
        std::fs::create_dir(&own)?;
        let case = case.arrange(&own)?;
        for base in &case.bases {
            let source = format!("oci:{}:image", own.join("bases").join(base).display());
            registry.push(&source, &format!("library/{base}"), "oci")?;
        }
        arranged.push((own, case));
    }
    for (case, (_, arranged)) in cases.iter().zip(&arranged) {
        let words = flags(&format!("/cases/{}", case.name()), arranged, &registry.host());
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let _infallible = writeln!(
            script,
            "cd /cases/{name}; timeout {LIMIT} /usr/local/bin/ebiko {} >stdout 2>stderr; echo $? >code",
            words.join(" "),
            name = quoted(&case.name()),
        );
    }
    std::fs::write(dir.path().join("script"), script)?;
    let machine = Pod::new(base()?.root())
        .profile(Profile::Workstation)
        .timeout(Duration::from_mins(10))
        .bind(dir.path(), "/cases")
        .bind_read_only(executor_binary()?, "/usr/local/bin/ebiko");
    let output = machine.run(["sh", "/cases/script"])?;
    let mut records = Vec::new();
    for (own, case) in &arranged {
        let record = outcome(own)
            .with_context(|| format!("`{}` cannot be judged\n{output}", own.display()))?;
        records.push(case.without_addresses(record));
    }
    Ok(records)
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
    fn a_word_is_one_word_for_the_shell() {
        let echo = format!("echo {}", quoted("a 'b' $c"));
        let mut sh = std::process::Command::new("sh");
        assert_eq!(crate::command::capture_text(sh.args(["-c", &echo])).unwrap(), "a 'b' $c\n");
    }
}
