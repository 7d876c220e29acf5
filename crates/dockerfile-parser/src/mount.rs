//! The value of `RUN --mount`.

use crate::csv;
use crate::suggest::did_you_mean;

/// A mount for one `RUN`, checked.
///
/// Defaults that depend on other values (a target from an id, an id from a target) are not filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// The stage or image that `source` is in; empty for the build context. Never expanded.
    pub from: String,
    /// A path, or for a secret its id.
    pub source: String,
    /// Where it is seen.
    pub target: String,
    /// The id of a cache, a secret or an SSH agent.
    pub id: String,
    /// Whether `RUN` may not write to it; the default depends on the kind.
    pub read_only: bool,
    /// Whether the build fails where there is no such secret or agent.
    pub required: bool,
    /// Who else may use the cache at the same time.
    pub sharing: Option<Sharing>,
    /// The most bytes that a `tmpfs` holds; 0 for no limit.
    pub size: i64,
    /// The mode of a file or new directory.
    pub mode: Option<u32>,
    /// Its owner.
    pub uid: Option<u32>,
    /// Its group.
    pub gid: Option<u32>,
    /// The environment variable that a secret is put into.
    pub env: Option<String>,
}

/// What a [`Mount`] mounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the values of the key")]
pub enum MountKind {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

/// How a cache is shared between builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the values of the key")]
pub enum Sharing {
    Shared,
    Private,
    Locked,
}

/// Why a `--mount` is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError<E> {
    /// The text is wrong; the message is BuildKit's.
    #[error("{0}")]
    Invalid(String),
    /// A value could not be expanded.
    #[error(transparent)]
    Expand(E),
}

const KINDS: [(&str, MountKind); 5] = [
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("tmpfs", MountKind::Tmpfs),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
];

const SHARINGS: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// Checks what can be checked before expansion: that there are fields, and that `from` has no variable.
pub(crate) fn check_unexpanded(raw: &str) -> Result<(), String> {
    for field in fields(raw)? {
        if let Some((key, value)) = field.split_once('=')
            && key.to_lowercase() == "from"
            && has_variable(value)
        {
            let key = key.to_lowercase();
            return Err(format!(
                "'{key}' doesn't support variable expansion, define alias stage instead"
            ));
        }
    }
    Ok(())
}

/// A `$` with anything behind it.
fn has_variable(value: &str) -> bool {
    value.find('$').is_some_and(|at| at + 1 < value.len())
}

fn fields(raw: &str) -> Result<Vec<String>, String> {
    csv::fields(raw).map_err(|error| format!("failed to parse csv mounts: {error}"))
}

impl Mount {
    /// Reads a `--mount`, one of [`Run::mounts`](crate::Run::mounts); `expand` is called for each value.
    ///
    /// The order of the keys matters, as it does in BuildKit: `size` and `required` are understood after a `type`
    /// that has them.
    pub fn parse<E>(
        raw: &str,
        mut expand: impl FnMut(&str) -> Result<String, E>,
    ) -> Result<Self, MountError<E>> {
        let mut mount = Self::default();
        let mut read_only = None;
        for field in fields(raw).map_err(MountError::Invalid)? {
            match field.split_once('=') {
                None => mount.set_bare(&field, &mut read_only).map_err(MountError::Invalid)?,
                Some((key, value)) => {
                    let value = expand(value).map_err(MountError::Expand)?;
                    mount
                        .set(&field, &key.to_lowercase(), &value, &mut read_only)
                        .map_err(MountError::Invalid)?;
                }
            }
        }
        mount.read_only =
            read_only.unwrap_or(!matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs));
        mount.check().map_err(MountError::Invalid)?;
        Ok(mount)
    }

    /// What `from` says in a `--mount` that is not expanded yet, which `from` never is.
    ///
    /// `None` where there is no `from` or an empty one: the build context.
    pub fn named_source(raw: &str) -> Option<String> {
        let fields = fields(raw).ok()?;
        let named = fields.iter().rev().find_map(|field| {
            let (key, value) = field.split_once('=')?;
            (key.to_lowercase() == "from").then_some(value)
        });
        named.filter(|name| !name.is_empty()).map(ToOwned::to_owned)
    }

    fn set_bare(&mut self, field: &str, read_only: &mut Option<bool>) -> Result<(), String> {
        match field.to_lowercase().as_str() {
            "readonly" | "ro" => *read_only = Some(true),
            "readwrite" | "rw" => *read_only = Some(false),
            "required" if matches!(self.kind, MountKind::Secret | MountKind::Ssh) => {
                self.required = true;
            }
            key @ "required" => return Err(self.unexpected(key)),
            _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
        }
        Ok(())
    }

    fn set(
        &mut self,
        field: &str,
        key: &str,
        value: &str,
        read_only: &mut Option<bool>,
    ) -> Result<(), String> {
        let invalid = || format!("invalid value for {key}: {value}");
        match key {
            "type" => self.kind = choice(value, &KINDS, "unsupported mount type")?,
            "from" => value.clone_into(&mut self.from),
            "source" | "src" => value.clone_into(&mut self.source),
            "target" | "dst" | "destination" => value.clone_into(&mut self.target),
            "readonly" | "ro" => *read_only = Some(csv::boolean(value).ok_or_else(invalid)?),
            "readwrite" | "rw" => *read_only = Some(!csv::boolean(value).ok_or_else(invalid)?),
            "required" if matches!(self.kind, MountKind::Secret | MountKind::Ssh) => {
                self.required = csv::boolean(value).ok_or_else(invalid)?;
            }
            "size" if self.kind == MountKind::Tmpfs => {
                self.size = byte_size(value).ok_or_else(invalid)?;
            }
            "required" | "size" => return Err(self.unexpected(key)),
            "id" => value.clone_into(&mut self.id),
            "sharing" => {
                self.sharing = Some(choice(value, &SHARINGS, "unsupported sharing value")?);
            }
            "mode" => self.mode = Some(number(key, value, 8)?),
            "uid" => self.uid = Some(number(key, value, 10)?),
            "gid" => self.gid = Some(number(key, value, 10)?),
            "env" => self.env = Some(value.to_owned()),
            _ => {
                return Err(format!(
                    "unexpected key '{key}' in '{field}'{}",
                    did_you_mean(key, &KEYS)
                ));
            }
        }
        Ok(())
    }

    fn unexpected(&self, key: &str) -> String {
        format!("unexpected key '{key}' for mount type '{}'", self.kind.name())
    }

    fn check(&self) -> Result<(), String> {
        let kind = self.kind.name();
        if matches!(self.kind, MountKind::Bind | MountKind::Tmpfs) {
            let given = [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)];
            if let Some((key, _)) = given.into_iter().find(|(_, value)| value.is_some()) {
                return Err(format!("{key} not allowed for {kind:?} type mounts"));
            }
        }
        if self.kind == MountKind::Secret {
            if !self.from.is_empty() {
                return Err("secret mount should not have a from".to_owned());
            }
            if self.sharing.is_some() {
                return Err("secret mount should not define sharing".to_owned());
            }
            if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
                return Err("invalid secret mount. one of source, target required".to_owned());
            }
            if !self.source.is_empty() && !self.id.is_empty() {
                return Err("both source and id can't be set".to_owned());
            }
        }
        if self.sharing.is_some() && self.kind != MountKind::Cache {
            return Err(format!("invalid cache sharing set for {kind} mount"));
        }
        Ok(())
    }
}

impl MountKind {
    /// The value of the key `type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

fn choice<T: Copy>(value: &str, choices: &[(&str, T)], problem: &str) -> Result<T, String> {
    let lower = value.to_lowercase();
    choices.iter().find(|(name, _)| *name == lower).map(|&(_, choice)| choice).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|&(name, _)| name).collect();
        format!("{problem} {value:?}{}", did_you_mean(value, &names))
    })
}

/// As Go reads it: digits only, no sign.
fn number(key: &str, value: &str, radix: u32) -> Result<u32, String> {
    let invalid = || format!("invalid value {value} for {key}");
    if value.starts_with('+') {
        return Err(invalid());
    }
    u32::from_str_radix(value, radix).map_err(|_| invalid())
}

/// A number of bytes such as `128m` or `1.5 GiB`, in units of 1024; `None` where it is none.
#[expect(clippy::cast_possible_truncation, reason = "a size is rounded down, as it is in Docker")]
pub fn byte_size(value: &str) -> Option<i64> {
    let split = value.rfind(|c: char| c.is_ascii_digit() || matches!(c, '.' | ' '))?;
    let (number, suffix) = value.split_at(split + 1);
    let number: f64 = number.strip_suffix(' ').unwrap_or(number).parse().ok()?;
    if number < 0.0 || !number.is_finite() {
        return None;
    }
    let suffix = suffix.to_lowercase();
    let factor = match suffix.chars().next() {
        None => 1.0,
        Some('b') => return (suffix == "b").then_some(number as i64),
        Some(unit) => {
            let power = "kmgtp".find(unit)?;
            if !matches!(&suffix[1..], "" | "b" | "ib") {
                return None;
            }
            (0..=power).fold(1.0, |factor, _| factor * 1024.0)
        }
    };
    Some((number * factor) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: Result<Mount, &str>) {
        let expand = |value: &str| Ok::<_, std::convert::Infallible>(value.replace("$X", "x"));
        let actual = match Mount::parse(raw, expand) {
            Ok(mount) => Ok(mount),
            Err(MountError::Invalid(message)) => Err(message),
            Err(MountError::Expand(never)) => match never {},
        };
        assert_eq!(actual, expected.map_err(str::to_owned), "reading {raw:?}");
    }

    fn mount(kind: MountKind, target: &str) -> Mount {
        let read_only = !matches!(kind, MountKind::Cache | MountKind::Tmpfs);
        Mount { kind, target: target.to_owned(), read_only, ..Mount::default() }
    }

    #[test]
    fn a_mount_is_a_read_only_bind_unless_it_says_otherwise() {
        check("target=/x", Ok(mount(MountKind::Bind, "/x")));
        check("dst=/$X,rw", Ok(Mount { read_only: false, ..mount(MountKind::Bind, "/x") }));
        check("target=/a,TARGET=/b,rw=false", Ok(mount(MountKind::Bind, "/b")));
        check("type=cache,target=/x", Ok(mount(MountKind::Cache, "/x")));
        check("type=bind,\"target=/a,b\"", Ok(mount(MountKind::Bind, "/a,b")));
    }

    #[test]
    fn each_kind_has_its_keys() {
        let cache = Mount {
            id: "i".to_owned(),
            sharing: Some(Sharing::Locked),
            from: "s".to_owned(),
            source: "/q".to_owned(),
            mode: Some(0o700),
            uid: Some(1),
            gid: Some(2),
            read_only: true,
            ..mount(MountKind::Cache, "/x")
        };
        check(
            "type=cache,id=i,target=/x,sharing=LOCKED,from=s,src=/q,mode=0700,uid=1,gid=2,ro",
            Ok(cache),
        );
        let tmpfs = |size| Ok(Mount { size, ..mount(MountKind::Tmpfs, "/x") });
        check("type=tmpfs,target=/x,size=128m", tmpfs(128 << 20));
        check("type=tmpfs,target=/x,size=1.5 GiB", tmpfs(3 << 29));
        check("type=tmpfs,target=/x,size=12b", tmpfs(12));
        let secret = Mount {
            id: "a".to_owned(),
            required: true,
            env: Some(String::new()),
            ..mount(MountKind::Secret, "")
        };
        check("type=secret,id=a,required,env=", Ok(secret));
    }

    #[test]
    fn keys_are_understood_after_the_type_that_has_them() {
        check("required,type=secret,id=a", Err("unexpected key 'required' for mount type 'bind'"));
        check("target=/x,size=1", Err("unexpected key 'size' for mount type 'bind'"));
    }

    #[test]
    fn what_buildkit_refuses_is_refused() {
        check("foo", Err("invalid field 'foo' must be a key=value pair"));
        check("type=tmp", Err("unsupported mount type \"tmp\" (did you mean tmpfs?)"));
        check("targte=/x", Err("unexpected key 'targte' in 'targte=/x' (did you mean target?)"));
        check(
            "type=cache,target=/x,sharing=lockd",
            Err("unsupported sharing value \"lockd\" (did you mean locked?)"),
        );
        check("target=/x,sharing=shared", Err("invalid cache sharing set for bind mount"));
        check("type=cache,target=/x,uid=a", Err("invalid value a for uid"));
        check("type=cache,target=/x,uid=+1", Err("invalid value +1 for uid"));
        check("type=tmpfs,target=/x,uid=1", Err("uid not allowed for \"tmpfs\" type mounts"));
        check("type=tmpfs,target=/x,size=1x", Err("invalid value for size: 1x"));
        check("type=secret", Err("invalid secret mount. one of source, target required"));
        check("type=secret,id=a,source=b", Err("both source and id can't be set"));
        check("type=secret,id=a,from=b", Err("secret mount should not have a from"));
        check("type=secret,id=a,sharing=shared", Err("secret mount should not define sharing"));
        check("target=/x,ro=2", Err("invalid value for ro: 2"));
        check("", Err("failed to parse csv mounts: EOF"));
    }

    #[test]
    fn the_last_from_counts() {
        let source = |raw: &str| Mount::named_source(raw);
        assert_eq!(source("type=$X,from=a,FROM=b").as_deref(), Some("b"));
        assert_eq!(source("from=a,from="), None);
        assert_eq!(source("target=/from=x"), None);
        assert_eq!(source(""), None);
    }

    #[test]
    fn before_expansion_only_fields_and_from_are_checked() {
        assert_eq!(check_unexpanded("type=$X,bad,from=x$"), Ok(()));
        let message = "'from' doesn't support variable expansion, define alias stage instead";
        assert_eq!(check_unexpanded("FROM=$X"), Err(message.to_owned()));
        assert!(check_unexpanded("a\"b").is_err());
    }
}
