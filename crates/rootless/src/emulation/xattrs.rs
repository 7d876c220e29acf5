//! Extended attributes: capabilities of programs, and what layers brought that the disk cannot hold.

use std::os::fd::AsFd;

use ebiko_rootfs::Sight;
use rustix::fs::{StatxFlags, XattrFlags, fstat, removexattr, setxattr};

use super::path::{AtEnd, Found};
use super::permissions::{STICKY, link_to};
use super::{Answer, Emulation, Refused, Result, SUCCESS};
use crate::caller::Caller;

const CAPABILITY: &[u8] = b"security.capability";

const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

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
        let name = caller.read_text(caller.argument(1))?;
        let is_capability = name == CAPABILITY;
        if !is_capability && name != ACCESS_LIST && self.is_shared(caller)? {
            return Ok(Answer::GoOn);
        }
        if is_capability && !self.identity(caller)?.can_set_file_capabilities() {
            return Err(Refused(libc::EPERM));
        }
        let size = usize::try_from(caller.argument(3)).map_err(|_| libc::E2BIG)?;
        if size > LARGEST {
            return Err(Refused(libc::E2BIG));
        }
        let value = caller.read(caller.argument(2), size)?;
        if is_capability {
            return self.set_capability(caller, &value);
        }
        if name == ACCESS_LIST {
            return self.set_list(caller, &value);
        }
        if self.is_shared(caller)? {
            return Ok(Answer::GoOn);
        }
        let found = self.attributed(caller)?;
        let flags = XattrFlags::from_bits_retain(caller.word(4));
        setxattr(link_to(&found.file), name, &value, flags)?;
        Ok(SUCCESS)
    }

    /// An access control list, which changes the bits of the mode and leaves the others.
    fn set_list(&self, caller: &Caller<'_>, value: &[u8]) -> Result {
        let bits = plain_list(value);
        // The kernel neither takes a mark away nor tells a sticky bit from it.
        let is_usual = |sight: &Sight| {
            sight.metadata().mode & STICKY == 0 && !self.files.has_virtual_mode(sight)
        };
        if let Some(bits) = bits
            && let Some(sight) = self.attributed_sight(caller)?
            && is_usual(&sight)
            && self.is_left_to_kernel(caller, &sight, bits)?
        {
            return Ok(Answer::GoOn);
        }
        let found = self.attributed(caller)?;
        let kept = found.metadata().mode & !0o777;
        if let Some(bits) = bits {
            self.change_mode_to(caller, &found, kept | bits)?;
            // What was there besides the bits of the mode.
            removexattr(link_to(&found.file), ACCESS_LIST).ok();
            return Ok(SUCCESS);
        }
        if is_usual(&found.sight) && self.is_shared(caller)? {
            return Ok(Answer::GoOn);
        }
        if !self.identity(caller)?.may_change(found.metadata().uid) {
            return Err(Refused(libc::EPERM));
        }
        let flags = XattrFlags::from_bits_retain(caller.word(4));
        setxattr(link_to(&found.file), ACCESS_LIST, value, flags)?;
        let disk = fstat(&found.file)?;
        let sight = self.files.look_at(found.file.as_fd())?;
        self.files.change_mode(found.file.as_fd(), &sight, kept | disk.st_mode & 0o777)?;
        Ok(SUCCESS)
    }

    fn set_capability(&self, caller: &Caller<'_>, value: &[u8]) -> Result {
        if !is_capability(value) {
            return Err(Refused(libc::EINVAL));
        }
        let found = self.attributed(caller)?;
        if !found.metadata().is_file() {
            return Err(Refused(libc::EPERM));
        }
        let is_there = self.files.xattrs(found.file.as_fd())?.contains_key(CAPABILITY);
        match caller.signed_word(4) {
            libc::XATTR_CREATE if is_there => return Err(Refused(libc::EEXIST)),
            libc::XATTR_REPLACE if !is_there => return Err(Refused(libc::ENODATA)),
            _ => {}
        }
        self.files.set_capability(found.file.as_fd(), Some(value))?;
        Ok(SUCCESS)
    }

    fn get_attribute(&self, caller: &Caller<'_>) -> Result {
        let name = caller.read_text(caller.argument(1))?;
        // Others are on the disk or, as in any container, not this process's to see.
        if name.starts_with(b"trusted.") {
            return Ok(Answer::GoOn);
        }
        let Some(found) = self.attributed_here(caller)? else { return Ok(Answer::GoOn) };
        let mut attributes = self.files.xattrs(found.file.as_fd())?;
        let value = attributes.remove(&name).ok_or(libc::ENODATA)?;
        tell(caller, 2, &value)
    }

    fn list_attributes(&self, caller: &Caller<'_>) -> Result {
        let Some(found) = self.attributed_here(caller)? else { return Ok(Answer::GoOn) };
        let attributes = self.files.xattrs(found.file.as_fd())?;
        let seen = attributes.keys().filter(|name| !name.starts_with(b"trusted."));
        let names: Vec<u8> = seen.flat_map(|name| [name.as_slice(), b"\0"].concat()).collect();
        tell(caller, 1, &names)
    }

    fn remove_attribute(&self, caller: &Caller<'_>) -> Result {
        let name = caller.read_text(caller.argument(1))?;
        if name != CAPABILITY {
            if !self.is_shared(caller)? {
                removexattr(link_to(&self.attributed(caller)?.file), name)?;
                return Ok(SUCCESS);
            }
            return Ok(Answer::GoOn);
        }
        if !self.identity(caller)?.can_set_file_capabilities() {
            return Err(Refused(libc::EPERM));
        }
        let found = self.attributed(caller)?;
        if !self.files.xattrs(found.file.as_fd())?.contains_key(CAPABILITY) {
            return Err(Refused(libc::ENODATA));
        }
        self.files.set_capability(found.file.as_fd(), None)?;
        Ok(SUCCESS)
    }

    /// Whether the kernel would find the same file.
    fn is_shared(&self, caller: &Caller<'_>) -> Result<bool> {
        let Some(at_end) = named(caller).filter(|_| caller.top().is_some()) else {
            return Ok(true);
        };
        let text = caller.read_text(caller.argument(0))?;
        Ok(self.files.place(caller, libc::AT_FDCWD, &text)?.is_shared(at_end))
    }

    /// The file that the first argument names, by a path or as a descriptor.
    fn attributed(&self, caller: &Caller<'_>) -> Result<Found> {
        let Some(at_end) = named(caller) else {
            return Ok(self.files.of_descriptor(caller, caller.signed_word(0))?);
        };
        let text = caller.read_text(caller.argument(0))?;
        let place = self.files.place(caller, libc::AT_FDCWD, &text)?;
        Ok(self.files.open(caller, &place, at_end)?)
    }

    /// The same; `None` where the kernel finds the file, and all attributes of it.
    fn attributed_here(&self, caller: &Caller<'_>) -> Result<Option<Found>> {
        let may_be_virtual = self.files.may_have_virtual_xattrs();
        let Some(at_end) = named(caller) else {
            let sight = if may_be_virtual { self.attributed_sight(caller)? } else { None };
            let is_virtual = sight.is_some_and(|sight| self.files.has_virtual_xattrs(&sight));
            return if is_virtual { self.attributed(caller).map(Some) } else { Ok(None) };
        };
        let text = caller.read_text(caller.argument(0))?;
        let place = self.files.place(caller, libc::AT_FDCWD, &text)?;
        let is_shared = place.is_shared(at_end);
        if is_shared && !may_be_virtual {
            return Ok(None);
        }
        let found = self.files.open(caller, &place, at_end)?;
        let is_kernels = is_shared && !self.files.has_virtual_xattrs(&found.sight);
        Ok((!is_kernels).then_some(found))
    }

    /// The same without opening it, where the first argument is a descriptor.
    fn attributed_sight(&self, caller: &Caller<'_>) -> Result<Option<Sight>> {
        if named(caller).is_some() {
            return Ok(None);
        }
        let mask = StatxFlags::empty();
        Ok(Some(self.files.sight_of_descriptor(caller, caller.signed_word(0), mask)?))
    }
}

/// Whether the first argument is a path, and what is done with a link at its end.
fn named(caller: &Caller<'_>) -> Option<AtEnd> {
    match caller.number() {
        libc::SYS_fsetxattr
        | libc::SYS_fgetxattr
        | libc::SYS_flistxattr
        | libc::SYS_fremovexattr => None,
        libc::SYS_lsetxattr
        | libc::SYS_lgetxattr
        | libc::SYS_llistxattr
        | libc::SYS_lremovexattr => Some(AtEnd::Stay),
        _ => Some(AtEnd::Follow),
    }
}

/// The permission bits that an access control list stands for which says nothing besides (acl(5): three entries, for the
/// owner, the group and others).
fn plain_list(value: &[u8]) -> Option<u32> {
    const VERSION: [u8; 4] = [2, 0, 0, 0];
    const TAGS: [u16; 3] = [1, 4, 32];
    let entries = value.strip_prefix(&VERSION)?;
    if entries.len() != 8 * TAGS.len() {
        return None;
    }
    entries.chunks_exact(8).zip(TAGS).try_fold(0, |bits, (entry, tag)| {
        let number = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        let granted = u32::from(number(2));
        (number(0) == tag && granted <= 7).then_some(bits << 3 | granted)
    })
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
    fn a_list_of_three_entries_is_a_mode() {
        // setfacl -m u::rw-,g::r--,o::--- and with a user more.
        let plain = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x04\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
        assert_eq!(plain_list(plain), Some(0o640));
        let more = [&plain[..12], b"\x02\0\x07\0\x01\0\0\0", &plain[12..]].concat();
        assert_eq!(plain_list(&more), None);
        assert_eq!(plain_list(&plain[..20]), None);
        assert_eq!(plain_list(b""), None);
    }

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
