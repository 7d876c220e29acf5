//! What a guest gets on the container's own root, where nothing can be mounted.

#![expect(
    clippy::disallowed_methods,
    reason = "`/etc/hosts` is the container's here, not the image's"
)]

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ebiko_rootfs::{Kind, Root, RootPath, StandIns, Substitute};

use crate::attach::{self, Attach, Content};
use crate::emulation::{At, Emulation};
use crate::filter::Purpose;
use crate::guest::Surroundings;
use crate::mounts::{self, Step};
use crate::supervisor::Rules;
use crate::{Guest, GuestStage, NetworkAccess, Outcome, RunError, capabilities, child};

/// Runs a guest between putting everything in its place and putting everything back.
///
/// What cannot be put back fails the step: there would be something in the root that is not the image's.
pub(crate) fn run(
    guest: &Guest<'_>,
    start: impl FnOnce(Surroundings) -> Result<Outcome, RunError>,
) -> Result<Outcome, RunError> {
    let resources = guest.resources;
    let has_hosts = guest.host_name.is_some() || !resources.hosts.is_empty();
    let emulates = !capabilities::missing_capabilities().is_empty();
    if guest.attachments.is_empty() && !has_hosts && resources.shm_size.is_none() {
        let has_network = guest.network == NetworkAccess::Shared;
        return start(if has_network || emulates || !child::can_mount() {
            Surroundings::in_place(purpose(guest), rules(guest, emulates)?)
        } else {
            Surroundings::mounted(guest, Vec::new())
        });
    }
    if resources.shm_size.is_some() && !child::can_mount() {
        return Err(RunError::SharedMemory);
    }
    let settle = || guest.root.settle().map_err(|source| RunError::Prepare { source });
    let mut stand_ins = StandIns::new(guest.root, guest.store)?;
    let surroundings = if child::can_mount() && !emulates {
        mounted(guest, &mut stand_ins)?
    } else {
        filtered(guest, &mut stand_ins, emulates)?
    };
    let hosts = if has_hosts { Hosts::write(guest, &mut stand_ins)? } else { None };
    settle()?;
    let outcome = start(surroundings);
    let hosts = hosts.map_or(Ok(()), Hosts::restore);
    let restored = stand_ins.restore();
    // A command that has failed is what to tell about; nothing of it is kept.
    if !matches!(outcome, Ok(Outcome::Exited(0))) {
        return outcome;
    }
    restored?;
    hosts.map_err(|source| RunError::Hosts { source })?;
    outcome
}

/// In a container that may mount, the guest has a mount namespace; only the places to mount on are made.
fn mounted(guest: &Guest<'_>, stand_ins: &mut StandIns<'_>) -> Result<Surroundings, RunError> {
    let mut steps = Vec::new();
    let mut covered: Vec<RootPath> = Vec::new();
    for attachment in attach::in_order(guest.attachments) {
        let failed = |source| RunError::Attach { target: attachment.target.clone(), source };
        let is_directory = attachment.content.kind().map_err(failed)? == Kind::Directory;
        let resolved = guest.root.resolve(&attachment.target);
        let mut target = resolved.map_err(|source| RunError::Prepare { source })?;
        // Beneath another mount the root's own files are not what the guest sees.
        if !covered.iter().any(|above| target.starts_with(above)) {
            target = stand_ins.put(&target, Substitute::Place { is_directory })?;
        }
        steps.push(Step::Attach(Attach::new(&target, attachment).map_err(failed)?));
        covered.push(target);
    }
    if let Some(size) = guest.resources.shm_size {
        let dev = RootPath::parse(b"dev").unwrap_or_default();
        let shm = dev.child(b"shm").unwrap_or_default();
        stand_ins.put(&shm, Substitute::Place { is_directory: true })?;
        let step = mounts::shared_memory(&dev, size);
        // It covers where the builder keeps secrets, and is covered by what the guest wants there.
        let is_covered = covered.iter().any(|target| target.starts_with(&shm));
        steps.insert(if is_covered { 0 } else { steps.len() }, step);
    }
    Ok(Surroundings::mounted(guest, steps))
}

/// What a filter must do for a guest without namespaces.
fn purpose(guest: &Guest<'_>) -> Purpose {
    Purpose {
        no_network: guest.network == NetworkAccess::None,
        host_name: guest.host_name.is_some(),
        read_only: false,
        emulate: None,
    }
}

/// How the filter's questions are answered.
fn rules(guest: &Guest<'_>, emulate: bool) -> Result<Rules, RunError> {
    let emulation = emulate.then(|| Emulation::new(guest.root, guest.credentials, At::OwnRoot));
    let emulation = emulation
        .transpose()
        .map_err(|source| RunError::Start { stage: GuestStage::Filter, source })?;
    Ok(Rules {
        host_name: guest.host_name.map(|name| name.as_bytes().to_vec()),
        emulation,
        ..Rules::default()
    })
}

/// In any other, files stand in for mounts, and a filter for namespaces.
fn filtered(
    guest: &Guest<'_>,
    stand_ins: &mut StandIns<'_>,
    emulate: bool,
) -> Result<Surroundings, RunError> {
    let mut filter = purpose(guest);
    let mut rules = rules(guest, emulate)?;
    for attachment in attach::in_order(guest.attachments) {
        let what = match &attachment.content {
            Content::Kept(path) => Substitute::Kept(path),
            Content::Disposable(path) => Substitute::Disposable(path),
            Content::Secret { path, is_plain: true } => Substitute::InMemory(path),
            Content::Secret { path, is_plain: false } => Substitute::Secret(path),
            // A filter can be got round, and what lies here is not the guest's.
            Content::Foreign(_) => {
                let source = io::Error::from_raw_os_error(libc::EPERM);
                return Err(RunError::Attach { target: attachment.target.clone(), source });
            }
            Content::Tmpfs { .. } => Substitute::Directory,
        };
        let target = stand_ins.put(&attachment.target, what)?;
        if attachment.read_only && matches!(attachment.content, Content::Disposable(_)) {
            filter.read_only = true;
            rules.read_only.push(beneath(guest.root, &target));
        }
    }
    Ok(Surroundings::in_place(filter, rules))
}

fn beneath(root: &Root, path: &RootPath) -> PathBuf {
    root.host_path().join(OsStr::from_bytes(path.as_bytes()))
}

/// The container's `/etc/hosts`, which the kubelet mounts: it cannot be moved, so its text is changed.
struct Hosts {
    path: PathBuf,
    before: Option<Vec<u8>>,
}

impl Hosts {
    /// Makes the guest's own name and the hosts that it shall know known; what is to be restored, unless the root's own
    /// file was replaced.
    fn write(guest: &Guest<'_>, stand_ins: &mut StandIns<'_>) -> Result<Option<Self>, RunError> {
        let failed = |source: io::Error| RunError::Hosts { source };
        let target = RootPath::parse(b"etc/hosts").unwrap_or_default();
        let path = guest.root.host_path().join("etc/hosts");
        let before = match std::fs::read(&path) {
            Ok(before) => before,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        let known = [guest.resources.host_lines().as_bytes(), &before].concat();
        let text = guest.host_name.map_or(known.clone(), |name| mounts::hosts_file(name, &known));
        if guest.root.protects(&target).is_some() {
            let hosts = Self { path, before: Some(before) };
            overwrite(&hosts.path, &text).map_err(failed)?;
            return Ok(Some(hosts));
        }
        let own = guest.store.join("hosts");
        std::fs::write(&own, &text).map_err(failed)?;
        stand_ins.put(&target, Substitute::Disposable(&own))?;
        Ok(None)
    }

    fn restore(mut self) -> io::Result<()> {
        self.before.take().map_or(Ok(()), |before| overwrite(&self.path, &before))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            overwrite(&self.path, &before).ok();
        }
    }
}

/// Keeps the file itself, on which something is mounted.
fn overwrite(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
    file.write_all(text)
}
