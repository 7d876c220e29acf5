//! Servers that only have files: a repository as it lies on a disk, after `git update-server-info`.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::num::NonZero;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::GitErrorKind;
use super::object::{EntryKind, tag_target, tree_entries};
use super::object_id::{Kind, ObjectId};
use super::pack::Damage;
use super::refs::Refs;
use super::server::Server;
use super::smart::{MAX_NAMES, push_ref};
use super::store::Store;
use crate::host;

/// The text of a small file.
const SMALL: usize = 1 << 20;

/// Reads the list of names, and which of them is the default.
pub(crate) fn refs(server: &Server<'_>, text: &[u8]) -> Result<Refs, GitErrorKind> {
    let mut refs = Refs::default();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        push_ref(&mut refs, line, b'\t')?;
    }
    if let Some(head) = server.file("HEAD")? {
        let head = head.into_bytes(SMALL)?;
        let target = std::str::from_utf8(&head).ok().and_then(|head| head.strip_prefix("ref:"));
        refs.default = target.map(|target| target.trim().to_owned());
    }
    Ok(refs)
}

/// Fetches what a checkout of `id` needs, and nothing that came before.
pub(crate) fn fetch(
    server: &Server<'_>,
    id: &ObjectId,
    depth: Option<NonZero<u32>>,
    store: &mut Store,
) -> Result<Vec<ObjectId>, GitErrorKind> {
    let mut shallow = Vec::new();
    let mut packs = None;
    let mut seen = BTreeSet::new();
    let mut pending = Vec::new();
    // The nearest first, so that each is met at its least distance.
    let mut commits = VecDeque::from([(*id, depth.map(NonZero::get))]);
    while let Some((id, left)) = pending.pop().map(|id| (id, None)).or_else(|| commits.pop_front())
    {
        server.check_interrupt()?;
        if !seen.insert(id) {
            continue;
        }
        if seen.len() as u64 > server.limits.objects {
            let (count, limit) = (seen.len() as u64, server.limits.objects);
            return Err(Damage::TooMany { count, limit }.into());
        }
        match obtain(server, &id, &mut packs, store)? {
            Kind::Blob => {}
            Kind::Tag => commits.push_back((tag_target(id, &store.read(&id, Kind::Tag)?)?.1, left)),
            Kind::Commit => {
                let (_, commit) = store.peel(&id)?;
                match left {
                    Some(..=1) if commit.parents.is_empty() => {}
                    Some(..=1) => shallow.push(id),
                    more => {
                        let left = more.map(|left| left - 1);
                        commits.extend(commit.parents.iter().map(|parent| (*parent, left)));
                    }
                }
                pending.push(commit.tree);
            }
            Kind::Tree => {
                let data = store.read(&id, Kind::Tree)?;
                let entries = tree_entries(id, &data)?;
                let ours = entries.iter().filter(|entry| entry.kind != EntryKind::Submodule);
                pending.extend(ours.map(|entry| entry.id));
            }
        }
    }
    Ok(shallow)
}

/// Brings one object into the store, with the pack that it is in if it has no file of its own.
fn obtain(
    server: &Server<'_>,
    id: &ObjectId,
    packs: &mut Option<Vec<RemotePack>>,
    store: &mut Store,
) -> Result<Kind, GitErrorKind> {
    if let Some(kind) = store.kind(id)? {
        return Ok(kind);
    }
    let name = id.to_string();
    let (first, rest) = name.split_at_checked(2).unwrap_or_default();
    if let Some(mut response) = server.file(&format!("objects/{first}/{rest}"))? {
        let (path, file) = server.spool(&mut response, store)?;
        store.add_loose(id, &path, file)?;
    } else {
        let packs = match packs {
            Some(packs) => packs,
            None => packs.insert(list(server, store)?),
        };
        let missing = Damage::Missing { id: *id };
        let place = packs.iter().position(|pack| pack.may_have(id)).ok_or(missing)?;
        let pack = packs.swap_remove(place);
        let Some(mut response) = server.file(&format!("objects/pack/{}.pack", pack.name))? else {
            return Err(Damage::Missing { id: *id }.into());
        };
        let (path, file) = server.spool(&mut response, store)?;
        store.add_pack(&path, file, server.network.is_interrupted)?;
    }
    Ok(store.kind(id)?.ok_or(Damage::Missing { id: *id })?)
}

/// A pack that the server has, and its index.
struct RemotePack {
    name: String,
    index: Option<File>,
}

/// The packs of the server, with their indexes.
fn list(server: &Server<'_>, store: &mut Store) -> Result<Vec<RemotePack>, GitErrorKind> {
    let Some(response) = server.file("objects/info/packs")? else { return Ok(Vec::new()) };
    let text = response.into_bytes(MAX_NAMES)?;
    let mut packs = Vec::new();
    for line in String::from_utf8_lossy(&text).lines() {
        let name = line.strip_prefix("P ").and_then(|name| name.strip_suffix(".pack"));
        let is_plain = |name: &&str| {
            name.starts_with("pack-")
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let Some(name) = name.filter(is_plain) else { continue };
        let mut index = None;
        if let Some(mut response) = server.file(&format!("objects/pack/{name}.idx"))? {
            let (path, file): (PathBuf, File) = server.spool(&mut response, store)?;
            // The open file is all that is needed, and the directory may be kept.
            host::remove_file(&path).map_err(|source| GitErrorKind::Write { source })?;
            index = Some(file);
        }
        packs.push(RemotePack { name: name.to_owned(), index });
    }
    Ok(packs)
}

impl RemotePack {
    /// Whether the server's index has the object. An index that cannot be read rules nothing out.
    fn may_have(&self, id: &ObjectId) -> bool {
        self.index.as_ref().and_then(|file| find(file, id)).unwrap_or(true)
    }
}

fn find(index: &File, id: &ObjectId) -> Option<bool> {
    const FANOUT: u64 = 8;
    const NAMES: u64 = FANOUT + 256 * 4;
    let word = |offset: u64| {
        let mut word = [0; 4];
        index.read_exact_at(&mut word, offset).ok()?;
        Some(u32::from_be_bytes(word))
    };
    if word(0)? != 0xff74_4f63 || word(4)? != 2 {
        return None;
    }
    let first = u64::from(*id.as_bytes().first()?);
    let mut low = if first == 0 { 0 } else { word(FANOUT + 4 * (first - 1))? };
    let mut high = word(FANOUT + 4 * first)?;
    while low < high {
        let middle = low + (high - low) / 2;
        let mut name = [0; ObjectId::LENGTH];
        index.read_exact_at(&mut name, NAMES + u64::from(middle) * 20).ok()?;
        match name.as_slice().cmp(id.as_bytes()) {
            std::cmp::Ordering::Equal => return Some(true),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    Some(false)
}
