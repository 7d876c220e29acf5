//! Moving files instead of copying them, where nobody else wants them.

use std::collections::{BTreeMap, HashMap, HashSet};

use ebiko_context::Walk;
use ebiko_plan::{CopyAction, CopyFrom, CopySource, Unpack};
use ebiko_rootfs::{Kind, Metadata, RootPath, Taker};

use crate::Site;
use crate::copy::source::{Item, Source};
use crate::copy::{Copier, Stop};

/// That a copy may take the files of its source away.
pub(super) struct Taking<'a> {
    taker: Taker<'a>,
    /// How many files and trees it has taken.
    pub(super) count: u64,
}

impl<'a> Taking<'a> {
    /// `None` where the copy must leave its source as it is: others read the same, or it reads something twice itself.
    pub(super) fn of(action: &CopyAction, source: &Source<'a>, site: &Site<'a>) -> Option<Self> {
        let later = site.later_reads?;
        let is_made = matches!(action.from, CopyFrom::Stage(_) | CopyFrom::Image(_));
        let takes_all = action.exclude.is_empty() && !action.parents;
        if !is_made || !takes_all || action.unpack != Unpack::Nothing {
            return None;
        }
        let own = named_once(action, source)?;
        for action in later {
            let wanted = named_plainly(action, source)?;
            if wanted.iter().any(|path| own.iter().any(|own| overlap(own, path))) {
                return None;
            }
        }
        Some(Self { taker: site.root.taker(source.files()?)?, count: 0 })
    }
}

/// What a copy reads, if nothing of it is beneath or the same as another.
fn named_once(action: &CopyAction, source: &Source<'_>) -> Option<Vec<RootPath>> {
    let mut paths = Vec::new();
    for named in &action.sources {
        let CopySource::Path(pattern) = named else { return None };
        // What is wrong is said when its turn comes.
        paths.extend(source.select(pattern).ok()?.into_iter().map(|item| item.path));
    }
    paths.sort();
    paths.windows(2).all(|pair| !overlap(&pair[0], &pair[1])).then_some(paths)
}

/// What a later copy reads, if it says so without wildcards and no link on the way to it leads through something else.
fn named_plainly(action: &CopyAction, source: &Source<'_>) -> Option<Vec<RootPath>> {
    let is_plain = |pattern: &str| {
        let [item] = <[Item; 1]>::try_from(source.select(pattern).ok()?).ok()?;
        let spelled = RootPath::resolve(&RootPath::root(), pattern.as_bytes()).ok()?;
        (item.path == spelled).then_some(item.path)
    };
    let named = action.sources.iter().map(|named| match named {
        CopySource::Path(pattern) if !action.parents => is_plain(pattern),
        _ => None,
    });
    named.collect()
}

fn overlap(left: &RootPath, right: &RootPath) -> bool {
    left.starts_with(right) || right.starts_with(left)
}

/// What in a directory of the source cannot be taken.
pub(super) struct Survey {
    /// Files that are more than one name of one directory, each with the innermost directory that has all of its names,
    /// if there is one. Such a directory can be taken as a whole.
    bound: BTreeMap<RootPath, Option<RootPath>>,
}

impl Survey {
    /// Looks at everything beneath `directory`, if something may be taken at all.
    pub(super) fn of(
        copier: &Copier<'_>,
        source: &Source<'_>,
        directory: &RootPath,
    ) -> Result<Self, Stop> {
        let mut bound = BTreeMap::new();
        let walk = copier.taking.as_ref().and_then(|_| source.walk(directory));
        let mut groups: HashMap<(u64, u64), (u32, Vec<RootPath>)> = HashMap::new();
        for member in walk.into_iter().flatten() {
            let member = member?;
            match member.metadata.kind {
                Kind::Directory => {}
                // A copy of a socket is an empty file.
                Kind::Socket => drop(bound.insert(member.path, None)),
                _ if member.metadata.nlink > 1 => {
                    let Metadata { dev, ino, nlink, .. } = member.metadata;
                    groups.entry((dev, ino)).or_insert((nlink, Vec::new())).1.push(member.path);
                }
                _ => {}
            }
        }
        for (nlink, names) in groups.into_values() {
            let is_whole = usize::try_from(nlink).is_ok_and(|nlink| nlink == names.len());
            let top = is_whole.then(|| common_directory(&names));
            bound.extend(names.into_iter().map(|name| (name, top.clone())));
        }
        Ok(Self { bound })
    }

    /// Takes what is at `from` to `to`, if it can be taken as it is and nothing is there yet; whether it did.
    pub(super) fn take(
        &self,
        copier: &mut Copier<'_>,
        source: &Source<'_>,
        from: &RootPath,
        metadata: &Metadata,
        to: &RootPath,
    ) -> Result<bool, Stop> {
        let beneath = self.bound.range(from..).take_while(|(name, _)| name.starts_with(from));
        let is_whole =
            |top: &Option<RootPath>| top.as_ref().is_some_and(|top| top.starts_with(from));
        let is_free = beneath.map(|(_, top)| top).all(is_whole);
        if copier.taking.is_none() || !is_free {
            return Ok(false);
        }
        if metadata.is_dir() {
            // One that is there is merged, also where `--link` does not look.
            if copier.target.is_taken(to)? {
                return Ok(false);
            }
        } else {
            copier.target.clear_for_file(to)?;
        }
        take(copier, source, from, to)
    }
}

/// The innermost directory that all of these are in.
fn common_directory(names: &[RootPath]) -> RootPath {
    let Some(first) = names.first() else { return RootPath::root() };
    let mut directory = first.parent().unwrap_or_default();
    while !names.iter().all(|name| name.starts_with(&directory)) {
        directory = directory.parent().unwrap_or_default();
    }
    directory
}

/// Takes a file that an instruction names, to where nothing is; whether it did.
pub(super) fn take_file(
    copier: &mut Copier<'_>,
    source: &Source<'_>,
    from: &RootPath,
    metadata: &Metadata,
    to: &RootPath,
) -> Result<bool, Stop> {
    if metadata.kind == Kind::Socket || metadata.nlink > 1 {
        return Ok(false);
    }
    take(copier, source, from, to)
}

fn take(
    copier: &mut Copier<'_>,
    source: &Source<'_>,
    from: &RootPath,
    to: &RootPath,
) -> Result<bool, Stop> {
    let Some(taking) = &mut copier.taking else { return Ok(false) };
    if !taking.taker.take(from, to) {
        return Ok(false);
    }
    taking.count += 1;
    change_attributes(copier, source, to)?;
    copier.target.touch(to.clone());
    Ok(true)
}

/// Gives what was taken the attributes that its copy would have, where they are others.
fn change_attributes(
    copier: &Copier<'_>,
    source: &Source<'_>,
    path: &RootPath,
) -> Result<(), Stop> {
    if copier.owner.is_none() && copier.chmod.is_none() {
        return Ok(());
    }
    let root = copier.target.root;
    let metadata = root.metadata(path)?;
    let beneath = metadata.is_dir().then(|| Walk::new(root, None, path)).into_iter().flatten();
    // A change of the mode may depend on what the mode is.
    let mut changed = HashSet::new();
    for member in beneath {
        copier.check_interrupt()?;
        let member = member?;
        if member.metadata.nlink == 1
            || member.metadata.is_dir()
            || changed.insert((member.metadata.dev, member.metadata.ino))
        {
            change(copier, source, &member.path, &member.metadata)?;
        }
    }
    change(copier, source, path, &metadata)
}

fn change(
    copier: &Copier<'_>,
    source: &Source<'_>,
    path: &RootPath,
    metadata: &Metadata,
) -> Result<(), Stop> {
    let root = copier.target.root;
    let mut attributes = copier.own_attributes(source, metadata);
    // Setting the mode changes access control lists, which a copy has from its source.
    attributes.xattrs = Some(root.xattrs(path)?);
    Ok(root.set_attributes(path, &attributes)?)
}
