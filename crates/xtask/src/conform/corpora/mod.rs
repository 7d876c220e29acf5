//! The small corpora: tables of inputs and what one function makes of them.
//!
//! Unlike the judges of whole builds these call the libraries: the data is what others recorded, and the functions are
//! what is on trial.

mod checks;
mod files;
mod instructions;
mod patterns;
mod words;

use std::path::Path;

use anyhow::Context as _;
use regex::Regex;
use serde_json::Value;

use super::report::{Outcome, Report};

/// A corpus: its file below the folder, its name in reports, and what judges one case.
struct Corpus {
    file: &'static str,
    name: &'static str,
    /// Where in the file the list of cases is; empty for the whole file.
    pointer: &'static str,
    judge: fn(&Value) -> Outcome,
}

const CORPORA: [Corpus; 17] = [
    Corpus {
        file: "parser/directives.json",
        name: "directives",
        pointer: "",
        judge: files::directives,
    },
    Corpus {
        file: "parser/files.json",
        name: "parser-files",
        pointer: "",
        judge: files::recorded_file,
    },
    Corpus {
        file: "parser/units.json",
        name: "json-array",
        pointer: "/json_array",
        judge: files::json_array,
    },
    Corpus {
        file: "parser/units.json",
        name: "heredocs",
        pointer: "/heredocs_from_line",
        judge: files::heredocs,
    },
    Corpus {
        file: "parser/units.json",
        name: "quoted-words",
        pointer: "/words",
        judge: files::quoted_words,
    },
    Corpus {
        file: "git/fragment_format.json",
        name: "git-fragment",
        pointer: "",
        judge: words::git_fragment,
    },
    Corpus {
        file: "instructions/cases.json",
        name: "instructions",
        pointer: "",
        judge: instructions::judge,
    },
    Corpus { file: "shell/lex.json", name: "shell", pointer: "", judge: words::expansion },
    Corpus { file: "expose/ports.json", name: "expose", pointer: "", judge: words::ports },
    Corpus { file: "paths/workdir.json", name: "workdir", pointer: "", judge: words::work_dir },
    Corpus {
        file: "paths/copy_dest.json",
        name: "copy-dest",
        pointer: "",
        judge: words::destination,
    },
    Corpus { file: "git/git_ref.json", name: "git-ref", pointer: "", judge: words::git_source },
    Corpus { file: "chmod/symbolic.json", name: "chmod", pointer: "/cases", judge: words::chmod },
    Corpus {
        file: "ignore/matcher.json",
        name: "ignore-matcher",
        pointer: "",
        judge: patterns::matcher,
    },
    Corpus { file: "lint/cases.json", name: "lint", pointer: "", judge: checks::lint },
    Corpus {
        file: "subrequests/cases.json",
        name: "subrequests",
        pointer: "",
        judge: checks::request,
    },
    Corpus {
        file: "ignore/ignorefile.json",
        name: "ignore-file",
        pointer: "",
        judge: patterns::file,
    },
];

/// Runs those that `dir` holds.
pub(super) fn run(dir: &Path, only: &Regex, report: &Report) -> anyhow::Result<()> {
    for corpus in &CORPORA {
        let path = dir.join(corpus.file);
        if !path.is_file() {
            continue;
        }
        let file: Value = super::read_json(&path)?;
        let cases = file
            .pointer(corpus.pointer)
            .with_context(|| format!("there is no `{}` in `{}`", corpus.pointer, path.display()))?;
        for (id, case) in numbered(cases) {
            run_one(corpus.name, &id, only, report, || (corpus.judge)(&case));
        }
    }
    for (id, case) in files::folders(&dir.join("parser"))? {
        run_one("parser", &id, only, report, || files::recorded_file(&case));
    }
    Ok(())
}

fn run_one(
    corpus: &'static str,
    id: &str,
    only: &Regex,
    report: &Report,
    judge: impl FnOnce() -> Outcome + std::panic::UnwindSafe,
) {
    if !only.is_match(&format!("{corpus}/{id}")) {
        return;
    }
    // A panic is a failure of that case, and no reason to leave the others out.
    let outcome = std::panic::catch_unwind(judge).unwrap_or_else(|_| Outcome::fail("it panics"));
    report.add(corpus, id, outcome);
}

/// Cases with their names; those that have none are counted. The cases of an object are its fields as `key` and `value`.
fn numbered(cases: &Value) -> Vec<(String, Value)> {
    if let Some(fields) = cases.as_object() {
        let case = |(key, value): (&String, &Value)| {
            (format!("`{key}`"), serde_json::json!({ "key": key, "value": value }))
        };
        return fields.iter().map(case).collect();
    }
    let list = cases.as_array().into_iter().flatten().enumerate();
    list.map(|(number, case)| {
        let name = case["name"].as_str().map_or_else(|| number.to_string(), str::to_owned);
        (name, case.clone())
    })
    .collect()
}

/// The text of a field; empty where there is none.
fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap_or_default()
}

/// The strings of a list.
fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// The message without what is said elsewhere or differs from run to run in BuildKit: the line in front of it, and which of two
/// equally near words is guessed.
fn without_guess(message: &str) -> &str {
    let message = message.split(" (did you mean").next().unwrap_or(message);
    match message
        .strip_prefix("dockerfile parse error on line ")
        .and_then(|rest| rest.split_once(": "))
    {
        Some((_, rest)) => rest,
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cases_have_names() {
        let ids = |cases: &Value| numbered(cases).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(ids(&json!([{"name": "a"}, {}])), ["a", "1"]);
        assert_eq!(ids(&json!({"u+x": []})), ["`u+x`"]);
    }

    /// Every judge must be able to say no: each gets a case that is right and the same with a wrong expectation.
    #[test]
    #[expect(clippy::too_many_lines, reason = "it is a table")]
    fn judges_tell_right_from_wrong() {
        let env = ["A=1"];
        for (name, right, pointer, wrong) in [
            (
                "shell",
                json!({"op": "both", "input": "$A b", "env": env, "expected": "1 b", "expected_words": ["1", "b"],
                             "matched": ["A"], "unmatched": []}),
                "/expected_words",
                json!(["1"]),
            ),
            (
                "shell",
                json!({"op": "word", "input": "${B?x}", "env": env, "error": true}),
                "/error",
                json!(false),
            ),
            (
                "expose",
                json!({"specs": ["80-81"], "ports": ["80/tcp", "81/tcp"]}),
                "/ports",
                json!(["80/tcp"]),
            ),
            (
                "workdir",
                json!({"current": "/a", "path": "b", "workdir": "/a/b"}),
                "/workdir",
                json!("/b"),
            ),
            (
                "copy-dest",
                json!({"workdir": "/w", "dest": ".", "llb_dest": "/w/"}),
                "/llb_dest",
                json!("/w"),
            ),
            (
                "git-ref",
                json!({"input": "https://h/a.git#r:s", "is_git": true, "ref": {"Remote": "https://h/a.git",
                               "Ref": "r", "SubDir": "s"}}),
                "/ref/Ref",
                json!("x"),
            ),
            ("git-ref", json!({"input": "https://h/a", "is_git": false}), "/is_git", json!(true)),
            (
                "chmod",
                json!({"key": "u+x", "value": [["0644", false, "0744"]]}),
                "/value/0/2",
                json!("0755"),
            ),
            ("chmod", json!({"key": "u+?", "value": "invalid syntax"}), "/value", json!([])),
            (
                "ignore-matcher",
                json!({"patterns": ["a", "!b"], "matches": {"a/b": true, "c": false}, "has_exclusions": true}),
                "/matches/c",
                json!(true),
            ),
            (
                "ignore-file",
                json!({"file": "# no\nx\n", "matches": {"x": true}}),
                "/matches/x",
                json!(false),
            ),
            (
                "directives",
                json!({"dockerfile": "# escape=`\n", "expect": {"escape": {"value": "`", "full": "`", "line": 1}}}),
                "/expect/escape/line",
                json!(2),
            ),
            (
                "lint",
                json!({"dockerfile": "FROM scratch as a\n", "warnings": [{"rule": "FromAsCasing", "line": 1,
                "message": "'as' and 'FROM' keywords' casing do not match",
                "description": "The 'as' keyword should match the case of the 'from' keyword",
                "url": "https://docs.docker.com/go/dockerfile/rule/from-as-casing/"}]}),
                "/warnings/0/line",
                json!(2),
            ),
            (
                "lint",
                json!({"dockerfile": "ARG I\nFROM $I\n", "check_error": "base name ($I) should not be blank",
                "warnings": [{"rule": "InvalidDefaultArgInFrom", "line": 2,
                "message": "Default value for ARG $I results in empty or invalid base image name",
                "description": "Default value for global ARG results in an empty or invalid base image name",
                "url": "https://docs.docker.com/go/dockerfile/rule/invalid-default-arg-in-from/"}]}),
                "/check_error",
                json!("x"),
            ),
            (
                "subrequests",
                json!({"request": "frontend.targets", "dockerfile": "FROM a AS b\n", "expect": {"targets": [
                {"name": "b", "base": "a", "default": true, "location": {"lines": [1]}}]}}),
                "/expect/targets/0/base",
                json!("c"),
            ),
            (
                "quoted-words",
                json!({"input": "a 'b c'", "words": ["a", "'b c'"]}),
                "/words/1",
                json!("b c"),
            ),
            (
                "git-fragment",
                json!({"input": "https://h/a.git?ref=r&subdir=/s", "with_subdir": true, "ok": true,
                               "expected": "https://h/a.git#r:s"}),
                "/expected",
                json!("https://h/a.git#r"),
            ),
            (
                "git-fragment",
                json!({"input": "https://h/a", "with_subdir": false, "ok": false, "expected": "https://h/a"}),
                "/ok",
                json!(true),
            ),
            (
                "instructions",
                json!({"kind": "one", "dockerfile": "RUN --mount=foo y", "expect": {"code": "RUN --mount=foo y",
                "lines": [1, 1], "name": "RUN", "cmdline": ["y"], "shell": true, "network": "default",
                "security": "sandbox", "flags_used": ["mount"],
                "mount_error": "invalid field 'foo' must be a key=value pair"}}),
                "/expect/mount_error",
                json!("x"),
            ),
            ("json-array", json!({"input": "[\"a\"]", "items": ["a"]}), "/items", json!(["b"])),
            (
                "heredocs",
                json!({"line": "RUN <<-'A' x", "heredocs": [{"name": "A", "chomp": true, "expand": false, "fd": 0}]}),
                "/heredocs/0/chomp",
                json!(false),
            ),
            (
                "parser-files",
                json!({"dockerfile": "FROM a\nRUN b\n", "expect": {"nodes": [
                {"cmd": "FROM", "original": "FROM a", "start_line": 1, "end_line": 1},
                {"cmd": "RUN", "original": "RUN b", "start_line": 2, "end_line": 2}]}}),
                "/expect/nodes/1/end_line",
                json!(3),
            ),
            (
                "parser-files",
                json!({"dockerfile": "FROM a\nLABEL\n", "expect": {"error": "x"}}),
                "/dockerfile",
                json!("FROM a"),
            ),
            (
                "instructions",
                json!({"kind": "one", "dockerfile": "ENV a=b", "expect": {"code": "ENV a=b", "lines": [1, 1],
                "name": "ENV", "env": [{"key": "a", "value": "b", "no_delim": false}]}}),
                "/expect/env/0/value",
                json!("c"),
            ),
            (
                "instructions",
                json!({"kind": "full", "dockerfile": "FROM a AS b\nUSER c", "expect": {"meta_args": [], "stages": [
                {"base": "a", "name": "b", "platform": "", "lines": [1, 1], "code": "FROM a AS b", "from_keyword": "FROM",
                 "commands": [{"name": "USER", "user": "c", "code": "USER c", "lines": [2, 2]}]}]}}),
                "/expect/stages/0/commands/0/user",
                json!("d"),
            ),
        ] {
            let judge = CORPORA.iter().find(|corpus| corpus.name == name).unwrap().judge;
            assert_eq!(judge(&right), Outcome::Pass, "{name}: {right}");
            let mut changed = right.clone();
            *changed.pointer_mut(pointer).unwrap() = wrong;
            assert_ne!(judge(&changed), Outcome::Pass, "{name}: {changed} must fail");
        }
    }
}
