//! Corpora about single words: expansion, ports, paths, git addresses, modes.

use ebiko_plan::expand::{Expander, Quotes, Variables};
use ebiko_plan::{GitSource, ModeChange, paths, ports};
use serde_json::{Value, json};

use super::{strings, text};
use crate::conform::report::Outcome;

/// The environment of a case; of two entries with one name the last counts.
struct Environment {
    pairs: Vec<(String, String)>,
    /// As on Windows.
    ignores_case: bool,
}

impl Variables for Environment {
    fn get(&self, name: &str) -> Option<&str> {
        let is_same =
            |other: &str| other == name || self.ignores_case && other.eq_ignore_ascii_case(name);
        let (_, value) = self.pairs.iter().rfind(|(other, _)| is_same(other))?;
        Some(value)
    }
}

pub(super) fn expansion(case: &Value) -> Outcome {
    let pairs = strings(&case["env"]).into_iter().map(|entry| {
        let (name, value) = entry.split_once('=').unwrap_or((&entry, ""));
        (name.to_owned(), value.to_owned())
    });
    let environment =
        Environment { pairs: pairs.collect(), ignores_case: case["platform"] == "windows" };
    let options = &case["options"];
    let quotes = match (options["raw_quotes"] == true, options["skip_process_quotes"] == true) {
        (_, true) => Quotes::Ignored,
        (true, false) => Quotes::Kept,
        (false, false) => Quotes::Removed,
    };
    let expander = Expander {
        escape: text(options, "escape").chars().next().unwrap_or('\\'),
        quotes,
        keeps_escapes: options["raw_escapes"] == true,
        keeps_unset: options["skip_unset_env"] == true,
    };
    let input = text(case, "input");
    let expansion = match expander.expand(input, &environment) {
        Ok(expansion) => expansion,
        Err(error) => {
            let message = error.to_string();
            let wanted = [text(case, "error_text"), text(case, "error_contains")];
            return if case["error"] != true {
                Outcome::fail(format!("expanding {input:?} fails: {message}"))
            } else if let Some(wanted) = wanted.iter().find(|wanted| !message.contains(**wanted)) {
                Outcome::fail(format!(
                    "expanding {input:?}: expected the error {wanted:?}, got {message:?}"
                ))
            } else {
                Outcome::Pass
            };
        }
    };
    if case["error"] == true {
        return Outcome::fail(format!(
            "expanding {input:?} must fail, and gives {:?}",
            expansion.text
        ));
    }
    let (words, matched, unmatched) =
        (json!(expansion.words), json!(expansion.matched), json!(expansion.unmatched));
    let whole = json!(expansion.text);
    let is_words = case["op"] == "words";
    for (name, actual) in [
        ("expected", if is_words { &words } else { &whole }),
        ("expected_words", &words),
        ("matched", &matched),
        ("unmatched", &unmatched),
    ] {
        if case.get(name).is_some_and(|expected| expected != actual) {
            return Outcome::fail(format!(
                "expanding {input:?}, {name}: expected {}, got {actual}",
                case[name]
            ));
        }
    }
    Outcome::Pass
}

pub(super) fn ports(case: &Value) -> Outcome {
    let specs = strings(&case["specs"]);
    let parsed: Result<Vec<Vec<String>>, String> =
        specs.iter().map(|spec| ports::parse(spec)).collect();
    match (parsed, case["error"].as_str()) {
        (Ok(ports), None) => Outcome::compare(&case["ports"], &json!(ports.concat())),
        (Err(error), Some(expected)) => Outcome::compare(&expected.into(), &error.into()),
        (Ok(ports), Some(error)) => {
            Outcome::fail(format!("{specs:?} must fail with {error:?}, and gives {ports:?}"))
        }
        (Err(error), None) => Outcome::fail(format!("{specs:?} fails: {error}")),
    }
}

pub(super) fn work_dir(case: &Value) -> Outcome {
    let actual = paths::work_dir(text(case, "current"), text(case, "path"));
    Outcome::compare(&case["workdir"], &actual.into())
}

pub(super) fn destination(case: &Value) -> Outcome {
    let actual = paths::destination(text(case, "workdir"), text(case, "dest"));
    Outcome::compare(&case["llb_dest"], &actual.into())
}

pub(super) fn git_source(case: &Value) -> Outcome {
    let input = text(case, "input");
    let source = match GitSource::parse(input) {
        Err(error) => {
            return match case["error"].as_str().filter(|_| case["is_git"] == true) {
                Some(expected) => Outcome::compare(&expected.into(), &error.to_string().into()),
                None => Outcome::fail(format!("{input:?} fails: {error}")),
            };
        }
        Ok(None) => return Outcome::compare(&case["is_git"], &false.into()),
        Ok(Some(source)) => source,
    };
    if case["is_git"] != true || case["error"].is_string() {
        return Outcome::fail(format!("{input:?} must be refused, and is {source:?}"));
    }
    // What could be a path as well is recorded as it is written; the scheme that it gets is added later in BuildKit.
    let is_bare = case["ref"]["IndistinguishableFromLocal"] == true;
    let remote = match source.remote.strip_prefix("https://") {
        Some(rest) if is_bare => rest.to_owned(),
        _ => source.remote,
    };
    let actual = json!({
        "Remote": remote,
        "Ref": source.reference.unwrap_or_default(),
        "SubDir": source.subdir,
        "Checksum": source.checksum.unwrap_or_default(),
        "KeepGitDir": source.keep_git_dir,
        "Submodules": source.submodules,
        "FetchByCommit": source.fetch_by_commit,
        "MTime": if source.commit_time { "commit" } else { "checkout" },
    });
    // What an address does not say has a default: `.git` goes, submodules come, files are as old as the checkout.
    let default = json!({"KeepGitDir": false, "Submodules": true, "MTime": "checkout"});
    for (field, actual) in actual.as_object().into_iter().flatten() {
        let given = &case["ref"][field];
        let is_given = !given.is_null() && (field != "MTime" || given != "");
        let expected = if is_given { given } else { &default[field] };
        if !expected.is_null() && expected != actual {
            return Outcome::fail(format!("{input:?}, {field}: expected {expected}, got {actual}"));
        }
    }
    Outcome::Pass
}

/// An address with query as one with fragment; what is no address of a repository stays as it is.
pub(super) fn git_fragment(case: &Value) -> Outcome {
    let input = text(case, "input");
    let source = GitSource::parse(input).ok().flatten();
    let is_git = source.is_some();
    let fragment = source.map_or_else(
        || input.to_owned(),
        |source| {
            let is_bare = !input.starts_with("https://");
            let mut text = match source.remote.strip_prefix("https://") {
                Some(rest) if is_bare => rest.to_owned(),
                _ => source.remote,
            };
            let subdir = source.subdir.trim_start_matches('/');
            let subdir =
                Some(subdir).filter(|subdir| case["with_subdir"] == true && !subdir.is_empty());
            if source.reference.is_some() || subdir.is_some() {
                text.push('#');
                text.extend(source.reference);
            }
            if let Some(subdir) = subdir {
                text.extend([":", subdir]);
            }
            text
        },
    );
    let expected = json!([case["ok"], case["expected"]]);
    Outcome::compare(&expected, &json!([is_git, fragment]))
}

pub(super) fn chmod(case: &Value) -> Outcome {
    let input = text(case, "key");
    let change: Result<ModeChange, _> = input.parse();
    let (change, modes) = match (change, case["value"].as_array()) {
        (Ok(change), Some(modes)) => (change, modes),
        (Err(_), None) => return Outcome::Pass,
        (Err(error), Some(_)) => return Outcome::fail(format!("{input:?} fails: {error}")),
        (Ok(change), None) => {
            return Outcome::fail(format!("{input:?} must fail, and is {change:?}"));
        }
    };
    for mode in modes {
        let octal = |at: usize| {
            u32::from_str_radix(mode[at].as_str().unwrap_or_default(), 8).unwrap_or_default()
        };
        let actual = change.apply(octal(0), mode[1] == true);
        if actual != octal(2) {
            return Outcome::fail(format!("{input:?} of {mode}: got {actual:04o}"));
        }
    }
    Outcome::Pass
}
