//! Instructions with their types, each against what BuildKit makes of the same text.

use dockerfile_parser::{
    Add, Arg, Command, Copy, Dockerfile, From, Healthcheck, Instruction, InstructionKind, KeyValue,
    Mount, Network, Run, Security, Spanned, Word,
};
use serde_json::{Map, Value, json};

use super::{text, without_guess};
use crate::conform::report::Outcome;

/// Put before an instruction that is recorded alone, because a file begins with `FROM`.
const FIRST_LINE: &str = "FROM scratch\n";

pub(super) fn judge(case: &Value) -> Outcome {
    let is_alone = case["kind"] == "one";
    let is_from = text(case, "dockerfile").trim_start().to_lowercase().starts_with("from");
    let before = if is_alone && !is_from { FIRST_LINE } else { "" };
    let file = format!("{before}{}", text(case, "dockerfile"));
    let expect = &case["expect"];
    let parsed = Dockerfile::parse("Dockerfile", file.as_bytes());
    let file = match (parsed, expect["error"].as_str()) {
        (Ok(file), None) => file,
        (Ok(_), Some(error)) => return Outcome::fail(format!("it must fail: {error}")),
        (Err(errors), expected) => {
            let errors: Vec<&str> = errors
                .items()
                .iter()
                .filter(|error| error.is_error())
                .map(|error| without_guess(&error.message))
                .collect();
            let Some(expected) = expected else {
                return Outcome::fail(format!("it fails: {}", errors.join("; ")));
            };
            // BuildKit stops at its first error; all of them are found here.
            if errors.contains(&without_guess(expected)) {
                return Outcome::Pass;
            }
            return Outcome::fail(format!("expected the error {expected:?}, got {errors:?}"));
        }
    };
    let shift = u32::from(!before.is_empty());
    if is_alone && is_from {
        let Some(stage) = file.stages.first() else { return Outcome::fail("there is no stage") };
        let all = from(&stage.from);
        let value =
            json!({ "base": all["base"], "platform": all["platform"], "stage": all["name"] });
        return compare("", expect, &value);
    }
    if is_alone {
        let Some(instruction) = file.stages.first().and_then(|stage| stage.instructions.first())
        else {
            return Outcome::fail("there is no instruction");
        };
        return compare("", expect, &command(instruction, shift));
    }
    let stages: Vec<Value> = file
        .stages
        .iter()
        .map(|stage| {
            let commands = stage.instructions.iter().map(|instruction| command(instruction, 0));
            let mut value = from(&stage.from);
            value["commands"] = commands.collect();
            value
        })
        .collect();
    let args: Vec<Value> = file
        .meta_args
        .iter()
        .map(|instruction| {
            let mut value = common(instruction, 0);
            value["args"] = arguments(&instruction.kind, &instruction.comments);
            value
        })
        .collect();
    match compare("meta_args", &expect["meta_args"], &json!(args)) {
        Outcome::Pass => compare("stages", &expect["stages"], &json!(stages)),
        failure => failure,
    }
}

/// Compares what ours has; of a recorded value that is empty nothing need be there.
fn compare(path: &str, expected: &Value, actual: &Value) -> Outcome {
    let problem = match (expected, actual) {
        (Value::String(expected), Value::String(actual)) if path.ends_with("/mount_error") => {
            without_guess(expected) != actual
        }
        (Value::Object(_), Value::Object(fields)) => {
            return fields
                .iter()
                .map(|(name, actual)| compare(&format!("{path}/{name}"), &expected[name], actual))
                .find(|outcome| *outcome != Outcome::Pass)
                .unwrap_or(Outcome::Pass);
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            return std::iter::zip(expected, actual)
                .enumerate()
                .map(|(at, (expected, actual))| compare(&format!("{path}/{at}"), expected, actual))
                .find(|outcome| *outcome != Outcome::Pass)
                .unwrap_or(Outcome::Pass);
        }
        (Value::Null, actual) => *actual != json!([]) && *actual != json!("") && !actual.is_null(),
        (expected, actual) => expected != actual,
    };
    if problem {
        Outcome::fail(format!("{path}: expected {expected}, got {actual}"))
    } else {
        Outcome::Pass
    }
}

fn common<K>(instruction: &Instruction<K>, shift: u32) -> Value {
    let lines = [*instruction.lines.start(), *instruction.lines.end()];
    json!({
        "name": instruction.keyword.value,
        "code": instruction.original,
        "lines": lines.map(|line| line.saturating_sub(shift)),
        "comments": instruction.comments,
    })
}

fn from(instruction: &Instruction<From>) -> Value {
    let from = &instruction.kind;
    let mut value = common(instruction, 0);
    if let Some(fields) = value.as_object_mut() {
        fields.remove("name");
    }
    value["from_keyword"] = instruction.keyword.value.as_str().into();
    value["base"] = from.image.value.as_str().into();
    value["name"] = word(from.name.as_ref());
    value["platform"] = word(from.platform.as_ref());
    if let Some(name) = &from.name {
        value["doc"] = instruction.description_of(name).unwrap_or_default().into();
    }
    value
}

fn word(word: Option<&Word>) -> Value {
    word.map_or("", |word| &word.value).into()
}

fn words(words: &[Word]) -> Value {
    words.iter().map(|word| word.value.as_str()).collect()
}

fn flag(flag: Option<Spanned<bool>>) -> Value {
    flag.is_some_and(|flag| flag.value).into()
}

fn arguments(arg: &Arg, comments: &[String]) -> Value {
    let item = |item: &dockerfile_parser::ArgItem| {
        let prefix = format!("{} ", item.key.value);
        let doc = comments.iter().find_map(|comment| comment.strip_prefix(&prefix));
        json!({
            "key": item.key.value,
            "value": item.default.as_ref().map(|word| word.value.as_str()),
            "doc": doc.unwrap_or_default(),
        })
    };
    arg.args.iter().map(item).collect()
}

fn pairs(pairs: &[KeyValue]) -> Value {
    let pair = |pair: &KeyValue| json!({ "key": pair.key.value, "value": pair.value.value, "no_delim": pair.legacy });
    pairs.iter().map(pair).collect()
}

fn command(instruction: &Instruction, shift: u32) -> Value {
    let mut value = common(instruction, shift);
    let fields = fields(instruction);
    if let (Some(all), Value::Object(fields)) = (value.as_object_mut(), fields) {
        all.extend(fields);
    }
    value
}

/// What an instruction has besides its text.
fn fields(instruction: &Instruction) -> Value {
    match &instruction.kind {
        InstructionKind::Add(add) => added(add),
        InstructionKind::Arg(arg) => json!({ "args": arguments(arg, &instruction.comments) }),
        InstructionKind::Cmd(cmd) => line(&cmd.command),
        InstructionKind::Copy(copy) => copied(copy),
        InstructionKind::Entrypoint(entrypoint) => line(&entrypoint.command),
        InstructionKind::Env(env) => json!({ "env": pairs(&env.pairs) }),
        InstructionKind::Expose(expose) => json!({ "ports": words(&expose.ports) }),
        InstructionKind::Healthcheck(check) => json!({ "health": health(check) }),
        InstructionKind::Label(label) => json!({ "labels": pairs(&label.pairs) }),
        InstructionKind::Maintainer(maintainer) => json!({ "maintainer": maintainer.name.value }),
        InstructionKind::OnBuild(on_build) => json!({ "expression": on_build.text }),
        InstructionKind::Run(run) => ran(run, instruction),
        InstructionKind::Shell(shell) => json!({ "shell_cmd": shell.argv }),
        InstructionKind::StopSignal(stop) => json!({ "signal": stop.signal.value }),
        InstructionKind::User(user) => json!({ "user": user.user.value }),
        InstructionKind::Volume(volume) => json!({ "volumes": words(&volume.paths) }),
        InstructionKind::Workdir(work_dir) => json!({ "path": work_dir.path.value }),
    }
}

fn line(command: &Command) -> Value {
    match command {
        Command::Shell(text) if text.is_empty() => json!({ "cmdline": [], "shell": true }),
        Command::Shell(text) => json!({ "cmdline": [text], "shell": true }),
        Command::Exec(argv) => json!({ "cmdline": argv, "shell": false }),
    }
}

fn ran(run: &Run, instruction: &Instruction) -> Value {
    let network = run.network.map(|network| network.value).unwrap_or_default();
    let security = run.security.map(|security| security.value).unwrap_or_default();
    let mut value = line(&run.command);
    value["network"] = match network {
        Network::Default => "default",
        Network::None => "none",
        Network::Host => "host",
    }
    .into();
    value["security"] = match security {
        Security::Sandbox => "sandbox",
        Security::Insecure => "insecure",
    }
    .into();
    let mut used: Vec<&str> = instruction.flags.iter().map(|flag| flag.name.as_str()).collect();
    used.sort_unstable();
    used.dedup();
    value["flags_used"] = json!(used);
    value["mount_error"] = mount_error(run).into();
    value
}

/// What is found wrong when a stage is planned that the target needs; empty where nothing is.
fn mount_error(run: &Run) -> String {
    let as_written = |value: &str| Ok::<_, std::convert::Infallible>(value.to_owned());
    let error = run.mounts.iter().find_map(|mount| Mount::parse(mount, as_written).err());
    error.map_or_else(String::new, |error| without_guess(&error.to_string()).to_owned())
}

fn copied(copy: &Copy) -> Value {
    json!({
        "sources": words(&copy.sources),
        "dest": copy.destination.value,
        "from": word(copy.from.as_ref()),
        "chown": word(copy.chown.as_ref()),
        "chmod": word(copy.chmod.as_ref()),
        "link": flag(copy.link),
        "parents": flag(copy.parents),
        "exclude": words(&copy.exclude),
    })
}

fn added(add: &Add) -> Value {
    let given = |flag: Option<Spanned<bool>>| json!(flag.map(|flag| flag.value));
    json!({
        "sources": words(&add.sources),
        "dest": add.destination.value,
        "chown": word(add.chown.as_ref()),
        "chmod": word(add.chmod.as_ref()),
        "checksum": word(add.checksum.as_ref()),
        "link": flag(add.link),
        "keep_git_dir": given(add.keep_git_dir),
        "unpack": given(add.unpack),
        "exclude": words(&add.exclude),
    })
}

/// As an image config has it, without durations that are not given.
fn health(check: &Healthcheck) -> Value {
    let Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries } =
        check
    else {
        return json!({ "Test": ["NONE"] });
    };
    let test: Vec<&str> = match command {
        Command::Shell(text) => vec!["CMD-SHELL", text],
        Command::Exec(argv) => {
            std::iter::once("CMD").chain(argv.iter().map(String::as_str)).collect()
        }
    };
    let mut value = Map::from_iter([("Test".to_owned(), json!(test))]);
    let times = [
        ("Interval", interval),
        ("Timeout", timeout),
        ("StartPeriod", start_period),
        ("StartInterval", start_interval),
    ];
    for (name, time) in times.into_iter().filter(|(_, time)| !time.is_zero()) {
        value.insert(name.to_owned(), json!(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)));
    }
    if *retries > 0 {
        value.insert("Retries".to_owned(), json!(retries));
    }
    value.into()
}
