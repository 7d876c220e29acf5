//! Secrets, as a file in memory, a variable, or both.

use std::io;

use ebiko_plan::{Mount, MountKind};
use ebiko_rootfs::{Root, RootPath};
use ebiko_rootless::{Content, MemoryDirectory};

use super::{FileAttributes, MountError, Outfitter, Stop, host_path, target, write};

impl Outfitter<'_> {
    pub(super) fn secret(&mut self, mount: &Mount) -> Result<(), Stop> {
        let MountKind::Secret { id, env, required, mode, uid, gid } = &mount.kind else {
            return Ok(());
        };
        let Some(secret) = self.site.supplies.secrets.get(id) else {
            if *required {
                return Err(MountError::NoSecret { id: id.clone() }.into());
            }
            return Ok(());
        };
        if let Some(name) = env {
            let value = str::from_utf8(secret.expose())
                .map_err(|_| MountError::SecretNotText { id: id.clone(), name: name.clone() })?;
            self.equipment.env.push((name.clone(), value.to_owned()));
        }
        if mount.target.is_some() {
            let target = target(mount)?;
            let root = self.memory()?;
            self.count += 1;
            let path = RootPath::parse(self.count.to_string().as_bytes()).unwrap_or_default();
            let file = FileAttributes { mode: *mode, uid: *uid, gid: *gid };
            write(&root, &path, secret.expose(), file)?;
            let is_plain = (*mode, *uid, *gid) == (0o400, 0, 0);
            let content = Content::Secret { path: host_path(&root, &path), is_plain };
            self.attach(target, content, mount.read_only);
        }
        Ok(())
    }

    /// The directory in memory for this command.
    fn memory(&mut self) -> Result<Root, MountError> {
        let scratch = self.scratch()?;
        if self.equipment.memory.is_none() {
            let memory = MemoryDirectory::make(self.site.place, &scratch.join("memory"))?;
            // A link leads here where nothing can be mounted; the files have modes of their own.
            memory.open_to_all().map_err(|source: io::Error| MountError::Scratch {
                path: memory.path().to_owned(),
                source,
            })?;
            self.equipment.memory = Some(memory);
        }
        let path = self.equipment.memory.as_ref().map_or(scratch.as_path(), MemoryDirectory::path);
        Ok(self.site.root.beside(path)?)
    }
}
