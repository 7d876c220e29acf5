//! `cargo xtask bench`: builds measured against other builders, and measurements of single libraries.

mod bars;
mod contender;
mod library;
mod material;
mod report;
mod request;
mod results;
mod rounds;
mod statistics;
mod workload;

use anyhow::{Context as _, bail, ensure};

use self::bars::Verdict;
use self::material::Material;
use self::request::Request;

/// Runs what `args` ask for; fails where a bar is missed.
pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    if args.first().is_some_and(|arg| !arg.starts_with('-')) {
        return library::run(args);
    }
    let request = Request::parse(args)?;
    let mut verdicts = Vec::new();
    let mut results = Vec::new();
    if workload::WORKLOADS
        .iter()
        .chain([&workload::CACHED])
        .any(|workload| request.wants(workload.name))
        || request.wants(request::FLAT)
    {
        ensure!(testkit::is_root(), "pods need root; `cargo xtask bench walk` does not");
        let base = testkit::base::debian()?;
        let material = Material::new(&base.root())?;
        results = rounds::run(&request, &base, &material)?;
        report::print(&results);
        verdicts.extend(bars::judge(&results, &request));
    }
    if request.wants(request::WALK) {
        verdicts.push(library::walk()?);
    }
    for verdict in &verdicts {
        println!("{verdict}");
    }
    if let Some(path) = &request.json {
        let json = report::json(&results, &verdicts, &request)?;
        std::fs::write(path, json).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    match verdicts.iter().filter(|verdict| !verdict.is_met).count() {
        0 => Ok(()),
        1 => bail!("1 bar is missed"),
        missed => bail!("{missed} bars are missed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_in_the_documentation_are_understood() {
        let path = testkit::workspace_dir().join("docs/benchmarks.md");
        let text = std::fs::read_to_string(path).unwrap();
        let commands = text.lines().filter_map(|line| line.strip_prefix("$ cargo xtask bench"));
        let commands: Vec<&str> = commands.collect();
        assert!(commands.len() > 5, "{commands:?}");
        for command in commands {
            let words = command.split_whitespace().take_while(|word| *word != "#");
            let words: Vec<String> = words.map(str::to_owned).collect();
            let is_understood = match words.first() {
                Some(name) if !name.starts_with('-') => {
                    words.iter().all(|name| library::names().any(|known| known == name))
                }
                _ => Request::parse(&words).is_ok(),
            };
            assert!(is_understood, "cargo xtask bench{command}");
        }
    }
}
