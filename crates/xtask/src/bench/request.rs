//! What the person asked for.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use super::workload::{CACHED, WORKLOADS};

/// Which of the program's ways to look for changes are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// The default of every executor.
    Full,
    /// `--snapshot-mode=redo`.
    Redo,
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Redo => "redo",
        }
    }
}

/// The limits of every pod, and how often each build is done.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    /// Names from [`names`].
    pub(super) only: Vec<String>,
    /// Other static executors: a name and a path.
    pub(super) against: Vec<(String, PathBuf)>,
    pub(super) buildah: bool,
    /// A `buildctl`, and where its daemon listens.
    pub(super) buildkit: Option<(PathBuf, Option<String>)>,
    pub(super) modes: Vec<Mode>,
    pub(super) rounds: u32,
    /// In bytes.
    pub(super) memory: u64,
    pub(super) cpus: Option<f64>,
    pub(super) json: Option<PathBuf>,
    /// More flags for every executor in a pod.
    pub(super) flags: Vec<String>,
}

/// How the flags are written.
const USAGE: &str = "\
cargo xtask bench [--only NAME[,NAME..]] [--against NAME=PATH].. [--buildah] [--buildctl PATH [--addr ADDRESS]]
                  [--mode full|redo|both] [--rounds N] [--memory SIZE] [--cpus N] [--flat] [--json FILE]
                  [--flag FLAG]..
cargo xtask bench parser|micro|walk";

/// The measurement that needs no pod.
pub(super) const WALK: &str = "walk";

/// The one that is only made when asked for: it takes minutes and much disk.
pub(super) const FLAT: &str = "flat";

/// What `--only` knows.
fn names() -> impl Iterator<Item = &'static str> {
    WORKLOADS.iter().map(|workload| workload.name).chain([CACHED.name, WALK, FLAT])
}

impl Request {
    pub(super) fn wants(&self, name: &str) -> bool {
        self.only.iter().any(|only| only == name)
    }

    /// Reads the arguments behind `cargo xtask bench`.
    ///
    /// # Errors
    ///
    /// Fails on what it does not know, with how it is written.
    pub(super) fn parse(args: &[String]) -> anyhow::Result<Self> {
        Self::read(args).with_context(|| format!("usage:\n{USAGE}"))
    }

    fn read(args: &[String]) -> anyhow::Result<Self> {
        let mut request = Self {
            only: names().filter(|name| *name != FLAT).map(str::to_owned).collect(),
            against: Vec::new(),
            buildah: false,
            buildkit: None,
            modes: vec![Mode::Full],
            rounds: 3,
            memory: 4 << 30,
            cpus: None,
            json: None,
            flags: Vec::new(),
        };
        let (mut address, mut flat) = (None, false);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("`{arg}` needs a value"));
            match arg.as_str() {
                "--only" => request.only = known(value()?)?,
                "--against" => {
                    let (name, path) = named_path(value()?)?;
                    let is_known = request.against.iter().any(|(known, _)| *known == name);
                    ensure!(!is_known, "there are two executors named `{name}`");
                    request.against.push((name, path));
                }
                "--buildah" => request.buildah = true,
                "--buildctl" => request.buildkit = Some((value()?.into(), None)),
                "--addr" => address = Some(value()?.clone()),
                "--mode" => request.modes = modes(value()?)?,
                "--rounds" => {
                    request.rounds = value()?.parse().context("`--rounds` is a number")?;
                }
                "--memory" => request.memory = size(value()?)?,
                "--cpus" => request.cpus = Some(cpus(value()?)?),
                "--flat" => flat = true,
                "--flag" => request.flags.push(value()?.clone()),
                "--json" => request.json = Some(value()?.into()),
                _ => bail!("`{arg}` is not known"),
            }
        }
        ensure!(request.rounds > 0, "`--rounds` is at least 1");
        if flat && !request.wants(FLAT) {
            request.only.push(FLAT.to_owned());
        }
        match (&mut request.buildkit, address) {
            (Some((_, known)), address) => *known = address,
            (None, Some(_)) => bail!("`--addr` belongs to `--buildctl`"),
            (None, None) => {}
        }
        Ok(request)
    }
}

fn known(list: &str) -> anyhow::Result<Vec<String>> {
    let only: Vec<String> = list.split(',').map(str::to_owned).collect();
    if let Some(unknown) = only.iter().find(|only| !names().any(|name| name == *only)) {
        let names: Vec<_> = names().collect();
        bail!("there is no workload `{unknown}`; there are {}", names.join(", "));
    }
    Ok(only)
}

fn named_path(text: &str) -> anyhow::Result<(String, PathBuf)> {
    let (name, path) = text.split_once('=').context("`--against` takes NAME=PATH")?;
    ensure!(
        !name.is_empty() && !["ebiko", "buildah", "buildkit"].contains(&name),
        "`{name}` cannot be the name of another executor"
    );
    Ok((name.to_owned(), path.into()))
}

fn modes(text: &str) -> anyhow::Result<Vec<Mode>> {
    Ok(match text {
        "full" => vec![Mode::Full],
        "redo" => vec![Mode::Redo],
        "both" => vec![Mode::Full, Mode::Redo],
        _ => bail!("`--mode` is full, redo or both"),
    })
}

/// `500M`, `4G`, or bytes.
fn size(text: &str) -> anyhow::Result<u64> {
    let (number, shift) = match text.as_bytes().last() {
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = number.parse().with_context(|| format!("`{text}` is not a size"))?;
    number.checked_mul(1 << shift).with_context(|| format!("`{text}` is too large"))
}

fn cpus(text: &str) -> anyhow::Result<f64> {
    let number: f64 = text.parse().with_context(|| format!("`{text}` is not a number"))?;
    ensure!(number.is_finite() && number >= 0.1, "`--cpus` is at least 0.1");
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Request> {
        Request::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn without_flags_all_workloads_and_the_walk_are_measured_three_times() {
        let request = parse("").unwrap();
        assert_eq!(request.only.len(), WORKLOADS.len() + 2);
        assert!(request.wants(CACHED.name));
        assert!(request.wants("many") && request.wants(WALK) && !request.wants(FLAT));
        assert_eq!((request.rounds, request.memory, request.cpus), (3, 4 << 30, None));
        assert_eq!(request.modes, [Mode::Full]);
    }

    #[test]
    fn flags_are_read() {
        let request = parse(
            "--only small,files --against a=/a --against b=/b=c --mode both --memory 500M --cpus 0.4 --rounds 1 --buildah \
             --addr unix:///s --buildctl /bin/ctl --json out --flat --flag --compression=zstd",
        );
        let request = request.unwrap();
        assert_eq!(request.only, ["small", "files", "flat"]);
        assert_eq!(request.against[1], ("b".to_owned(), "/b=c".into()));
        assert_eq!(request.modes, [Mode::Full, Mode::Redo]);
        assert_eq!((request.memory, request.cpus, request.rounds), (500 << 20, Some(0.4), 1));
        assert!(request.buildah);
        assert_eq!(request.buildkit, Some(("/bin/ctl".into(), Some("unix:///s".to_owned()))));
        assert_eq!(request.json, Some("out".into()));
        assert_eq!(request.flags, ["--compression=zstd"]);
    }

    #[test]
    fn what_is_not_understood_is_refused_with_a_reason() {
        for (text, expected) in [
            ("--only tiny", "no workload `tiny`; there are small, steps"),
            ("--only", "`--only` needs a value"),
            ("--against /kaniko", "NAME=PATH"),
            ("--against ebiko=/x", "`ebiko` cannot be the name"),
            ("--against a=/x --against a=/y", "two executors named `a`"),
            ("--mode fast", "full, redo or both"),
            ("--rounds 0", "at least 1"),
            ("--memory 4T", "`4T` is not a size"),
            ("--memory 99999999999G", "too large"),
            ("--cpus 0", "at least 0.1"),
            ("--addr unix:///s", "belongs to `--buildctl`"),
            ("--fast", "`--fast` is not known"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.contains("usage:"), "{text}: {error}");
        }
    }
}
