//! `cargo xtask oracle`: builds the cases of `testdata/build` with BuildKit, to record what it makes of them or to compare.

mod buildkit;

use anyhow::{Context as _, bail, ensure};
use testkit::build_case::{BuildCase, build_in_private_root};

use self::buildkit::BuildKit;

/// What the person asked for.
#[derive(Debug)]
struct Request {
    buildkit: BuildKit,
    record: bool,
    only: String,
}

/// Without flags every case is built by both, and each difference is a line. With `--record` ebiko takes no part: a record never
/// comes from what it is there to judge.
pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let request = request(args)?;
    let cases: Vec<BuildCase> =
        BuildCase::all()?.into_iter().filter(|case| case.name().contains(&request.only)).collect();
    ensure!(!cases.is_empty(), "no case of `testdata/build` has `{}` in its name", request.only);
    if request.record {
        return record(&request.buildkit, &cases);
    }
    let records = build_in_private_root(&cases)?;
    let mut different = 0;
    for (case, made) in cases.iter().zip(&records) {
        let differences = case.unexpected(request.buildkit.build(case)?.differences(made));
        for line in &differences {
            println!("{}: {line}", case.name());
        }
        different += usize::from(!differences.is_empty());
    }
    println!("{} cases are the same, {different} differ", cases.len() - different);
    ensure!(different == 0, "{different} of {} cases differ", cases.len());
    Ok(())
}

fn record(buildkit: &BuildKit, cases: &[BuildCase]) -> anyhow::Result<()> {
    let mut changed = 0;
    for case in cases {
        let before = case.recorded().ok();
        let made = buildkit.build(case)?;
        println!("{}: {}", case.name(), made.summary());
        case.record(made)?;
        changed += usize::from(before != case.recorded().ok());
    }
    println!("{} cases recorded, {changed} of them changed", cases.len());
    Ok(())
}

fn request(args: &[String]) -> anyhow::Result<Request> {
    let mut request = Request {
        buildkit: BuildKit { buildctl: "buildctl".into(), address: None },
        record: false,
        only: String::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().with_context(|| format!("`{arg}` needs a value"));
        match arg.as_str() {
            "--record" => request.record = true,
            "--buildctl" => request.buildkit.buildctl = value()?.into(),
            "--addr" => request.buildkit.address = Some(value()?),
            "--only" => request.only = value()?,
            _ => bail!(
                "`cargo xtask oracle` takes `--buildctl PATH`, `--addr ADDRESS`, `--record` and `--only TEXT`, not `{arg}`"
            ),
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn flags_are_read_and_others_refused() {
        let asked = request(&words("--only copy --record --addr tcp://127.0.0.1:1")).unwrap();
        assert_eq!((asked.only.as_str(), asked.record), ("copy", true));
        assert_eq!(asked.buildkit.address.as_deref(), Some("tcp://127.0.0.1:1"));
        for (text, expected) in [("--only", "needs a value"), ("--bless", "not `--bless`")] {
            let error = request(&words(text)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
