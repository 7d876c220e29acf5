//! Whom a process takes itself for, and how that changes.
//!
//! The rules are the kernel's: credentials(7), capabilities(7) and the pages of the calls. Everything here is a function
//! of values, so that it can be tried without a process.

use crate::capabilities::DEFAULT_MASK;

/// A call is refused with this number.
pub(crate) type Refusal = i32;

const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;
const CAP_SETPCAP: u32 = 8;
const CAP_CHOWN: u32 = 0;
const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_FOWNER: u32 = 3;
const CAP_FSETID: u32 = 4;
const CAP_MKNOD: u32 = 27;
const CAP_SETFCAP: u32 = 31;

/// The highest capability that kernels know by now is 40.
const LAST_CAPABILITY: u64 = 40;

/// The real, effective and saved identity, and that for files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ids {
    pub(crate) real: u32,
    pub(crate) effective: u32,
    pub(crate) saved: u32,
    pub(crate) files: u32,
}

impl Ids {
    fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id, files: id }
    }

    fn has(self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    fn is_root_somewhere(self) -> bool {
        self.has(0)
    }

    /// `setuid(2)`.
    fn set(self, id: u32, privileged: bool) -> Result<Self, Refusal> {
        if id == u32::MAX {
            return Err(libc::EINVAL);
        }
        if privileged {
            return Ok(Self::all(id));
        }
        if id != self.real && id != self.saved {
            return Err(libc::EPERM);
        }
        Ok(Self { effective: id, files: id, ..self })
    }

    /// `setreuid(2)`; the highest number leaves one as it is.
    fn set_both(self, real: u32, effective: u32, privileged: bool) -> Result<Self, Refusal> {
        let mut new = self;
        if real != u32::MAX {
            if !privileged && ![self.real, self.effective].contains(&real) {
                return Err(libc::EPERM);
            }
            new.real = real;
        }
        if effective != u32::MAX {
            if !privileged && !self.has(effective) {
                return Err(libc::EPERM);
            }
            new.effective = effective;
        }
        if real != u32::MAX || (effective != u32::MAX && effective != self.real) {
            new.saved = new.effective;
        }
        new.files = new.effective;
        Ok(new)
    }

    /// `setresuid(2)`.
    fn set_all(self, wanted: [u32; 3], privileged: bool) -> Result<Self, Refusal> {
        let mut new = self;
        let places = [&mut new.real, &mut new.effective, &mut new.saved];
        for (place, id) in places.into_iter().zip(wanted).filter(|&(_, id)| id != u32::MAX) {
            if !privileged && !self.has(id) {
                return Err(libc::EPERM);
            }
            *place = id;
        }
        new.files = new.effective;
        Ok(new)
    }
}

/// The sets of capabilities of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Capabilities {
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
    pub(crate) bounding: u64,
}

/// Everything that a process inherits of whom it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) users: Ids,
    pub(crate) groups: Ids,
    /// Sorted, as the kernel keeps them.
    pub(crate) further_groups: Vec<u32>,
    pub(crate) capabilities: Capabilities,
    /// `PR_SET_KEEPCAPS`.
    pub(crate) keeps_capabilities: bool,
    /// `PR_SET_NO_NEW_PRIVS`, as far as the process has asked for it itself.
    pub(crate) no_new_privileges: bool,
}

/// What the bits of a program's file make of who executes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SetId {
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
}

impl Identity {
    /// With Docker's default capabilities for root and none for anybody else.
    pub(crate) fn new(uid: u32, gid: u32, groups: &[u32]) -> Self {
        let mut further_groups = groups.to_vec();
        further_groups.sort_unstable();
        let held = if uid == 0 { DEFAULT_MASK } else { 0 };
        Self {
            users: Ids::all(uid),
            groups: Ids::all(gid),
            further_groups,
            capabilities: Capabilities {
                effective: held,
                permitted: held,
                inheritable: 0,
                ambient: 0,
                bounding: DEFAULT_MASK,
            },
            keeps_capabilities: false,
            no_new_privileges: false,
        }
    }

    fn can(&self, capability: u32) -> bool {
        self.capabilities.effective & (1 << capability) != 0
    }

    pub(crate) fn can_make_devices(&self) -> bool {
        self.can(CAP_MKNOD)
    }

    pub(crate) fn can_set_file_capabilities(&self) -> bool {
        self.can(CAP_SETFCAP)
    }

    pub(crate) fn overrides_permissions(&self) -> bool {
        self.can(CAP_DAC_OVERRIDE)
    }

    /// As `access(2)` asks: with the real user and group, and what root has where that is root.
    pub(crate) fn as_real(&self) -> Self {
        let mut real = self.clone();
        real.users.files = real.users.real;
        real.groups.files = real.groups.real;
        let held = &mut real.capabilities;
        held.effective = if real.users.real == 0 { held.permitted } else { 0 };
        real
    }

    /// Whether the mode of a file that belongs to `uid` may be changed.
    pub(crate) fn may_change(&self, uid: u32) -> bool {
        self.users.files == uid || self.can(CAP_FOWNER)
    }

    /// Whether a file of `(uid, gid)` may be given away.
    pub(crate) fn may_give(
        &self,
        (uid, gid): (u32, u32),
        to_user: Option<u32>,
        to_group: Option<u32>,
    ) -> bool {
        if self.can(CAP_CHOWN) {
            return true;
        }
        let owns = self.users.files == uid;
        to_user.is_none_or(|user| owns && user == uid)
            && to_group.is_none_or(|group| owns && (group == gid || self.is_in(group)))
    }

    /// Whether set-group-id can be set on a file of this group.
    pub(crate) fn may_set_group_id(&self, gid: u32) -> bool {
        self.can(CAP_FSETID) || self.is_in(gid)
    }

    /// Whether it is in a group.
    pub(crate) fn is_in(&self, gid: u32) -> bool {
        self.groups.files == gid || self.further_groups.binary_search(&gid).is_ok()
    }

    pub(crate) fn set_user(&mut self, uid: u32) -> Result<(), Refusal> {
        let users = self.users.set(uid, self.can(CAP_SETUID))?;
        self.become_user(users);
        Ok(())
    }

    pub(crate) fn set_users(&mut self, real: u32, effective: u32) -> Result<(), Refusal> {
        let users = self.users.set_both(real, effective, self.can(CAP_SETUID))?;
        self.become_user(users);
        Ok(())
    }

    pub(crate) fn set_all_users(&mut self, wanted: [u32; 3]) -> Result<(), Refusal> {
        let users = self.users.set_all(wanted, self.can(CAP_SETUID))?;
        self.become_user(users);
        Ok(())
    }

    pub(crate) fn set_group(&mut self, gid: u32) -> Result<(), Refusal> {
        self.groups = self.groups.set(gid, self.can(CAP_SETGID))?;
        Ok(())
    }

    pub(crate) fn set_groups(&mut self, real: u32, effective: u32) -> Result<(), Refusal> {
        self.groups = self.groups.set_both(real, effective, self.can(CAP_SETGID))?;
        Ok(())
    }

    pub(crate) fn set_all_groups(&mut self, wanted: [u32; 3]) -> Result<(), Refusal> {
        self.groups = self.groups.set_all(wanted, self.can(CAP_SETGID))?;
        Ok(())
    }

    /// `setfsuid(2)`: never fails, and answers who it was.
    pub(crate) fn set_files_user(&mut self, uid: u32) -> u32 {
        let before = self.users.files;
        // The highest number is none, and a way to ask.
        if uid == u32::MAX {
            return before;
        }
        if self.can(CAP_SETUID) || self.users.has(uid) {
            self.users.files = uid;
        }
        before
    }

    pub(crate) fn set_files_group(&mut self, gid: u32) -> u32 {
        let before = self.groups.files;
        if gid == u32::MAX {
            return before;
        }
        if self.can(CAP_SETGID) || self.groups.has(gid) {
            self.groups.files = gid;
        }
        before
    }

    pub(crate) fn set_further_groups(&mut self, mut groups: Vec<u32>) -> Result<(), Refusal> {
        if !self.can(CAP_SETGID) {
            return Err(libc::EPERM);
        }
        groups.sort_unstable();
        self.further_groups = groups;
        Ok(())
    }

    /// Capabilities follow the user: "Effect of user ID changes on capabilities" in capabilities(7).
    fn become_user(&mut self, users: Ids) {
        let before = std::mem::replace(&mut self.users, users);
        let held = &mut self.capabilities;
        if before.is_root_somewhere() && !users.is_root_somewhere() {
            if !self.keeps_capabilities {
                held.permitted = 0;
                held.effective = 0;
            }
            held.ambient = 0;
        }
        if before.effective == 0 && users.effective != 0 {
            held.effective = 0;
        }
        if before.effective != 0 && users.effective == 0 {
            held.effective = held.permitted;
        }
    }

    /// `capset(2)`.
    pub(crate) fn set_capabilities(
        &mut self,
        effective: u64,
        permitted: u64,
        inheritable: u64,
    ) -> Result<(), Refusal> {
        let held = &mut self.capabilities;
        let may_inherit = held.inheritable | held.permitted;
        let is_refused = permitted & !held.permitted != 0
            || effective & !permitted != 0
            || (held.effective & (1 << CAP_SETPCAP) == 0 && inheritable & !may_inherit != 0)
            || inheritable & !(held.inheritable | held.bounding) != 0;
        if is_refused {
            return Err(libc::EPERM);
        }
        held.effective = effective;
        held.permitted = permitted;
        held.inheritable = inheritable;
        held.ambient &= permitted & inheritable;
        Ok(())
    }

    /// `PR_CAPBSET_READ`.
    pub(crate) fn is_bound(&self, capability: u64) -> Result<bool, Refusal> {
        if capability > LAST_CAPABILITY {
            return Err(libc::EINVAL);
        }
        Ok(self.capabilities.bounding & (1 << capability) != 0)
    }

    /// `PR_CAPBSET_DROP`.
    pub(crate) fn drop_from_bounding_set(&mut self, capability: u64) -> Result<(), Refusal> {
        if !self.can(CAP_SETPCAP) {
            return Err(libc::EPERM);
        }
        if capability > LAST_CAPABILITY {
            return Err(libc::EINVAL);
        }
        self.capabilities.bounding &= !(1 << capability);
        Ok(())
    }

    /// `PR_CAP_AMBIENT` with its second and third argument; what the call answers.
    pub(crate) fn ambient(&mut self, what: u64, capability: u64) -> Result<u32, Refusal> {
        const IS_SET: u64 = 1;
        const RAISE: u64 = 2;
        const LOWER: u64 = 3;
        const CLEAR_ALL: u64 = 4;
        let held = &mut self.capabilities;
        if what == CLEAR_ALL {
            held.ambient = 0;
            return Ok(0);
        }
        if capability > LAST_CAPABILITY {
            return Err(libc::EINVAL);
        }
        let bit = 1 << capability;
        match what {
            IS_SET => return Ok((held.ambient & bit != 0).into()),
            RAISE if held.permitted & held.inheritable & bit == 0 => return Err(libc::EPERM),
            RAISE => held.ambient |= bit,
            LOWER => held.ambient &= !bit,
            _ => return Err(libc::EINVAL),
        }
        Ok(0)
    }

    /// Who it is after `execve(2)` of a program with these bits.
    pub(crate) fn after_exec(&self, set_id: SetId) -> Self {
        let mut new = self.clone();
        let set_id = if self.no_new_privileges { SetId::default() } else { set_id };
        for (ids, id) in [(&mut new.users, set_id.user), (&mut new.groups, set_id.group)] {
            ids.effective = id.unwrap_or(ids.effective);
            ids.saved = ids.effective;
            ids.files = ids.effective;
        }
        let held = &mut new.capabilities;
        if set_id != SetId::default() {
            held.ambient = 0;
        }
        let is_root = new.users.effective == 0;
        held.permitted = if is_root || new.users.real == 0 {
            held.bounding | held.inheritable
        } else {
            held.ambient
        };
        held.effective = if is_root { held.permitted } else { held.ambient };
        new.keeps_capabilities = false;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOE: u32 = 1001;

    fn root() -> Identity {
        Identity::new(0, 0, &[0])
    }

    fn ids(identity: &Identity) -> [u32; 4] {
        let Ids { real, effective, saved, files } = identity.users;
        [real, effective, saved, files]
    }

    #[test]
    fn who_gives_up_root_for_good_cannot_have_it_back() {
        let mut identity = root();
        identity.set_further_groups(vec![50, 5]).unwrap();
        assert_eq!(identity.further_groups, [5, 50]);
        identity.set_all_groups([JOE; 3]).unwrap();
        identity.set_all_users([JOE; 3]).unwrap();
        assert_eq!(ids(&identity), [JOE; 4]);
        assert_eq!(identity.capabilities.permitted, 0);
        assert_eq!(identity.set_user(0), Err(libc::EPERM));
        assert_eq!(identity.set_all_users([u32::MAX, 0, u32::MAX]), Err(libc::EPERM));
        assert_eq!(identity.set_further_groups(Vec::new()), Err(libc::EPERM));
        assert_eq!(identity.set_group(0), Err(libc::EPERM));
    }

    #[test]
    fn who_keeps_the_saved_user_can_come_back() {
        let mut identity = root();
        identity.set_all_users([u32::MAX, JOE, u32::MAX]).unwrap();
        assert_eq!(ids(&identity), [0, JOE, 0, JOE]);
        assert!(!identity.can_make_devices());
        assert_eq!(identity.set_further_groups(Vec::new()), Err(libc::EPERM));
        identity.set_users(u32::MAX, 0).unwrap();
        assert_eq!(ids(&identity), [0, 0, 0, 0]);
        assert!(identity.can_make_devices());
    }

    #[test]
    fn setuid_of_root_sets_all_and_of_others_only_the_effective_one() {
        let mut identity = root();
        identity.set_all_users([JOE, 7, 8]).unwrap();
        assert_eq!(identity.set_user(9), Err(libc::EPERM));
        assert_eq!(identity.set_user(7), Err(libc::EPERM), "only the real and the saved user");
        identity.set_user(8).unwrap();
        assert_eq!(ids(&identity), [JOE, 8, 8, 8]);
        assert_eq!(identity.set_user(u32::MAX), Err(libc::EINVAL));
    }

    #[test]
    fn setreuid_saves_the_new_effective_user() {
        let mut identity = root();
        identity.set_users(JOE, JOE).unwrap();
        assert_eq!(ids(&identity), [JOE; 4]);
        let mut identity = root();
        identity.set_users(u32::MAX, JOE).unwrap();
        assert_eq!(ids(&identity), [0, JOE, JOE, JOE]);
        assert_eq!(identity.set_users(7, u32::MAX), Err(libc::EPERM));
        identity.set_users(JOE, 0).unwrap();
        assert_eq!(ids(&identity), [JOE, 0, 0, 0], "the real user may become the effective one");
    }

    #[test]
    fn the_user_for_files_is_told_and_set_where_it_may_be() {
        let mut identity = root();
        assert_eq!(identity.set_files_user(JOE), 0);
        assert_eq!(identity.set_files_user(u32::MAX), JOE);
        assert_eq!(identity.set_files_user(u32::MAX), JOE, "it was asked, not set");
        let mut identity = Identity::new(JOE, JOE, &[]);
        assert_eq!(identity.set_files_user(0), JOE);
        assert_eq!(identity.users.files, JOE);
    }

    #[test]
    fn capabilities_can_be_kept_over_a_change_of_user() {
        let mut identity = root();
        identity.keeps_capabilities = true;
        identity.set_user(JOE).unwrap();
        assert_eq!(identity.capabilities.permitted, DEFAULT_MASK);
        assert_eq!(identity.capabilities.effective, 0);
        identity.set_capabilities(1 << CAP_SETUID, DEFAULT_MASK, 0).unwrap();
        identity.set_user(0).unwrap();
        assert_eq!(identity.users.real, 0);
        assert!(!identity.after_exec(SetId::default()).keeps_capabilities);
    }

    #[test]
    fn nobody_can_give_themselves_a_capability() {
        let mut identity = root();
        assert_eq!(identity.set_capabilities(0, u64::MAX, 0), Err(libc::EPERM));
        assert_eq!(identity.set_capabilities(2, 1, 0), Err(libc::EPERM));
        identity.set_capabilities(1, 1, 1).unwrap();
        assert_eq!(identity.set_capabilities(3, 3, 1), Err(libc::EPERM));
        assert_eq!(identity.drop_from_bounding_set(3), Err(libc::EPERM));
        assert_eq!(root().is_bound(CAP_CHOWN.into()), Ok(true));
        assert_eq!(root().is_bound(21), Ok(false), "SYS_ADMIN");
        assert_eq!(root().is_bound(41), Err(libc::EINVAL));
    }

    #[test]
    fn a_program_with_set_user_id_makes_root_of_joe() {
        let joe = Identity::new(JOE, JOE, &[JOE]);
        let set_id = SetId { user: Some(0), group: None };
        let sudo = joe.after_exec(set_id);
        assert_eq!(ids(&sudo), [JOE, 0, 0, 0]);
        assert_eq!(sudo.capabilities.effective, DEFAULT_MASK);
        let bound = Identity { no_new_privileges: true, ..joe };
        assert_eq!(ids(&bound.after_exec(set_id)), [JOE; 4]);
    }

    #[test]
    fn files_are_given_away_by_their_owner_within_its_groups() {
        let joe = Identity::new(JOE, JOE, &[50]);
        let own = (JOE, JOE);
        assert!(joe.may_give(own, None, Some(50)));
        assert!(joe.may_give(own, Some(JOE), None));
        assert!(!joe.may_give(own, None, Some(51)));
        assert!(!joe.may_give(own, Some(0), None));
        assert!(!joe.may_give((0, 0), None, Some(50)));
        assert!(root().may_give((7, 7), Some(8), Some(9)));
        assert!(joe.may_change(JOE) && !joe.may_change(0) && root().may_change(JOE));
        assert!(joe.may_set_group_id(50) && !joe.may_set_group_id(51));
        assert!(!joe.can_set_file_capabilities() && root().can_set_file_capabilities());
    }

    #[test]
    fn ambient_capabilities_must_be_permitted_and_inheritable() {
        let mut identity = root();
        assert_eq!(identity.ambient(2, 0), Err(libc::EPERM));
        identity.set_capabilities(DEFAULT_MASK, DEFAULT_MASK, 1).unwrap();
        assert_eq!(identity.ambient(2, 0), Ok(0));
        assert_eq!(identity.ambient(1, 0), Ok(1));
        identity.set_user(JOE).unwrap();
        assert_eq!(identity.ambient(1, 0), Ok(0));
        assert_eq!(identity.ambient(9, 0), Err(libc::EINVAL));
    }
}
