//! `RUN`.

mod diagnosis;
mod equipment;

use std::fmt;

use ebiko_oci::Event;
use ebiko_plan::{Network, RunAction, Security};
use ebiko_rootfs::{Root, RootPath, RootPathError};
use ebiko_rootless::{Guest, IdMapping, NetworkAccess, Outcome, Place, RunError};
use nix::sys::signal::Signal;

use crate::account::{self, AccountError, Owner};
use crate::directories::{MakeDirError, View};
use crate::{ExecError, Site, Touched};
use equipment::Equipment;
pub use equipment::{AgentSocket, AgentSocketError, KeyError, MountError, is_usable_key};

/// A command could not be run, or did not end well.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum CommandError {
    #[error("process {command:?} did not complete successfully: exit code: {status}")]
    Exited { command: String, status: i32, ids: IdMapping, disk_is_full: bool },
    #[error("the command was ended by signal {signal} ({})", signal_name(*signal))]
    Signalled { signal: i32 },
    #[error("the command killed the init process of its step, and with it the step")]
    InitKilled,
    #[error(
        "the working directory `/{path}` is a mount point of the container (or belongs to the builder), \
         and what the command does there would not be part of the image"
    )]
    WorkDirProtected { path: RootPath },
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error("the working directory `{path}` cannot be used")]
    WorkDir { path: String, source: CommandDirError },
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Guest(#[from] GuestError),
}

/// A process could not be run, and what the root tells about why.
#[derive(Debug)]
pub struct GuestError {
    error: RunError,
    hint: Option<String>,
}

impl fmt::Display for GuestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for GuestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Why a command's working directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are those of the causes")]
pub enum CommandDirError {
    #[error(transparent)]
    Path(#[from] RootPathError),
    #[error(transparent)]
    MakeDir(#[from] MakeDirError),
}

impl CommandError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            // A shell passes the signal of what it ran on as 128 plus its number.
            Self::Exited { status: 137, .. } | Self::Signalled { signal: SIGKILL } => Some(
                "signal 9 is how the kernel ends a process when memory runs out: give the container, or the command, more memory"
                    .to_owned(),
            ),
            Self::Exited { disk_is_full: true, .. } => Some(
                "the disk is full, which may be why: free space, or give the builder a larger volume"
                    .to_owned(),
            ),
            // Only the command knows why it failed, but this is the usual reason where ids are missing.
            Self::Exited { ids, .. } => ids.hint().map(|hint| {
                format!("if it failed to change an owner or to become another user: {hint}")
            }),
            Self::Signalled { .. } => None,
            Self::InitKilled => Some(
                "the parent of the command (`$PPID` of a shell) watches over it and must not be killed"
                    .to_owned(),
            ),
            Self::WorkDirProtected { .. } => Some(
                "mount the build context somewhere else and say so with `--context`, or use another WORKDIR"
                    .to_owned(),
            ),
            Self::Account(error) => error.hint().map(str::to_owned),
            Self::WorkDir { source, .. } => match source {
                CommandDirError::Path(_) => None,
                CommandDirError::MakeDir(error) => error.hint().map(str::to_owned),
            },
            Self::Mount(error) => error.hint(),
            Self::Guest(error) => error.hint.clone(),
        }
    }
}

const SIGKILL: i32 = Signal::SIGKILL as i32;

fn signal_name(signal: i32) -> &'static str {
    Signal::try_from(signal).map_or("a real-time signal", Signal::as_str)
}

pub(crate) fn perform(action: &RunAction, site: &Site<'_>) -> Result<Touched, ExecError> {
    let account = account::account(site.root, &action.user).map_err(CommandError::Account)?;
    let owner = Owner { uid: account.credentials.uid, gid: account.credentials.gid };
    let work_dir = work_dir(site.root, &action.work_dir, owner)?;
    let mut env = action.env.clone();
    if !env.iter().any(|(name, _)| name == "HOME") {
        env.push(("HOME".to_owned(), account.home));
    }
    let equipment = Equipment::prepare(action, site)?;
    for (name, value) in &equipment.env {
        env.retain(|(other, _)| other != name);
        env.push((name.clone(), value.clone()));
    }
    let argv = equipment::argv(action, site);
    let guest = Guest {
        root: site.root,
        argv: &argv,
        env: &env,
        work_dir: &work_dir,
        credentials: &account.credentials,
        attachments: &equipment.attachments,
        store: &equipment.store,
        network: match action.network {
            Network::None => NetworkAccess::None,
            Network::Default | Network::Host => NetworkAccess::Shared,
        },
        insecure: action.security == Security::Insecure,
        host_name: action.host_name.as_deref(),
        resources: &site.supplies.resources,
    };
    let outcome = ebiko_rootless::run(site.place, &guest, site.interrupt, &mut |_stream, bytes| {
        site.observer.event(Event::Output { bytes });
    });
    let given_back = equipment.give_back();
    match outcome {
        Ok(Outcome::Exited(0)) => given_back
            .map(|()| Touched::Everything)
            .map_err(|error| CommandError::from(error).into()),
        Ok(Outcome::Exited(status)) => {
            let command = action.argv.join(" ");
            let ids = match site.place {
                Place::InPlace | Place::Nowhere(_) => IdMapping::Complete,
                Place::Private(private) => private.ids_in(site.root),
            };
            Err(CommandError::Exited { command, status, ids, disk_is_full: site.root.is_full() }
                .into())
        }
        Ok(Outcome::Signalled(signal)) => Err(CommandError::Signalled { signal }.into()),
        Ok(Outcome::InitKilled) => Err(CommandError::InitKilled.into()),
        Ok(Outcome::Interrupted(signal)) => Err(ExecError::Interrupted { signal }),
        Err(source) => {
            let known = source.hint(site.place).map(str::to_owned);
            let hint = known.or_else(|| diagnosis::hint(&source, site.root, action));
            Err(CommandError::Guest(GuestError { error: source, hint }).into())
        }
    }
}

/// The directory that a command starts in; made, with its parents, for whom it runs as, where it is
/// missing.
///
/// Refused where it is not the image's: what earlier steps copied there is in the image but not where
/// the command would look for it, and what the command would write there is in no image.
fn work_dir(root: &Root, path: &str, owner: Owner) -> Result<RootPath, CommandError> {
    let failed = |source: CommandDirError| CommandError::WorkDir { path: path.to_owned(), source };
    let resolved = RootPath::resolve(&RootPath::root(), path.as_bytes())
        .map_err(|error| failed(error.into()))?;
    let resolved = View::of(root).resolve(&resolved).map_err(|error| failed(error.into()))?;
    if root.protects(&resolved).is_some() {
        return Err(CommandError::WorkDirProtected { path: resolved });
    }
    View::of(root).make(&resolved, owner).map_err(|error| failed(error.into()))?;
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use ebiko_rootfs::RootOptions;

    use super::*;

    #[test]
    fn a_killed_init_is_not_taken_for_a_lack_of_memory() {
        let error = CommandError::InitKilled;
        assert_eq!(
            error.to_string(),
            "the command killed the init process of its step, and with it the step"
        );
        let hint = error.hint().unwrap();
        assert!(hint.contains("$PPID") && !hint.contains("memory"), "{hint}");
        assert_eq!(ExecError::from(error).exit_status(), Some(137));
        let hint = CommandError::Signalled { signal: 9 }.hint().unwrap();
        assert!(hint.contains("memory"), "{hint}");
    }

    #[test]
    fn a_protected_working_directory_is_refused_and_nothing_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let options = RootOptions {
            protected: vec![RootPath::parse(b"workspace").unwrap()],
            ..RootOptions::default()
        };
        let root = Root::open(directory.path(), options).unwrap();
        let owner = Owner { uid: 0, gid: 0 };
        let error = work_dir(&root, "/workspace/./new", owner).unwrap_err();
        assert!(
            matches!(&error, CommandError::WorkDirProtected { path } if path.to_string() == "workspace/new"),
            "{error}"
        );
        assert_eq!(work_dir(&root, "/work", owner).unwrap().to_string(), "work");
    }
}
