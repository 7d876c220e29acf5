//! The directory that runc reads: the writable root and the files that a node mounts into every pod.

use std::ffi::CString;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::Pod;
use crate::place::set_mode;

/// Deleted, and unmounted before that, when dropped.
#[derive(Debug)]
pub(super) struct Bundle {
    mounts: Vec<PathBuf>,
    dir: tempfile::TempDir,
    id: String,
}

impl Bundle {
    pub(super) fn new(pod: &Pod) -> anyhow::Result<Self> {
        let dir = crate::scratch_dir("ebiko-pod-")?;
        let id = dir.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut bundle = Self { mounts: Vec::new(), dir, id };
        bundle.make_root(pod)?;
        bundle.give_root(pod)?;
        bundle.make_node_files(pod)?;
        Ok(bundle)
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Unique on this machine; also the name of the cgroup.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn termination_message(&self) -> String {
        std::fs::read_to_string(self.file("termination-log")).unwrap_or_default()
    }

    fn make_root(&mut self, pod: &Pod) -> anyhow::Result<()> {
        ensure!(pod.root.is_dir(), "there is no root directory `{}`", pod.root.display());
        std::fs::create_dir(self.root())?;
        let writable = self.file("writable");
        std::fs::create_dir(&writable)?;
        if self.mount_overlay(&pod.root, &writable).is_ok() {
            return Ok(());
        }
        // The temporary directory may itself be on an overlay, which cannot be an upper layer: memory can.
        mount("tmpfs", &writable, "tmpfs", MountFlags::empty(), None)
            .context("cannot mount a tmpfs")?;
        self.mounts.push(writable.clone());
        self.mount_overlay(&pod.root, &writable)
    }

    fn mount_overlay(&mut self, lower: &Path, writable: &Path) -> anyhow::Result<()> {
        for name in ["upper", "work"] {
            std::fs::create_dir_all(writable.join(name))?;
        }
        let lower = lower.canonicalize()?;
        let (lower, writable) = (lower.display(), writable.display());
        let options = format!("lowerdir={lower},upperdir={writable}/upper,workdir={writable}/work");
        let options = CString::new(options).context("a path holds a zero byte")?;
        mount("overlay", self.root(), "overlay", MountFlags::empty(), options.as_c_str())
            .with_context(|| format!("cannot mount an overlay of `{lower}`"))?;
        self.mounts.push(self.root());
        Ok(())
    }

    /// Moves every owner into the pod's user namespace, or gives everything to the pod's user.
    fn give_root(&self, pod: &Pod) -> anyhow::Result<()> {
        let first = pod.first_id();
        if first == 0 && !pod.owned_root {
            return Ok(());
        }
        let (user, group) = pod.user_and_group();
        for entry in walkdir::WalkDir::new(self.root()) {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let inside =
                if pod.owned_root { (user, group) } else { (metadata.uid(), metadata.gid()) };
            lchown(entry.path(), Some(first + inside.0), Some(first + inside.1))
                .with_context(|| format!("cannot give away `{}`", entry.path().display()))?;
            // The kernel drops set-user-id and set-group-id with the owner.
            if metadata.is_file() && metadata.mode() & 0o6000 != 0 {
                set_mode(entry.path(), metadata.mode() & 0o7777)?;
            }
        }
        Ok(())
    }

    fn make_node_files(&self, pod: &Pod) -> anyhow::Result<()> {
        let resolv_conf = match &pod.resolv_conf {
            Some(text) => text.clone(),
            None => std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        };
        let account = self.file("serviceaccount");
        std::fs::create_dir(&account)?;
        set_mode(&account, 0o755)?;
        let files = [
            ("hosts", pod.hosts.as_str(), 0o644),
            ("hostname", "pod\n", 0o644),
            ("resolv.conf", &resolv_conf, 0o644),
            ("termination-log", "", 0o666),
            ("serviceaccount/token", "a-service-account-token", 0o644),
            ("serviceaccount/namespace", "ci\n", 0o644),
            ("serviceaccount/ca.crt", "", 0o644),
        ];
        for (name, text, mode) in files {
            std::fs::write(self.file(name), text)
                .with_context(|| format!("cannot write `{name}` for the pod"))?;
            set_mode(&self.file(name), mode)?;
        }
        Ok(())
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for mounted in self.mounts.iter().rev() {
            // Detached, because a process that is just being killed may still use it. Nothing can be done on failure.
            let _already_gone = unmount(mounted, UnmountFlags::DETACH);
        }
    }
}
