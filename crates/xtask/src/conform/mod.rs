//! Runs recorded facts about BuildKit and about the Harness step: `cargo xtask conform DIR` or `… FILE.jsonl`.
//!
//! `DIR` holds corpora, each in a folder of its own: small ones about one function each ([`corpora`]), which call the
//! libraries, and whole builds ([`integration`]), which run the program. What is not there is left out. Runs of the Harness
//! step ([`vectors`]) are in one file.

mod corpora;
mod integration;
mod report;
mod vectors;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use regex::Regex;
use serde::de::DeserializeOwned;

use self::integration::Place;
use self::report::Report;

const USAGE: &str =
    "cargo xtask conform DIR|FILE.jsonl [--place pod|private] [--only REGEX] [--json FILE]";

/// What the command line asks for.
#[derive(Debug)]
struct Options {
    dir: PathBuf,
    place: Place,
    only: Regex,
    json: Option<PathBuf>,
}

/// Runs everything in a folder.
pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let options = Options::read(args)?;
    let report = Report::default();
    if options.dir.is_file() {
        vectors::run(&options.dir, &options.only, &report)?;
    } else {
        ensure!(options.dir.is_dir(), "there is no folder `{}`", options.dir.display());
        corpora::run(&options.dir, &options.only, &report)?;
        let builds = options.dir.join("integration");
        if builds.join("cases.json").is_file() {
            integration::run(&builds, options.place, &options.only, &report)?;
        }
        let vectors = options.dir.join("harness-vectors.jsonl");
        if vectors.is_file() {
            vectors::run(&vectors, &options.only, &report)?;
        }
    }
    if let Some(path) = &options.json {
        report.write_json(path)?;
    }
    report.print_summary();
    let [passed, failed, unsupported] = report.counts();
    ensure!(passed + failed + unsupported > 0, "there is nothing to run");
    match failed {
        0 => Ok(()),
        failed => bail!("{failed} cases do not conform"),
    }
}

impl Options {
    fn read(args: &[String]) -> anyhow::Result<Self> {
        let mut options =
            Self { dir: PathBuf::new(), place: Place::Pod, only: Regex::new("")?, json: None };
        let mut words = args.iter();
        while let Some(word) = words.next() {
            if !word.starts_with("--") {
                ensure!(options.dir.as_os_str().is_empty(), "one folder at a time: {USAGE}");
                options.dir = word.into();
                continue;
            }
            let (name, value) = if let Some(pair) = word.split_once('=') {
                pair
            } else {
                let value = words.next().with_context(|| format!("`{word}` needs a value"))?;
                (word.as_str(), value.as_str())
            };
            match (name, value) {
                ("--place", "pod") => options.place = Place::Pod,
                ("--place", "private") => options.place = Place::Private,
                ("--place", other) => bail!("there is no place `{other}`: {USAGE}"),
                ("--only", value) => {
                    options.only =
                        Regex::new(value).context("`--only` is no regular expression")?;
                }
                ("--json", value) => options.json = Some(value.into()),
                (other, _) => bail!("there is no option `{other}`: {USAGE}"),
            }
        }
        ensure!(!options.dir.as_os_str().is_empty(), "{USAGE}");
        Ok(options)
    }
}

/// Reads a JSON file.
fn read_json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("`{}` has another form than expected", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Options, String> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        Options::read(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read_in_any_order() {
        let options = read(&["--place", "private", "d", "--only=^shell/", "--json", "f"]).unwrap();
        assert_eq!((options.place, options.dir), (Place::Private, "d".into()));
        assert!(options.only.is_match("shell/1") && !options.only.is_match("x/shell/1"));
        assert_eq!(read(&["d"]).unwrap().place, Place::Pod);
        for wrong in [
            &[][..],
            &["a", "b"],
            &["d", "--place", "x"],
            &["d", "--only"],
            &["d", "--no=1"],
            &["d", "--only=("],
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_folder_without_corpora_is_an_error() {
        let dir = testkit::scratch_dir("conform-").unwrap();
        let error = run(&[dir.path().display().to_string()]).unwrap_err();
        assert_eq!(error.to_string(), "there is nothing to run");
    }
}
