//! Extended attributes: capabilities of programs, and what layers brought that the disk cannot hold.

use std::os::fd::{AsFd, OwnedFd};

use super::files::named;
use super::path::Place;
use super::{Answer, Emulation, Refused, Result, SUCCESS};
use crate::caller::Caller;

const CAPABILITY: &[u8] = b"security.capability";

/// The largest value that the kernel takes (`XATTR_SIZE_MAX`).
const LARGEST: usize = 65536;

impl Emulation {
    pub(super) fn extended_attribute(&self, caller: &Caller<'_>) -> Result {
        match caller.number() {
            libc::SYS_setxattr | libc::SYS_lsetxattr | libc::SYS_fsetxattr => {
                self.set_attribute(caller)
            }
            libc::SYS_getxattr | libc::SYS_lgetxattr | libc::SYS_fgetxattr => {
                self.get_attribute(caller)
            }
            libc::SYS_listxattr | libc::SYS_llistxattr | libc::SYS_flistxattr => {
                self.list_attributes(caller)
            }
            _ => self.remove_attribute(caller),
        }
    }

    fn set_attribute(&self, caller: &Caller<'_>) -> Result {
        if caller.read_text(caller.argument(1))? != CAPABILITY {
            return Ok(Answer::GoOn);
        }
        if !self.identity(caller)?.can_set_file_capabilities() {
            return Err(Refused(libc::EPERM));
        }
        let size = usize::try_from(caller.argument(3)).map_err(|_| libc::E2BIG)?;
        if size > LARGEST {
            return Err(Refused(libc::E2BIG));
        }
        let value = caller.read(caller.argument(2), size)?;
        if !is_capability(&value) {
            return Err(Refused(libc::EINVAL));
        }
        let file = file(caller)?;
        if !self.files.metadata(file.as_fd())?.is_file() {
            return Err(Refused(libc::EPERM));
        }
        let is_there = self.files.xattrs(file.as_fd())?.contains_key(CAPABILITY);
        match caller.signed_word(4) {
            libc::XATTR_CREATE if is_there => return Err(Refused(libc::EEXIST)),
            libc::XATTR_REPLACE if !is_there => return Err(Refused(libc::ENODATA)),
            _ => {}
        }
        self.files.set_capability(file.as_fd(), Some(&value))?;
        Ok(SUCCESS)
    }

    fn get_attribute(&self, caller: &Caller<'_>) -> Result {
        let name = caller.read_text(caller.argument(1))?;
        // Others are on the disk or, as in any container, not this process's to see.
        if name != CAPABILITY && (caller.top().is_none() || name.starts_with(b"trusted.")) {
            return Ok(Answer::GoOn);
        }
        let file = file(caller)?;
        let mut attributes = self.files.xattrs(file.as_fd())?;
        let value = attributes.remove(&name).ok_or(libc::ENODATA)?;
        tell(caller, 2, &value)
    }

    fn list_attributes(&self, caller: &Caller<'_>) -> Result {
        let file = file(caller)?;
        let attributes = self.files.xattrs(file.as_fd())?;
        if !attributes.contains_key(CAPABILITY) && caller.top().is_none() {
            return Ok(Answer::GoOn);
        }
        let seen = attributes.keys().filter(|name| !name.starts_with(b"trusted."));
        let names: Vec<u8> = seen.flat_map(|name| [name.as_slice(), b"\0"].concat()).collect();
        tell(caller, 1, &names)
    }

    fn remove_attribute(&self, caller: &Caller<'_>) -> Result {
        if caller.read_text(caller.argument(1))? != CAPABILITY {
            return Ok(Answer::GoOn);
        }
        if !self.identity(caller)?.can_set_file_capabilities() {
            return Err(Refused(libc::EPERM));
        }
        let file = file(caller)?;
        if !self.files.xattrs(file.as_fd())?.contains_key(CAPABILITY) {
            return Err(Refused(libc::ENODATA));
        }
        self.files.set_capability(file.as_fd(), None)?;
        Ok(SUCCESS)
    }
}

/// The file that the first argument names, by a path or as a descriptor.
fn file(caller: &Caller<'_>) -> Result<OwnedFd> {
    let flags = match caller.number() {
        libc::SYS_fsetxattr
        | libc::SYS_fgetxattr
        | libc::SYS_flistxattr
        | libc::SYS_fremovexattr => {
            let place = Place::of_descriptor(caller, caller.signed_word(0))?;
            return Ok(place.open_as_it_is()?);
        }
        libc::SYS_lsetxattr
        | libc::SYS_lgetxattr
        | libc::SYS_llistxattr
        | libc::SYS_lremovexattr => libc::AT_SYMLINK_NOFOLLOW,
        _ => 0,
    };
    named(caller, libc::AT_FDCWD, caller.argument(0), flags)
}

/// Answers with a value in the buffer that is an argument, of the size that is the next; with 0 only its size is asked
/// for.
fn tell(caller: &Caller<'_>, buffer: usize, value: &[u8]) -> Result {
    let room = usize::try_from(caller.argument(buffer + 1)).unwrap_or(usize::MAX);
    if room != 0 {
        if room < value.len() {
            return Err(Refused(libc::ERANGE));
        }
        caller.write(caller.argument(buffer), value)?;
    }
    Ok(Answer::Done(i64::try_from(value.len()).unwrap_or_default()))
}

/// Whether this is a `struct vfs_cap_data` or `vfs_ns_cap_data` of a revision that is as long as it says.
fn is_capability(value: &[u8]) -> bool {
    let Some(&[.., revision]) = value.first_chunk::<4>() else { return false };
    matches!((revision, value.len()), (2, 20) | (3, 24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_the_length_of_their_revision() {
        let of = |revision: u8, length: usize| {
            let mut value = vec![0; length];
            value[3] = revision;
            is_capability(&value)
        };
        assert!(of(2, 20) && of(3, 24));
        assert!(!of(2, 24) && !of(3, 20) && !of(1, 12) && !is_capability(b""));
    }
}
