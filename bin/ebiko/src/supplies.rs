//! What commands may be given: secrets and SSH agents, read before anything runs.

#![expect(clippy::disallowed_methods, reason = "reads the files that the user named on the host")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, bail};
use ebiko_build::{Agent, Secret};

use crate::cli::Cli;
use crate::environment::Environment;

/// BuildKit's limit too (`session/secrets`, `MaxSecretSize`).
const SECRET_LIMIT: u64 = 500 << 10;

/// What `--secret` names, by id.
///
/// Files are read now, because the first layer may replace them. A file that is missing is an error even if no step
/// asks for the secret: the user believes that it is there.
pub(crate) fn secrets(
    cli: &Cli,
    environment: &Environment,
) -> anyhow::Result<BTreeMap<String, Secret>> {
    let read = |text: &String| {
        secret(text, environment).with_context(|| format!("`--secret={text}` cannot be used"))
    };
    cli.secrets.iter().map(read).collect()
}

/// Docker's syntax: fields with commas between them, quoted where a comma is meant; a field without `=` is none.
fn secret(text: &str, environment: &Environment) -> anyhow::Result<(String, Secret)> {
    let (mut id, mut source, mut variable, mut kind) = (None, None, None, None);
    for field in ebiko_build::comma_separated(text).map_err(anyhow::Error::msg)? {
        let Some((key, value)) = field.split_once('=') else {
            bail!("the field `{field}` must have the form `key=value`");
        };
        let value = value.to_owned();
        match key.to_lowercase().as_str() {
            "id" => id = Some(value),
            "src" | "source" => source = Some(value),
            "env" => variable = Some(value),
            "type" if matches!(value.as_str(), "file" | "env") => kind = Some(value),
            "type" => bail!("the type `{value}` is neither `file` nor `env`"),
            _ => bail!("the key `{key}` is none of `id`, `src`, `env` and `type`"),
        }
    }
    let id = id.filter(|id| !id.is_empty()).context("it has no `id`")?;
    if kind.as_deref() == Some("env") && variable.is_none() {
        variable = source.take();
    }
    let is_file = kind.as_deref() == Some("file");
    let bytes = match (source, variable) {
        (Some(path), _) => {
            read_bounded(&environment.absolute(Path::new(&home(&path, environment))))?
        }
        (None, Some(name)) => environment
            .bytes(&name)
            .with_context(|| format!("the environment variable {name} is not set"))?,
        // As in Docker: the variable of that name, else the file of that name.
        (None, None) => match environment.bytes(&id).filter(|_| !is_file) {
            Some(bytes) => bytes,
            None => read_bounded(&environment.absolute(Path::new(&id)))?,
        },
    };
    if bytes.len() as u64 > SECRET_LIMIT {
        bail!("it has more than {SECRET_LIMIT} bytes");
    }
    Ok((id, Secret::new(bytes)))
}

fn read_bounded(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(SECRET_LIMIT + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(bytes)
}

/// What `--ssh` names, by id: a socket, or private keys.
pub(crate) fn agents(
    cli: &Cli,
    environment: &Environment,
) -> anyhow::Result<BTreeMap<String, Agent>> {
    let read = |text: &String| {
        let agent = agent(text, environment);
        agent.with_context(|| format!("`--ssh={text}` cannot be used"))
    };
    cli.ssh.iter().map(read).collect()
}

fn agent(text: &str, environment: &Environment) -> anyhow::Result<(String, Agent)> {
    let (id, paths) = text.split_once('=').unwrap_or((text, ""));
    let id = if id.is_empty() { "default" } else { id };
    let paths: Vec<&str> = paths.split(',').filter(|path| !path.is_empty()).collect();
    if paths.is_empty() {
        let socket = environment
            .get_filled("SSH_AUTH_SOCK")
            .context("no path is given and the environment variable SSH_AUTH_SOCK is not set")?;
        return Ok((id.to_owned(), Agent::Forwarded(environment.absolute(Path::new(socket)))));
    }
    let mut keys = Vec::new();
    for path in &paths {
        let path = environment.absolute(Path::new(&home(path, environment)));
        if let Some(key) = environment.kept_file(&path) {
            keys.push(Secret::new(key.to_vec()));
            continue;
        }
        let metadata = std::fs::metadata(&path)
            .with_context(|| format!("cannot find `{}`", path.display()))?;
        if std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type()) {
            if paths.len() > 1 {
                bail!("only one path may be given where it is a socket");
            }
            return Ok((id.to_owned(), Agent::Forwarded(path)));
        }
        keys.push(Secret::new(read_bounded(&path)?));
    }
    Ok((id.to_owned(), Agent::Keys(keys)))
}

/// `~/` at the beginning of a path, which no shell expands behind `src=`.
fn home(path: &str, environment: &Environment) -> String {
    match (path.strip_prefix("~/"), environment.get_filled("HOME")) {
        (Some(rest), Some(home)) => format!("{home}/{rest}"),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment::of([("TOKEN", "from the variable"), ("HOME", "/nowhere")])
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let actual = match secret(text, &environment()) {
            Ok((id, secret)) => {
                format!("{id}: {} {secret:?}", secret == value("from the variable"))
            }
            Err(error) => format!("error: {error:#}"),
        };
        assert_eq!(actual, expected, "{text}");
    }

    fn value(text: &str) -> Secret {
        Secret::new(text.into())
    }

    #[test]
    fn a_secret_is_a_variable_or_a_file() {
        check("id=a,env=TOKEN", "a: true Secret(…)");
        check("type=env,id=a,src=TOKEN", "a: true Secret(…)");
        check("id=TOKEN", "TOKEN: true Secret(…)");
        check(
            "id=a,src=~/x",
            "error: cannot read `/nowhere/x`: No such file or directory (os error 2)",
        );
        check(
            "\"id=a,b\",src=/nowhere",
            "error: cannot read `/nowhere`: No such file or directory (os error 2)",
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        check("env=TOKEN", "error: it has no `id`");
        check("id=a,env=NONE", "error: the environment variable NONE is not set");
        check("id=a,x=y", "error: the key `x` is none of `id`, `src`, `env` and `type`");
        check("id=a,type=x", "error: the type `x` is neither `file` nor `env`");
        check("id=a,b", "error: the field `b` must have the form `key=value`");
    }

    #[test]
    fn an_agent_is_a_socket_or_keys() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        std::fs::write(&key, "PRIVATE").unwrap();
        let socket = directory.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let read = |text: &str| agent(text, &environment()).map_err(|error| format!("{error:#}"));
        let given = |path: &Path| format!("x={}", path.display());
        assert_eq!(read(&given(&key)), Ok(("x".into(), Agent::Keys(vec![value("PRIVATE")]))));
        assert_eq!(read(&given(&socket)), Ok(("x".into(), Agent::Forwarded(socket))));
        let error = read("default").unwrap_err();
        assert!(error.contains("SSH_AUTH_SOCK is not set"), "{error}");
    }
}
