//! Files of the context, of stages and of images.

use ebiko_plan::{Action, CopyAction, CopyFrom, CopySource, Unpack};
use ebiko_rootfs::{Attributes, Metadata, Root, RootPath};
use ebiko_rootless::{Content, Overlay};

use super::{MountError, Outfitter, Stop, host_path};
use crate::{ExecError, Site};

impl Outfitter<'_> {
    /// What a bind mount shows: the files themselves where the kernel keeps the command from changing them, by a
    /// read-only mount or an overlay, and otherwise a copy.
    pub(super) fn bind(
        &mut self,
        from: &CopyFrom,
        source: &str,
        read_only: bool,
        target: &RootPath,
    ) -> Result<Content, Stop> {
        let found = find(self.site, from, source)?;
        if let Some((root, path, metadata)) = &found
            && !is_filtered(self.site, from)
        {
            let files = host_path(root, path);
            if read_only && ebiko_rootless::can_mount(self.site.place) {
                return Ok(Content::Foreign(files));
            }
            if !read_only && metadata.is_dir() {
                let (root, path) = self.next()?;
                let scratch = host_path(&root, &path);
                if let Some(overlay) = Overlay::make(self.site.place, &files, &scratch) {
                    let content = Content::Disposable(overlay.path().to_owned());
                    self.equipment.overlays.push(overlay);
                    return Ok(content);
                }
            }
        }
        let (root, path) = self.next()?;
        match found {
            None => root.create_dir(&path)?,
            Some((_, _, metadata)) => {
                replicate(self.site, from, source, &metadata, &root, &path, target)?;
            }
        }
        Ok(Content::Disposable(host_path(&root, &path)))
    }
}

/// Whether some files of the directory must not be seen.
fn is_filtered(site: &Site<'_>, from: &CopyFrom) -> bool {
    match from {
        CopyFrom::Context => site.context.ignore().is_some(),
        CopyFrom::Named(name) => {
            site.inputs.contexts.get(name).is_some_and(|context| context.ignore().is_some())
        }
        CopyFrom::Stage(_) | CopyFrom::Image(_) | CopyFrom::Scratch => false,
    }
}

/// The root that is mounted from; `None` where it has no files.
pub(super) fn origin<'a>(site: &Site<'a>, from: &CopyFrom) -> Result<Option<&'a Root>, MountError> {
    let missing = |from: String| MountError::NoRoot { from };
    Ok(match from {
        CopyFrom::Context => Some(site.context.root()),
        CopyFrom::Named(name) => {
            Some(site.inputs.contexts.get(name).ok_or_else(|| missing(name.clone()))?.root())
        }
        CopyFrom::Stage(id) => {
            Some(site.inputs.stages.get(id).ok_or_else(|| missing(id.to_string()))?)
        }
        CopyFrom::Image(image) => {
            Some(site.inputs.images.get(image).ok_or_else(|| missing(image.to_string()))?)
        }
        CopyFrom::Scratch => None,
    })
}

/// What `source` names, with links followed within the origin; `None` for a root without files.
fn find<'a>(
    site: &Site<'a>,
    from: &CopyFrom,
    source: &str,
) -> Result<Option<(&'a Root, RootPath, Metadata)>, MountError> {
    let missing = || MountError::NotFound { path: source.to_owned() };
    let path = RootPath::resolve(&RootPath::root(), source.as_bytes()).map_err(|_| missing())?;
    let Some(root) = origin(site, from)? else {
        return if path.is_root() { Ok(None) } else { Err(missing()) };
    };
    let path = root
        .resolve(&path)
        .map_err(|error| if error.is_missing() { missing() } else { MountError::Root(error) })?;
    let metadata = root.find(&path)?.ok_or_else(missing)?;
    Ok(Some((root, path, metadata)))
}

/// Copies as `COPY` does: what the ignore file hides stays away, and files of a context belong to root.
pub(super) fn replicate(
    site: &Site<'_>,
    from: &CopyFrom,
    source: &str,
    metadata: &Metadata,
    root: &Root,
    path: &RootPath,
    target: &RootPath,
) -> Result<(), Stop> {
    let action = CopyAction {
        from: from.clone(),
        sources: vec![CopySource::Path(literal(source))],
        files: Vec::new(),
        destination: format!("/{path}"),
        chown: None,
        user: String::new(),
        chmod: None,
        plain_parents: false,
        unpack: Unpack::Nothing,
        link: false,
        parents: false,
        exclude: Vec::new(),
    };
    let site = Site {
        root,
        context: site.context,
        inputs: site.inputs,
        supplies: site.supplies,
        created: site.created,
        place: site.place,
        interrupt: site.interrupt,
        observer: site.observer,
        archives: site.archives,
        is_unwritten: site.is_unwritten,
        later_reads: None,
    };
    match crate::perform(&Action::Copy(action), &site) {
        Ok(_) => {}
        Err(ExecError::Copy(source)) => {
            let target = format!("/{target}");
            return Err(MountError::Copy { target, source: Box::new(source) }.into());
        }
        Err(ExecError::Interrupted { signal }) => return Err(Stop::Interrupted(signal)),
        Err(_) => return Err(MountError::NotFound { path: source.to_owned() }.into()),
    }
    if metadata.is_dir() {
        let is_context = matches!(from, CopyFrom::Context | CopyFrom::Named(_));
        let owner = |id: u32| Some(if is_context { 0 } else { id });
        let attributes = Attributes {
            uid: owner(metadata.uid),
            gid: owner(metadata.gid),
            mode: Some(metadata.mode),
            mtime: Some(metadata.mtime),
            ..Attributes::default()
        };
        root.set_attributes(path, &attributes)?;
    }
    Ok(())
}

/// A pattern that matches only this path.
fn literal(path: &str) -> String {
    path.chars().fold(String::new(), |mut pattern, character| {
        if matches!(character, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
        pattern
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_of_a_source_is_a_wildcard() {
        assert_eq!(literal("/a/[id]/*?\\.txt"), "/a/\\[id]/\\*\\?\\\\.txt");
    }
}
