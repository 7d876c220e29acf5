//! Corpora about whole files as the parser divides them.
//!
//! The parser gives instructions with types and not the recorded tree of words. What both have is compared: which
//! instructions there are, on which lines, their text, flags, comments and here-documents; the corpus `instructions` is about
//! their words.

use std::path::Path;

use dockerfile_parser::{
    Command, Directive, Directives, Dockerfile, Escape, Heredoc, InlineFile, Instruction,
    InstructionKind, detect_syntax,
};
use serde_json::{Value, json};

use super::{text, without_guess};
use crate::conform::report::Outcome;

/// The folders `positive`, `negative` and `lines`, as cases of the same form as the files of `files.json`.
pub(super) fn folders(dir: &Path) -> anyhow::Result<Vec<(String, Value)>> {
    let mut cases = Vec::new();
    if !dir.is_dir() {
        return Ok(cases);
    }
    for found in walkdir::WalkDir::new(dir).max_depth(3).sort_by_file_name() {
        let found = found?;
        if found.file_name() != "Dockerfile" {
            continue;
        }
        let Some(folder) = found.path().parent() else { continue };
        let text = String::from_utf8_lossy(&std::fs::read(found.path())?).into_owned();
        let expected = ["ast.json", "error.json"].map(|name| folder.join(name));
        let Some(expected) = expected.iter().find(|path| path.is_file()) else { continue };
        let expect: Value = crate::conform::read_json(expected)?;
        let id = folder.strip_prefix(dir).unwrap_or(folder).display().to_string();
        cases.push((id, json!({ "dockerfile": text, "expect": expect })));
    }
    Ok(cases)
}

pub(super) fn recorded_file(case: &Value) -> Outcome {
    let expect = &case["expect"];
    let reading = Dockerfile::read("Dockerfile", text(case, "dockerfile").as_bytes());
    let first = reading.errors.first().map(|error| without_guess(&error.message).to_owned());
    if expect["error"].is_string() {
        return match first {
            Some(_) => Outcome::Pass,
            None => Outcome::fail(format!("it must fail: {}", expect["error"])),
        };
    }
    if !reading.is_divided {
        return Outcome::fail(format!("it fails: {}", first.unwrap_or_default()));
    }
    let file = &reading.file;
    let mut nodes: Vec<Value> = file.meta_args.iter().map(|arg| node(arg, &[])).collect();
    for stage in &file.stages {
        nodes.push(node(&stage.from, &[]));
        nodes.extend(
            stage
                .instructions
                .iter()
                .map(|instruction| node(instruction, heredocs_of(&instruction.kind))),
        );
    }
    let expected = expect["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    if first.is_none() && nodes.len() != expected.len() {
        return Outcome::fail(format!(
            "expected {} instructions, got {}",
            expected.len(),
            nodes.len()
        ));
    }
    for actual in nodes {
        let line = &actual["start_line"];
        let Some(expected) = expected.iter().find(|expected| expected["start_line"] == *line)
        else {
            return Outcome::fail(format!("line {line}: expected no instruction, got {actual}"));
        };
        for (field, actual) in actual.as_object().into_iter().flatten() {
            let missing = json!([]);
            let expected = expected.get(field).unwrap_or(&missing);
            // COPY and ADD keep the content of a file, not the here-document that it was.
            let is_kept = field != "heredocs"
                || expected.as_array().is_none_or(Vec::is_empty)
                || *actual != json!([]);
            if is_kept && expected != actual {
                return Outcome::fail(format!(
                    "line {line}, {field}: expected {expected}, got {actual}"
                ));
            }
        }
    }
    Outcome::Pass
}

/// The parts of a recorded node that an instruction has.
fn node<K>(instruction: &Instruction<K>, heredocs: &[Heredoc]) -> Value {
    let flags = instruction.flags.iter().map(|flag| match &flag.value {
        Some(value) => format!("--{}={value}", flag.name),
        None => format!("--{}", flag.name),
    });
    json!({
        "cmd": instruction.keyword.value,
        "original": instruction.original,
        "start_line": instruction.lines.start(),
        "end_line": instruction.lines.end(),
        "flags": flags.collect::<Vec<_>>(),
        "prev_comment": instruction.comments,
        "heredocs": heredocs.iter().map(|heredoc| {
            let mut value = facts(heredoc);
            value["content"] = heredoc.content.as_str().into();
            value
        }).collect::<Vec<_>>(),
    })
}

fn heredocs_of(kind: &InstructionKind) -> &[Heredoc] {
    match kind {
        InstructionKind::Run(run) => &run.heredocs,
        _ => &[],
    }
}

fn facts(heredoc: &Heredoc) -> Value {
    json!({
        "name": heredoc.name,
        "expand": heredoc.expand,
        "chomp": heredoc.chomp,
        "fd": heredoc.file_descriptor,
    })
}

pub(super) fn directives(case: &Value) -> Outcome {
    let bytes = text(case, "dockerfile").as_bytes();
    let found = Directives::find(bytes);
    let expect = &case["expect"];
    let pairs = [("syntax", &found.syntax), ("check", &found.check), ("escape", &found.escape)];
    for (name, directive) in pairs {
        let actual = directive.as_ref().map(|directive: &Directive| {
            json!({ "value": directive.first_word(), "full": directive.value.value, "line": directive.line })
        });
        let actual = actual.unwrap_or_default();
        if expect[name] != actual {
            return Outcome::fail(format!("{name}: expected {}, got {actual}", expect[name]));
        }
    }
    let detected = detect_syntax(bytes).map(|directive| {
        json!({ "cmdline": directive.value.value, "ref": directive.first_word(), "line": directive.line })
    });
    Outcome::compare(&expect["detect_syntax"], &detected.unwrap_or_default())
}

/// Whether a text is an array of strings decides between two forms of `CMD`.
pub(super) fn json_array(case: &Value) -> Outcome {
    let file = format!("FROM scratch\nCMD {}\n", text(case, "input"));
    let parsed = Dockerfile::parse("Dockerfile", file.as_bytes());
    let kind = parsed.as_ref().ok().and_then(|file| file.stages.first()?.instructions.first());
    let items = match kind.map(|instruction| &instruction.kind) {
        Some(InstructionKind::Cmd(cmd)) => match &cmd.command {
            Command::Exec(items) => Some(items),
            Command::Shell(_) => None,
        },
        _ => None,
    };
    match (case.get("items"), items) {
        (Some(expected), Some(items)) => Outcome::compare(expected, &json!(items)),
        (None, None) => Outcome::Pass,
        (Some(_), None) => Outcome::fail(format!("{} must be an array", case["input"])),
        (None, Some(items)) => Outcome::fail(format!(
            "{} must be no array of strings, and is {items:?}",
            case["input"]
        )),
    }
}

pub(super) fn quoted_words(case: &Value) -> Outcome {
    let input = text(case, "input");
    let words = dockerfile_parser::quoted_words(input, Escape::Backslash);
    let words: Vec<&str> = words.into_iter().filter_map(|range| input.get(range)).collect();
    Outcome::compare(&case["words"], &json!(words))
}

fn inline_files(expected: &[Value], files: &[InlineFile]) -> Outcome {
    let expected: Value =
        expected.iter().map(|heredoc| json!([heredoc["name"], heredoc["expand"]])).collect();
    let actual: Value = files.iter().map(|file| json!([file.name, file.expand])).collect();
    Outcome::compare(&expected, &actual)
}

/// The operators in a line; the bodies are made up.
pub(super) fn heredocs(case: &Value) -> Outcome {
    let line = text(case, "line");
    let expected = case["heredocs"].as_array().map_or(&[][..], Vec::as_slice);
    let ends: Vec<&str> = expected.iter().map(|heredoc| text(heredoc, "name")).collect();
    let file = format!("FROM scratch\n{line}\n{}\n", ends.join("\n"));
    let parsed = Dockerfile::parse("Dockerfile", file.as_bytes());
    let found = match &parsed {
        Ok(file) => {
            let instruction = file.stages.first().and_then(|stage| stage.instructions.first());
            match instruction.map(|instruction| &instruction.kind) {
                // Tabs are gone from the content already, so that nobody asks whether they were to go.
                Some(InstructionKind::Copy(copy)) => return inline_files(expected, &copy.files),
                Some(InstructionKind::Add(add)) => return inline_files(expected, &add.files),
                Some(kind) => heredocs_of(kind),
                None => &[],
            }
        }
        Err(_) if case["error"].is_string() => return Outcome::Pass,
        Err(errors) => {
            let message = errors.items().first().map_or("", |error| &error.message);
            return Outcome::fail(format!("{line:?} fails: {message}"));
        }
    };
    // A line that cannot be divided has no here-documents, and is none of the parser's business.
    let actual: Vec<Value> = found.iter().map(facts).collect();
    Outcome::compare(&json!(expected), &json!(actual))
}
