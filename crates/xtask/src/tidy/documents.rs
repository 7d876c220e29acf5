//! README commands, links and decision records.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Problem, files, read};

pub(super) fn check(root: &Path, problems: &mut Vec<Problem>) -> anyhow::Result<()> {
    check_readme(root, problems)?;
    check_records(root, problems)?;
    for path in files(root, &["md"])? {
        let text = read(root, &path)?;
        let place = path.display().to_string();
        let dir = root.join(&path);
        let dir = dir.parent().unwrap_or(root);
        for target in links(&text).filter(|target| !dir.join(target).exists()) {
            problems.push(Problem::new(&place, format!("links to `{target}`, which is not there")));
        }
    }
    Ok(())
}

/// Every `cargo xtask` chore, `just` recipe and flag of the program that the README shows exists.
fn check_readme(root: &Path, problems: &mut Vec<Problem>) -> anyhow::Result<()> {
    let Ok(text) = read(root, "README.md") else {
        problems.push(Problem::new("README.md", "is missing"));
        return Ok(());
    };
    let recipes = read(root, "justfile").unwrap_or_default();
    let mut program = String::new();
    for path in files(&root.join("bin/ebiko/src"), &["rs"])? {
        program.push_str(&read(&root.join("bin/ebiko/src"), path)?);
    }
    for command in commands(&text) {
        for message in wrong_in(&command, &recipes, &program) {
            problems.push(Problem::new("README.md", message));
        }
    }
    Ok(())
}

/// The lines of code blocks, continued lines joined, prompts removed.
fn commands(text: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let (mut inside, mut continued) = (false, false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            (inside, continued) = (!inside, false);
            continue;
        }
        if !inside {
            continue;
        }
        let line = line.trim().trim_start_matches("$ ");
        let goes_on = line.ends_with('\\');
        let line = line.trim_end_matches('\\').trim_end();
        match commands.last_mut() {
            Some(last) if continued => *last = format!("{last} {line}"),
            _ => commands.push(line.to_owned()),
        }
        continued = goes_on;
    }
    commands
}

fn wrong_in(command: &str, recipes: &str, program: &str) -> Vec<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words.as_slice() {
        ["cargo", "xtask", chore, ..]
            if !crate::CHORES.iter().any(|known| known.name == *chore) =>
        {
            vec![format!("shows `cargo xtask {chore}`, which does not exist")]
        }
        ["just", recipe, ..] if !recipe_names(recipes).contains(recipe) => {
            vec![format!("shows `just {recipe}`, which does not exist")]
        }
        [executable, arguments @ ..]
            if executable.ends_with("executor") || executable.ends_with("ebiko") =>
        {
            let flags = arguments.iter().filter_map(|word| word.strip_prefix("--"));
            let flags = flags
                .map(|flag| flag.split('=').next().unwrap_or(flag))
                .filter(|flag| !flag.is_empty());
            // A flag is declared under its own name, or as a field whose name clap turns into it. One that stands alone
            // in a line with its dashes is in the list of those that are refused.
            let is_refused =
                |flag: &str| program.lines().any(|line| line.trim() == format!("\"--{flag}\","));
            let is_declared = |flag: &str| {
                program.contains(&format!("\"{flag}\""))
                    || program.contains(&flag.replace('-', "_"))
            };
            let is_known = |flag: &str| is_declared(flag) && !is_refused(flag);
            flags
                .filter(|flag| !is_known(flag))
                .map(|flag| format!("shows the flag `--{flag}`, which does not exist"))
                .collect()
        }
        _ => Vec::new(),
    }
}

fn recipe_names(justfile: &str) -> BTreeSet<&str> {
    let starts_at_margin = |line: &&str| !line.starts_with([' ', '\t', '#', '@', '[']);
    let head = |line| {
        let (head, _): (&str, _) = str::split_once(line, ':')?;
        head.split_whitespace().next()
    };
    justfile.lines().filter(starts_at_margin).filter_map(head).collect()
}

/// Each `docs/adr/NNNN-title.md` has a number of its own and is named in the architecture page or in `docs/adr/README.md`.
fn check_records(root: &Path, problems: &mut Vec<Problem>) -> anyhow::Result<()> {
    let dir = root.join("docs/adr");
    if !dir.is_dir() {
        return Ok(());
    }
    let index = read(root, "docs/ARCHITECTURE.md").unwrap_or_default()
        + &read(&dir, "README.md").unwrap_or_default();
    let mut numbers = BTreeSet::new();
    for path in files(&dir, &["md"])?.into_iter().filter(|path| path != Path::new("README.md")) {
        let name = path.display().to_string();
        let place = format!("docs/adr/{name}");
        let number = name
            .get(..5)
            .and_then(|start| start.strip_suffix('-'))
            .and_then(|digits| digits.parse::<u16>().ok());
        match number {
            None => problems.push(Problem::new(&place, "is not named NNNN-title.md")),
            Some(number) if !numbers.insert(number) => {
                problems.push(Problem::new(&place, "shares its number with another record"));
            }
            Some(_) => {}
        }
        if !index.contains(&name) {
            problems.push(Problem::new(
                &place,
                "is listed neither in docs/ARCHITECTURE.md nor in docs/adr/README.md",
            ));
        }
    }
    Ok(())
}

/// The targets of links to files of this workspace, without their fragment.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    let prose = text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    let targets = prose
        .flat_map(|line| line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)));
    let files = targets.filter(|target| {
        !target.contains("://") && !target.starts_with(['#', '/']) && !target.contains(' ')
    });
    files
        .map(|target| target.split('#').next().unwrap_or(target))
        .filter(|target| !target.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_blocks_hold_commands() {
        let text = "`cargo xtask no`\n```console\n$ cargo xtask demo\nexecutor --context x \\\n  --no-push\n```\ncargo\n";
        assert_eq!(commands(text), ["cargo xtask demo", "executor --context x --no-push"]);
    }

    #[test]
    fn what_the_readme_shows_must_exist() {
        let (recipes, program) = (
            "default:\n    @just --list\ntest *ARGS:\n    x\n",
            "no_push: bool, #[arg(long = \"target\")]\n    \"--cache\",\n",
        );
        let wrong = |command: &str| wrong_in(command, recipes, program);
        assert!(wrong("cargo xtask demo").is_empty());
        assert_eq!(wrong("cargo xtask demi"), ["shows `cargo xtask demi`, which does not exist"]);
        assert!(wrong("just test --all").is_empty());
        assert_eq!(wrong("just check"), ["shows `just check`, which does not exist"]);
        assert!(wrong("/kaniko/executor --no-push --target=x file").is_empty());
        assert_eq!(wrong("ebiko --dance=1"), ["shows the flag `--dance`, which does not exist"]);
        assert_eq!(wrong("executor --cache"), ["shows the flag `--cache`, which does not exist"]);
    }

    #[test]
    fn links_to_files_are_found_and_others_left_alone() {
        let text =
            "[a](docs/A.md#part) [b](https://x.y) ![c](c.png) [d](#here)\n```\n[e](e)\n```\n";
        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/A.md", "c.png"]);
    }
}
