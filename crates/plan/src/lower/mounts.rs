//! `RUN --mount`.

use dockerfile_parser::{Diagnostic, MountError, MountKind as Kind, Run, Sharing, Span, Word};

use super::StageContext;
use super::stage::StageState;
use crate::actions::{CopyFrom, Mount, MountKind};
use crate::go;
use crate::graph::NamedSource;

/// The argument that keeps caches of unrelated builds apart.
const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

impl StageContext<'_> {
    /// The mounts of a RUN, with everything that is not written filled in.
    pub(super) fn mounts(&self, state: &StageState, run: &Run) -> Result<Vec<Mount>, Diagnostic> {
        let expand = |word: &Word| {
            let value = |text: &str| {
                state.expand_at(self.expander(), text, word.span).map(|expansion| expansion.text)
            };
            let parsed =
                dockerfile_parser::Mount::parse(word, value).map_err(|error| match error {
                    MountError::Invalid(message) => Diagnostic::error(word.span, message),
                    MountError::Expand(error) => error,
                })?;
            Ok(parsed)
        };
        // BuildKit reads all of them before it looks at what any of them means.
        let written = run.mounts.iter().map(expand).collect::<Result<Vec<_>, Diagnostic>>()?;
        let mut agents = 0;
        let mut mounts = Vec::with_capacity(written.len());
        for (word, mount) in std::iter::zip(&run.mounts, &written) {
            mounts.push(self.mount(state, word, mount, agents)?);
            agents += usize::from(mount.kind == Kind::Ssh);
        }
        Ok(mounts)
    }

    fn mount(
        &self,
        state: &StageState,
        word: &Word,
        mount: &dockerfile_parser::Mount,
        agents: usize,
    ) -> Result<Mount, Diagnostic> {
        let from = self.mounted_from(word, &mount.target)?;
        let source = go::join_path("/", &mount.source);
        let attributes = (mount.mode, mount.uid, mount.gid);
        let kind = match mount.kind {
            Kind::Bind => MountKind::Bind { from: from.unwrap_or(CopyFrom::Context), source },
            Kind::Tmpfs => {
                MountKind::Tmpfs { size: u64::try_from(mount.size).ok().filter(|&size| size > 0) }
            }
            Kind::Cache => {
                // Whoever says what a new cache looks like gets an empty one.
                let is_described = source == "/" && attributes != (None, None, None);
                MountKind::Cache {
                    id: self.cache_id(mount),
                    sharing: mount.sharing.unwrap_or(Sharing::Shared),
                    seed: from.filter(|_| !is_described).unwrap_or(CopyFrom::Scratch),
                    source,
                    mode: mount.mode.unwrap_or(0o755),
                    uid: mount.uid.unwrap_or(0),
                    gid: mount.gid.unwrap_or(0),
                }
            }
            Kind::Secret => return not_the_root(secret(state, mount), word.span),
            Kind::Ssh if !mount.source.is_empty() => {
                return Err(Diagnostic::error(word.span, "ssh does not support source"));
            }
            Kind::Ssh => return not_the_root(agent(state, mount, agents), word.span),
        };
        let target = target(state, &mount.target, word.span)?;
        Ok(Mount { target: Some(target), kind, read_only: mount.read_only })
    }

    /// Whose files are mounted, `None` where the mount does not say.
    fn mounted_from(&self, word: &Word, target: &str) -> Result<Option<CopyFrom>, Diagnostic> {
        let Some(from) = dockerfile_parser::Mount::named_source(word) else { return Ok(None) };
        let source = self.graph.mount_source(&from, word.span)?;
        self.read_from(source).map(Some).ok_or_else(|| {
            let message = format!(
                "cannot mount from stage {} to {}, stage needs to be defined before current command",
                go::quote(&from),
                go::quote(target),
            );
            Diagnostic::error(word.span, message)
        })
    }

    /// What is read where an instruction of this stage names `source`; `None` for a stage that is not built before.
    pub(super) fn read_from(&self, source: NamedSource) -> Option<CopyFrom> {
        match source {
            NamedSource::Scratch => Some(CopyFrom::Scratch),
            NamedSource::Image(image) => Some(CopyFrom::Image(image)),
            NamedSource::Files(name) => Some(CopyFrom::Named(name)),
            NamedSource::Stage(id) => (id < self.id).then_some(CopyFrom::Stage(id)),
        }
    }

    fn cache_id(&self, mount: &dockerfile_parser::Mount) -> String {
        let namespace = self.graph.build_args.get(CACHE_NAMESPACE).unwrap_or_default();
        let id = match mount.id.as_str() {
            "" => go::clean_path(&mount.target),
            id => id.to_owned(),
        };
        format!("{namespace}/{id}")
    }
}

/// A relative path begins at the working directory.
fn absolute(state: &StageState, path: &str) -> String {
    if path.starts_with('/') {
        go::clean_path(path)
    } else {
        go::join_path(&state.work_dir(), path)
    }
}

/// Where a mount is seen that can be anywhere but at the root.
fn target(state: &StageState, written: &str, span: Span) -> Result<String, Diagnostic> {
    let target = absolute(state, written);
    if target == "/" {
        return Err(Diagnostic::error(span, "invalid mount target \"/\""));
    }
    Ok(target)
}

/// A file cannot be in the place of the root.
fn not_the_root(mount: Mount, span: Span) -> Result<Mount, Diagnostic> {
    if mount.target.as_deref() == Some("/") {
        return Err(Diagnostic::error(span, "invalid mount target \"/\""));
    }
    Ok(mount)
}

fn secret(state: &StageState, mount: &dockerfile_parser::Mount) -> Mount {
    let last_part = |path: &str| {
        let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        if last.is_empty() { path.get(..1).unwrap_or(".").to_owned() } else { last.to_owned() }
    };
    let id = match (mount.source.as_str(), mount.id.as_str()) {
        ("", "") => last_part(&mount.target),
        ("", id) => id.to_owned(),
        (source, _) => source.to_owned(),
    };
    let target = match mount.target.as_str() {
        "" if mount.env.is_some() => None,
        "" => Some(format!("/run/secrets/{}", last_part(&id))),
        target => Some(target.to_owned()),
    };
    Mount {
        target: target.map(|target| absolute(state, &target)),
        kind: MountKind::Secret {
            id,
            // A variable needs a name; asking for one without keeps the file away all the same.
            env: mount.env.clone().filter(|env| !env.is_empty()),
            required: mount.required,
            mode: mount.mode.unwrap_or(0o400),
            uid: mount.uid.unwrap_or(0),
            gid: mount.gid.unwrap_or(0),
        },
        read_only: mount.read_only,
    }
}

/// The socket of an agent; `before` counts those before it.
fn agent(state: &StageState, mount: &dockerfile_parser::Mount, before: usize) -> Mount {
    let target = match mount.target.as_str() {
        "" => format!("/run/buildkit/ssh_agent.{before}"),
        target => absolute(state, target),
    };
    let id = if mount.id.is_empty() { "default" } else { &mount.id };
    Mount {
        target: Some(target),
        kind: MountKind::Ssh {
            id: id.to_owned(),
            required: mount.required,
            mode: mount.mode.unwrap_or(0o600),
            uid: mount.uid.unwrap_or(0),
            gid: mount.gid.unwrap_or(0),
        },
        read_only: mount.read_only,
    }
}
