//! Calls about who a process is.

use super::credentials::{Identity, Ids};
use super::{Answer, Emulation, Refused, Result, SUCCESS};
use crate::caller::Caller;

/// The most groups that a process can have (`NGROUPS_MAX`).
const MOST_GROUPS: usize = 65536;

/// `struct __user_cap_header_struct` and one `struct __user_cap_data_struct`.
const HEADER_SIZE: u64 = 8;
const DATA_SIZE: usize = 12;

/// Versions of both, and of which the kernel says that it prefers it.
const VERSION_1: u32 = 0x1998_0330;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;

impl Emulation {
    pub(super) fn process(&mut self, caller: &Caller<'_>) -> Result {
        let number = caller.number();
        let identity = self.identity(caller)?;
        let word = |index| caller.word(index);
        let told = |id: u32| Ok(Answer::Done(id.into()));
        match number {
            libc::SYS_getuid => return told(identity.users.real),
            libc::SYS_geteuid => return told(identity.users.effective),
            libc::SYS_getgid => return told(identity.groups.real),
            libc::SYS_getegid => return told(identity.groups.effective),
            libc::SYS_getresuid => return tell_all(caller, identity.users),
            libc::SYS_getresgid => return tell_all(caller, identity.groups),
            libc::SYS_getgroups => return tell_groups(caller, &identity.further_groups),
            libc::SYS_capget => return self.tell_capabilities(caller, &identity),
            libc::SYS_getsockopt => return self.tell_peer(caller),
            _ => {}
        }
        let mut new = (*identity).clone();
        let mut answer = 0;
        match number {
            libc::SYS_setuid => new.set_user(word(0))?,
            libc::SYS_setgid => new.set_group(word(0))?,
            libc::SYS_setreuid => new.set_users(word(0), word(1))?,
            libc::SYS_setregid => new.set_groups(word(0), word(1))?,
            libc::SYS_setresuid => new.set_all_users([word(0), word(1), word(2)])?,
            libc::SYS_setresgid => new.set_all_groups([word(0), word(1), word(2)])?,
            libc::SYS_setfsuid => answer = new.set_files_user(word(0)),
            libc::SYS_setfsgid => answer = new.set_files_group(word(0)),
            libc::SYS_setgroups => new.set_further_groups(groups(caller)?)?,
            libc::SYS_capset => set_capabilities(caller, &mut new)?,
            libc::SYS_prctl => match option(caller, &mut new)? {
                Some(told) => answer = told,
                None => return Ok(Answer::GoOn),
            },
            _ => return Ok(Answer::GoOn),
        }
        if new != *identity {
            self.identities.set(caller.thread(), new)?;
        }
        Ok(Answer::Done(answer.into()))
    }

    /// `capget(2)`, also of other processes.
    fn tell_capabilities(&self, caller: &Caller<'_>, own: &Identity) -> Result {
        let Some((count, process)) = header(caller)? else { return Ok(SUCCESS) };
        let of_other;
        let identity = if process == 0 || process == caller.thread() {
            own
        } else {
            of_other = self.identities.of(process)?;
            &of_other
        };
        let held = identity.capabilities;
        let mut bytes = Vec::with_capacity(2 * DATA_SIZE);
        for shift in [0, 32].into_iter().take(count) {
            for set in [held.effective, held.permitted, held.inheritable] {
                let half = u32::try_from(set >> shift & 0xffff_ffff).unwrap_or_default();
                bytes.extend(half.to_ne_bytes());
            }
        }
        caller.write(caller.argument(1), &bytes)?;
        Ok(SUCCESS)
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_ne_bytes)
}

fn tell_all(caller: &Caller<'_>, ids: Ids) -> Result {
    for (index, id) in [ids.real, ids.effective, ids.saved].into_iter().enumerate() {
        caller.write(caller.argument(index), &id.to_ne_bytes())?;
    }
    Ok(SUCCESS)
}

/// `getgroups(2)`.
fn tell_groups(caller: &Caller<'_>, groups: &[u32]) -> Result {
    let room = usize::try_from(caller.signed_word(0)).map_err(|_| libc::EINVAL)?;
    if room != 0 {
        if room < groups.len() {
            return Err(Refused(libc::EINVAL));
        }
        let bytes: Vec<u8> = groups.iter().flat_map(|group| group.to_ne_bytes()).collect();
        if !bytes.is_empty() {
            caller.write(caller.argument(1), &bytes)?;
        }
    }
    Ok(Answer::Done(i64::try_from(groups.len()).unwrap_or_default()))
}

/// What `setgroups(2)` is given.
fn groups(caller: &Caller<'_>) -> Result<Vec<u32>> {
    let count = usize::try_from(caller.signed_word(0)).map_err(|_| libc::EINVAL)?;
    if count > MOST_GROUPS {
        return Err(Refused(libc::EINVAL));
    }
    if count == 0 {
        return Ok(Vec::new());
    }
    let bytes = caller.read(caller.argument(1), count * 4)?;
    Ok(bytes.chunks_exact(4).map(number).collect())
}

/// How many structs of data the header of `capget(2)` and `capset(2)` announces, and of which process; `None` where only
/// the version was asked for.
fn header(caller: &Caller<'_>) -> Result<Option<(usize, u32)>> {
    let address = caller.argument(0);
    let bytes = caller.read(address, usize::try_from(HEADER_SIZE).unwrap_or_default())?;
    let (version, process) = bytes.split_at(4);
    let count = match number(version) {
        VERSION_1 => 1,
        VERSION_2 | VERSION_3 => 2,
        _ => {
            caller.write(address, &VERSION_3.to_ne_bytes())?;
            return if caller.argument(1) == 0 { Ok(None) } else { Err(Refused(libc::EINVAL)) };
        }
    };
    if caller.argument(1) == 0 {
        return Err(Refused(libc::EFAULT));
    }
    let process = number(process);
    if process.cast_signed() < 0 {
        return Err(Refused(libc::EINVAL));
    }
    Ok(Some((count, process)))
}

fn set_capabilities(caller: &Caller<'_>, identity: &mut Identity) -> Result<()> {
    let Some((count, process)) = header(caller)? else { return Err(Refused(libc::EFAULT)) };
    if process != 0 && process != caller.thread() {
        return Err(Refused(libc::EPERM));
    }
    let bytes = caller.read(caller.argument(1), count * DATA_SIZE)?;
    let mut sets = [0_u64; 3];
    for (index, value) in bytes.chunks_exact(4).map(number).enumerate() {
        sets[index % 3] |= u64::from(value) << (32 * (index / 3));
    }
    let [effective, permitted, inheritable] = sets;
    Ok(identity.set_capabilities(effective, permitted, inheritable)?)
}

/// `prctl(2)`; `None` where it is the kernel's.
fn option(caller: &Caller<'_>, identity: &mut Identity) -> Result<Option<u32>> {
    let value = caller.argument(1);
    Ok(Some(match caller.signed_word(0) {
        // Who answers its calls must be able to read its memory.
        libc::PR_SET_DUMPABLE | libc::PR_GET_SECUREBITS => 0,
        libc::PR_GET_DUMPABLE => 1,
        libc::PR_GET_KEEPCAPS => identity.keeps_capabilities.into(),
        libc::PR_SET_KEEPCAPS if value > 1 => return Err(Refused(libc::EINVAL)),
        libc::PR_SET_KEEPCAPS => {
            identity.keeps_capabilities = value == 1;
            0
        }
        libc::PR_CAPBSET_READ => identity.is_bound(value)?.into(),
        libc::PR_CAPBSET_DROP => {
            identity.drop_from_bounding_set(value)?;
            0
        }
        libc::PR_SET_SECUREBITS if value == 0 => 0,
        libc::PR_SET_SECUREBITS => return Err(Refused(libc::EPERM)),
        libc::PR_SET_NO_NEW_PRIVS if value != 1 => return Err(Refused(libc::EINVAL)),
        libc::PR_SET_NO_NEW_PRIVS => {
            identity.no_new_privileges = true;
            0
        }
        libc::PR_GET_NO_NEW_PRIVS => identity.no_new_privileges.into(),
        libc::PR_CAP_AMBIENT => identity.ambient(value, caller.argument(2))?,
        _ => return Ok(None),
    }))
}
