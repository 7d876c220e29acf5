//! Whom `USER` and `--chown` mean.
//!
//! The two have different rules, and both are BuildKit's. A command must run as somebody, so an
//! unknown name is an error. A file that is given to an unknown name is given to root.

use ebiko_rootfs::{Root, RootError, RootPath};
use ebiko_rootless::Credentials;

use crate::passwd::{self, Group, User};

/// Nobody can run a command as this user.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum AccountError {
    #[error("unable to find user {name}: no matching entries in passwd file")]
    User { name: String },
    #[error("unable to find group {name}: no matching entries in group file")]
    Group { name: String },
    #[error("the id {id} is out of range: ids must be in 0-2147483647")]
    Range { id: i64 },
    #[error("unable to find user {name}")]
    Read { name: String, source: RootError },
}

/// Nothing can be given to this owner.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum OwnerError {
    #[error("invalid user index: -1: the root is empty, so `{name}` is nobody")]
    EmptyRoot { name: String },
    #[error("invalid user index: -1: with `--link` nothing is read, so `{name}` is nobody")]
    Link { name: String },
    #[error("unable to find out who `{name}` is")]
    Read { name: String, source: RootError },
}

impl AccountError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::User { .. } => Some("add the user in an earlier step, or give `USER` a number"),
            Self::Group { .. } => Some("add the group in an earlier step, or give `USER` a number"),
            Self::Range { .. } => None,
            Self::Read { source, .. } => source.hint(),
        }
    }
}

impl OwnerError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::EmptyRoot { .. } => Some("give numbers: an empty root has no /etc/passwd"),
            Self::Link { .. } => Some("give numbers, or copy without `--link`"),
            Self::Read { source, .. } => source.hint(),
        }
    }
}

/// Whom a command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) credentials: Credentials,
    /// Where `HOME` points to.
    pub(crate) home: String,
}

/// Ids that Linux containers may have.
const MAX_ID: i64 = 0x7fff_ffff;

/// Whom `USER spec` means for a command: `name`, `uid`, `name:group`, `uid:gid`; empty is root.
pub(crate) fn account(root: &Root, spec: &str) -> Result<Account, AccountError> {
    let read = |source| AccountError::Read { name: spec.to_owned(), source };
    let users = match passwd::users(root) {
        Err(_) if spec.is_empty() => Vec::new(),
        users => users.map_err(read)?,
    };
    let credentials = match both_numbers(spec) {
        Some((uid, gid)) => Credentials { uid, gid, groups: vec![gid] },
        None => find(spec, &users, || passwd::groups(root).map_err(read))?,
    };
    let home =
        users.iter().find(|user| user.uid == i64::from(credentials.uid)).map(|user| &user.home);
    let home = home
        .filter(|home| !home.is_empty())
        .map_or("/".into(), |home| String::from_utf8_lossy(home));
    Ok(Account { credentials, home: home.into_owned() })
}

/// `uid:gid` needs no look-up and has no further groups.
fn both_numbers(spec: &str) -> Option<(u32, u32)> {
    let (user, group) = spec.split_once(':')?;
    Some((number(user)?, number(group)?))
}

/// `root` is a number too.
fn number(word: &str) -> Option<u32> {
    if word == "root" {
        return Some(0);
    }
    // Rust would also take a leading `+`.
    word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok())?
}

fn find(
    spec: &str,
    users: &[User],
    groups: impl FnOnce() -> Result<Vec<Group>, AccountError>,
) -> Result<Credentials, AccountError> {
    let is_default = spec.is_empty();
    let (user_word, group_word) =
        spec.split_once(':').unwrap_or((if is_default { "0" } else { spec }, ""));
    let user_number: Option<i64> = user_word.parse().ok();
    let matches = |user: &&User| match user_number {
        _ if user_word.is_empty() => user.uid == 0,
        Some(uid) => user.uid == uid,
        None => user.name == user_word.as_bytes(),
    };
    let found = users.iter().find(matches);
    let (uid, mut gid) = match (found, user_number) {
        (Some(user), _) => (user.uid, user.gid),
        (None, _) if user_word.is_empty() => (0, 0),
        (None, Some(uid)) => (uid, 0),
        (None, None) => return Err(AccountError::User { name: user_word.to_owned() }),
    };
    let mut further = Vec::new();
    if !group_word.is_empty() {
        gid = group_id(group_word, &groups()?)?;
    } else if let Some(user) = found {
        let groups = match groups() {
            Err(_) if is_default => Vec::new(),
            groups => groups?,
        };
        let member = groups.iter().filter(|group| group.members.contains(&user.name));
        further = member.map(|group| group.gid).collect();
    }
    let (uid, gid) = (in_range(uid)?, in_range(gid)?);
    let mut all = further.into_iter().map(in_range).collect::<Result<Vec<u32>, _>>()?;
    if !all.contains(&gid) {
        all.insert(0, gid);
    }
    Ok(Credentials { uid, gid, groups: all })
}

fn group_id(word: &str, groups: &[Group]) -> Result<i64, AccountError> {
    let number: Option<i64> = word.parse().ok();
    let matches = |group: &&Group| match number {
        Some(gid) => group.gid == gid,
        None => group.name == word.as_bytes(),
    };
    match (groups.iter().find(matches), number) {
        (Some(group), _) => Ok(group.gid),
        (None, Some(gid)) => Ok(gid),
        (None, None) => Err(AccountError::Group { name: word.to_owned() }),
    }
}

fn in_range(id: i64) -> Result<u32, AccountError> {
    u32::try_from(id).ok().filter(|_| id <= MAX_ID).ok_or(AccountError::Range { id })
}

/// Who owns what is copied or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Owner {
    pub(crate) const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// Whom `--chown=spec`, or `USER spec` for `WORKDIR`, means for files.
///
/// Names are looked up in `root`; without one, as with `--link`, there are none.
pub(crate) fn owner(root: Option<&Root>, spec: &str) -> Result<Owner, OwnerError> {
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (spec, None),
    };
    let read = |source| OwnerError::Read { name: spec.to_owned(), source };
    let (users, groups) = if has_names(spec) {
        let Some(root) = root else { return Err(OwnerError::Link { name: spec.to_owned() }) };
        if root.list(&RootPath::root()).map_err(read)?.is_empty() {
            return Err(OwnerError::EmptyRoot { name: spec.to_owned() });
        }
        let users = if is_name(user) { passwd::users(root).map_err(read)? } else { Vec::new() };
        let groups = match group {
            Some(group) if is_name(group) => passwd::groups(root).map_err(read)?,
            _ => Vec::new(),
        };
        (users, groups)
    } else {
        (Vec::new(), Vec::new())
    };
    let mut owner = match file_id(user) {
        Some(uid) => Owner { uid, gid: uid },
        None if user.is_empty() => Owner::ROOT,
        None => {
            let found = users.iter().find(|candidate| candidate.name == user.as_bytes());
            found.map_or(Owner::ROOT, |user| Owner {
                uid: lenient(user.uid),
                gid: lenient(user.gid),
            })
        }
    };
    match group.map(|group| (group, file_id(group))) {
        None => {}
        Some((_, Some(gid))) => owner.gid = gid,
        Some(("", _)) => owner.gid = 0,
        Some((name, None)) => {
            if let Some(group) = groups.iter().find(|group| group.name == name.as_bytes()) {
                owner.gid = lenient(group.gid);
            }
        }
    }
    Ok(owner)
}

/// Whether it takes a root to find out whom `spec` means for files.
pub(crate) fn has_names(spec: &str) -> bool {
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    is_name(user) || is_name(group)
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && file_id(word).is_none()
}

/// A number of 32 bits with its sign, as it is kept in an inode. A larger one is taken for a name.
fn file_id(word: &str) -> Option<u32> {
    if word == "root" {
        return Some(0);
    }
    word.parse::<i32>().ok().map(|id| owner_of_new(id.cast_unsigned()))
}

/// A number that no file can have, in a file that an image brought.
fn lenient(id: i64) -> u32 {
    u32::try_from(id).map_or(0, owner_of_new)
}

/// For chown(2), -1 is whoever owns the file already, and what is new is root's.
fn owner_of_new(id: u32) -> u32 {
    if id == u32::MAX { 0 } else { id }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "makes the files of a root")]

    use std::fs;
    use std::os::unix::fs::symlink;

    use ebiko_rootfs::RootOptions;
    use tempfile::TempDir;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\nann:x:1000:1001:Ann:/home/ann:/bin/sh\n\
                          far:x:4294967295:0:::\nnohome:x:7:7:::\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,ann\nann:x:1001:\nstaff:x:50:ann\n";

    fn root() -> (TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("etc")).unwrap();
        fs::write(directory.path().join("etc/passwd"), PASSWD).unwrap();
        fs::write(directory.path().join("etc/group"), GROUP).unwrap();
        let root = Root::open(directory.path(), RootOptions::default()).unwrap();
        (directory, root)
    }

    /// Whom a command runs as, in a root with the files above: `uid:gid groups home`.
    #[track_caller]
    fn check_account(spec: &str, expected: &str) {
        let (_directory, root) = root();
        assert_eq!(print(account(&root, spec)), expected, "USER {spec}");
    }

    fn print(account: Result<Account, AccountError>) -> String {
        match account {
            Ok(Account { credentials: Credentials { uid, gid, groups }, home }) => {
                format!("{uid}:{gid} {groups:?} {home}")
            }
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn nobody_in_particular_is_root_with_roots_groups() {
        check_account("", "0:0 [0, 10] /root");
        check_account("root", "0:0 [0, 10] /root");
        check_account("0", "0:0 [0, 10] /root");
    }

    #[test]
    fn a_name_brings_its_group_its_groups_and_its_home() {
        check_account("ann", "1000:1001 [1001, 10, 50] /home/ann");
        check_account("1000", "1000:1001 [1001, 10, 50] /home/ann");
        check_account("nohome", "7:7 [7] /");
    }

    #[test]
    fn a_group_that_is_given_is_the_only_one() {
        check_account("ann:staff", "1000:50 [50] /home/ann");
        check_account("ann:7", "1000:7 [7] /home/ann");
        check_account("1000:7", "1000:7 [7] /home/ann");
        check_account("root:7", "0:7 [7] /root");
        check_account(":staff", "0:50 [50] /root");
    }

    #[test]
    fn a_number_needs_nobody_to_have_it() {
        check_account("77", "77:0 [0] /");
        check_account("77:88", "77:88 [88] /");
        check_account("77:staff", "77:50 [50] /");
    }

    #[test]
    fn a_name_that_nobody_has_is_an_error() {
        check_account("bob", "error: unable to find user bob: no matching entries in passwd file");
        check_account(
            "ann:bobs",
            "error: unable to find group bobs: no matching entries in group file",
        );
        check_account(
            "far",
            "error: the id 4294967295 is out of range: ids must be in 0-2147483647",
        );
        check_account("-1", "error: the id -1 is out of range: ids must be in 0-2147483647");
    }

    #[test]
    fn a_root_without_users_has_root() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path(), RootOptions::default()).unwrap();
        assert_eq!(print(account(&root, "")), "0:0 [0] /");
        assert_eq!(print(account(&root, "5:6")), "5:6 [6] /");
        assert_eq!(
            print(account(&root, "root")),
            "error: unable to find user root: no matching entries in passwd file"
        );
    }

    #[test]
    fn hostile_user_files_are_read_within_bounds_and_inside_the_root() {
        let (directory, root) = root();
        let passwd = directory.path().join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        symlink("../../../../../../../../etc/passwd", &passwd).unwrap();
        assert!(
            print(account(&root, "bin")).starts_with("error: "),
            "the machine's users are not the image's"
        );

        fs::remove_file(&passwd).unwrap();
        nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(print(account(&root, "ann")), "error: unable to find user ann");
        assert_eq!(print(account(&root, "")), "0:0 [0] /");

        fs::remove_file(&passwd).unwrap();
        fs::File::create(&passwd).unwrap().set_len(10 << 30).unwrap();
        assert_eq!(print(account(&root, "ann")), "error: unable to find user ann");
    }

    /// Who gets files, in a root with the files above.
    #[track_caller]
    fn check_owner(spec: &str, expected: &str) {
        let (_directory, root) = root();
        let actual = match owner(Some(&root), spec) {
            Ok(Owner { uid, gid }) => format!("{uid}:{gid}"),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(actual, expected, "--chown={spec}");
    }

    #[test]
    fn a_number_owns_as_user_and_group() {
        check_owner("33", "33:33");
        check_owner("1000", "1000:1000");
        check_owner("33:44", "33:44");
        check_owner("33:staff", "33:50");
        check_owner("root", "0:0");
        check_owner("+33", "33:33");
        check_owner("-2:-7", "4294967294:4294967289");
        check_owner("5:-1", "5:0");
        check_owner("-1", "0:0");
    }

    #[test]
    fn a_name_owns_with_its_group() {
        check_owner("ann", "1000:1001");
        check_owner("ann:staff", "1000:50");
        check_owner("ann:7", "1000:7");
        check_owner("ann:", "1000:0");
        check_owner(":staff", "0:50");
        check_owner(":", "0:0");
    }

    #[test]
    fn what_is_given_to_nobody_is_given_to_root() {
        check_owner("bob", "0:0");
        check_owner("bob:bobs", "0:0");
        check_owner("far", "0:0");
        check_owner("3000000000", "0:0");
    }

    #[test]
    fn in_an_empty_root_nobody_has_a_name() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path(), RootOptions::default()).unwrap();
        assert_eq!(owner(Some(&root), "1:2").unwrap(), Owner { uid: 1, gid: 2 });
        assert_eq!(owner(Some(&root), "root").unwrap(), Owner::ROOT);
        let error = owner(Some(&root), "1:staff").unwrap_err().to_string();
        assert!(error.starts_with("invalid user index: -1"), "{error}");
    }

    #[test]
    fn where_nothing_is_read_nobody_has_a_name() {
        assert_eq!(owner(None, "1:root").unwrap(), Owner { uid: 1, gid: 0 });
        for name in ["ann", "1:staff", ":staff"] {
            let error = owner(None, name).unwrap_err().to_string();
            assert!(error.starts_with("invalid user index: -1"), "{error}");
        }
    }
}
