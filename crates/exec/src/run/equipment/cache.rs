//! Directories that are kept between builds.
//!
//! A cache is the directory `data` in one that is named by the digest of the cache's identity. Beside it lies `lock`:
//! whoever uses the cache holds it, shared or alone. Builds that must not share take further directories of that kind.

#![expect(clippy::disallowed_methods, reason = "caches are kept on the host, below no root")]

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ebiko_oci::{Digest, Event};
use ebiko_plan::{CopyFrom, Mount, MountKind, Sharing};
use ebiko_rootfs::{Attributes, Kind, Root, RootOptions, RootPath, copy_file_contents};
use ebiko_rootless::Content;

use super::{FileAttributes, MountError, Outfitter, Stop, attributes, bind, host_path, target};

/// A cache that a command uses; it is free again when this is dropped.
pub(super) struct Cache {
    id: String,
    data: PathBuf,
    /// Whether its files are moved into the root, so that hard links between the two are possible.
    is_moved: bool,
    _lock: Option<File>,
}

/// How often a taken lock is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// So many builds may use private caches of the same name at the same time.
const MOST_PRIVATE: usize = 1000;

impl Outfitter<'_> {
    pub(super) fn cache(&mut self, mount: &Mount) -> Result<(), Stop> {
        let MountKind::Cache { id, sharing, seed, source, mode, uid, gid } = &mount.kind else {
            return Ok(());
        };
        let caches = &self.site.supplies.caches;
        if caches.as_os_str().is_empty() {
            return Err(MountError::NoCaches.into());
        }
        let file = FileAttributes { mode: *mode, uid: *uid, gid: *gid };
        let name = directory_name(id, seed, file);
        let failed = |path: &Path| {
            let (id, path) = (id.clone(), path.to_owned());
            move |source| MountError::Cache { id, path, source }
        };
        std::fs::create_dir_all(caches).map_err(failed(caches))?;
        let caches = std::fs::canonicalize(caches).map_err(failed(caches))?;
        let directory = caches.join(&name);
        let known = self.equipment.caches.iter().find(|cache| cache.id == name);
        let data = if let Some(known) = known {
            known.data.clone()
        } else {
            let (directory, lock) = self.lock(id, &directory, *sharing)?;
            let data = directory.join("data");
            let cache = Cache {
                id: name,
                data: data.clone(),
                is_moved: self.is_in_place(),
                _lock: Some(lock),
            };
            self.equipment.caches.push(cache);
            if !data.exists() {
                self.found(id, &directory, seed, file)?;
            }
            data
        };
        let root = self.site.root.beside(&data)?;
        let missing = || MountError::NotFound { path: source.clone() };
        let looked = |source| MountError::CacheRoot { id: id.clone(), source };
        let within =
            RootPath::resolve(&RootPath::root(), source.as_bytes()).map_err(|_| missing())?;
        let within = root.resolve(&within).map_err(looked)?;
        root.find(&within).map_err(looked)?.ok_or_else(missing)?;
        if mount.read_only && !ebiko_rootless::can_mount(self.site.place) {
            let target = mount.target.as_deref().unwrap_or_default();
            let text = format!(
                "this container lacks CAP_SYS_ADMIN and mounts nothing: the cache at `{target}` is not read-only for root"
            );
            self.site.observer.event(Event::Warning { text: &text });
        }
        self.attach(target(mount)?, Content::Kept(host_path(&root, &within)), mount.read_only);
        Ok(())
    }

    /// Makes the cache of an id that is new, complete or not at all.
    fn found(
        &mut self,
        id: &str,
        directory: &Path,
        seed: &CopyFrom,
        file: FileAttributes,
    ) -> Result<(), Stop> {
        let root = self.site.root.beside(directory)?;
        let new = RootPath::parse(b"new").unwrap_or_default();
        root.make_way(&new, Kind::Regular)?;
        let origin = bind::origin(self.site, seed)?;
        if let Some(origin) = origin {
            let metadata = origin.metadata(&RootPath::root())?;
            bind::replicate(self.site, seed, "/", &metadata, &root, &new, &RootPath::root())?;
        } else {
            root.create_dir(&new)?;
            root.set_attributes(&new, &attributes(file))?;
        }
        let data = RootPath::parse(b"data").unwrap_or_default();
        root.rename_within(&new, &data)
            .map_err(|source| MountError::CacheRoot { id: id.to_owned(), source })?;
        Ok(())
    }

    /// Waits until the cache may be used, and says so if that is not at once.
    fn lock(&self, id: &str, directory: &Path, sharing: Sharing) -> Result<(PathBuf, File), Stop> {
        let failed = |source: io::Error| MountError::Cache {
            id: id.to_owned(),
            path: directory.to_owned(),
            source,
        };
        if sharing == Sharing::Private {
            for number in 0..MOST_PRIVATE {
                let directory = match number {
                    0 => directory.to_owned(),
                    number => directory.with_extension(number.to_string()),
                };
                let lock = open_lock(&directory).map_err(failed)?;
                match lock.try_lock() {
                    Ok(()) => return Ok((directory, lock)),
                    Err(TryLockError::WouldBlock) => {}
                    Err(TryLockError::Error(error)) => return Err(failed(error).into()),
                }
            }
            return Err(failed(io::ErrorKind::ResourceBusy.into()).into());
        }
        let lock = open_lock(directory).map_err(failed)?;
        let mut is_told = false;
        loop {
            let tried = match sharing {
                Sharing::Locked => lock.try_lock(),
                Sharing::Shared | Sharing::Private => lock.try_lock_shared(),
            };
            match tried {
                Ok(()) => return Ok((directory.to_owned(), lock)),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed(error).into()),
            }
            if let Some(signal) = self.site.interrupt.signal() {
                return Err(Stop::Interrupted(signal));
            }
            if !is_told {
                let text = format!("waiting for the cache {id:?}, which another build uses");
                self.site.observer.event(Event::Warning { text: &text });
                is_told = true;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn open_lock(directory: &Path) -> io::Result<File> {
    std::fs::create_dir_all(directory)?;
    File::options().create(true).truncate(false).write(true).open(directory.join("lock"))
}

/// Ids are any text. Caches that begin differently are different caches.
fn directory_name(id: &str, seed: &CopyFrom, file: FileAttributes) -> String {
    let seed = match seed {
        CopyFrom::Scratch => format!("{:o} {}:{}", file.mode, file.uid, file.gid),
        CopyFrom::Context => "context".to_owned(),
        CopyFrom::Named(name) => format!("context {name}"),
        CopyFrom::Stage(stage) => stage.to_string(),
        CopyFrom::Image(image) => format!("image {image}"),
    };
    Digest::of(format!("{seed}\0{id}").as_bytes()).hex()
}

impl Cache {
    /// Breaks hard links between the cache and the root: changing one would change the other, and a file of the image
    /// would be what the next build makes of it. Between file systems, and so between mounts, there are none.
    pub(super) fn separate(&self) -> Result<(), MountError> {
        if !self.is_moved || !self.data.exists() {
            return Ok(());
        }
        let root = Root::open(&self.data, RootOptions::default())?;
        let failed = |source| MountError::CacheRoot { id: self.id.clone(), source };
        let mut links: BTreeMap<(u64, u64), (u32, Vec<RootPath>)> = BTreeMap::new();
        let mut open = vec![RootPath::root()];
        while let Some(directory) = open.pop() {
            let mut invalid = None;
            root.open_dir(&directory)
                .and_then(|opened| {
                    opened.visit(|name, metadata| match directory.child(name) {
                        Ok(path) if metadata.is_dir() => open.push(path),
                        Ok(path) if metadata.nlink > 1 => {
                            let key = (metadata.dev, metadata.ino);
                            let entry = links.entry(key).or_insert((metadata.nlink, Vec::new()));
                            entry.1.push(path);
                        }
                        Ok(_) => {}
                        Err(error) => invalid = Some(error),
                    })
                })
                .map_err(failed)?;
        }
        for (count, paths) in links.into_values() {
            if u32::try_from(paths.len()).is_ok_and(|found| found < count) {
                self.renew(&root, &paths)?;
            }
        }
        Ok(())
    }

    /// Makes `paths` names of a new file with the same content.
    fn renew(&self, root: &Root, paths: &[RootPath]) -> Result<(), MountError> {
        let Some((first, others)) = paths.split_first() else { return Ok(()) };
        let failed = |source| MountError::CacheRoot { id: self.id.clone(), source };
        let metadata = root.metadata(first).map_err(failed)?;
        if !metadata.is_file() {
            // Links and the like are removed: they are not worth more than what they say.
            for path in paths {
                root.remove(path).map_err(failed)?;
            }
            return Ok(());
        }
        let new = RootPath::parse(b".ebiko-new").unwrap_or_default();
        root.make_way(&new, Kind::Regular).map_err(failed)?;
        let old = root.open_file(first).map_err(failed)?;
        let file = root.create_file(&new).map_err(failed)?;
        copy_file_contents(&old, &file).map_err(|source| MountError::Cache {
            id: self.id.clone(),
            path: host_path(root, first),
            source,
        })?;
        let attributes = Attributes {
            xattrs: Some(root.xattrs(first).map_err(failed)?),
            ..metadata.attributes()
        };
        root.set_file_attributes(&file, &new, &attributes).map_err(failed)?;
        root.rename_within(&new, first).map_err(failed)?;
        for other in others {
            root.remove(other).map_err(failed)?;
            root.hard_link(first, other).map_err(failed)?;
        }
        Ok(())
    }
}
