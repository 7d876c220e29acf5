//! The lines of an image's `/etc/passwd` and `/etc/group`, read as BuildKit reads them.

use ebiko_rootfs::{Root, RootError, RootPath};

/// Files that are larger are not lists of people. Raising it costs memory only.
const LIMIT: u64 = 8 << 20;

/// One user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: Vec<u8>,
    pub(crate) uid: i64,
    pub(crate) gid: i64,
    pub(crate) home: Vec<u8>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: Vec<u8>,
    pub(crate) gid: i64,
    pub(crate) members: Vec<Vec<u8>>,
}

/// The files that say whom names mean. They may be links.
pub const ACCOUNT_FILES: [&str; 2] = ["etc/passwd", "etc/group"];

/// The users of a root; none where it has no such file.
pub(crate) fn users(root: &Root) -> Result<Vec<User>, RootError> {
    Ok(lines(root, ACCOUNT_FILES[0])?.iter().map(|line| parse_user(line)).collect())
}

/// The groups of a root; none where it has no such file.
pub(crate) fn groups(root: &Root) -> Result<Vec<Group>, RootError> {
    Ok(lines(root, ACCOUNT_FILES[1])?.iter().map(|line| parse_group(line)).collect())
}

/// The file may be a link inside the root; it is never a FIFO that hangs or a device that has no
/// end.
fn lines(root: &Root, path: &str) -> Result<Vec<Vec<u8>>, RootError> {
    // A constant of this file, without `..`.
    let path = RootPath::parse(path.as_bytes()).unwrap_or_default();
    let text = root.read_bounded(&path, LIMIT)?.unwrap_or_default();
    let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    Ok(lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
}

fn parse_user(line: &[u8]) -> User {
    let mut fields = line.split(|&byte| byte == b':');
    let mut next = || fields.next().unwrap_or_default();
    let (name, _password, uid, gid, _comment, home) =
        (next(), next(), next(), next(), next(), next());
    User {
        name: name.to_vec(),
        uid: lenient_number(uid),
        gid: lenient_number(gid),
        home: home.to_vec(),
    }
}

fn parse_group(line: &[u8]) -> Group {
    let mut fields = line.split(|&byte| byte == b':');
    let mut next = || fields.next().unwrap_or_default();
    let (name, _password, gid, members) = (next(), next(), next(), next());
    let members = members.split(|&byte| byte == b',').filter(|member| !member.is_empty());
    Group {
        name: name.to_vec(),
        gid: lenient_number(gid),
        members: members.map(<[u8]>::to_vec).collect(),
    }
}

/// A number, and 0 for what is none: what Go's readers of these files do with lines that are not
/// right.
fn lenient_number(field: &[u8]) -> i64 {
    str::from_utf8(field).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_may_have_too_few_or_too_many_fields() {
        let user = |line: &str| {
            let User { name, uid, gid, home } = parse_user(line.as_bytes());
            format!(
                "{} {uid} {gid} {}",
                String::from_utf8_lossy(&name),
                String::from_utf8_lossy(&home)
            )
        };
        assert_eq!(user("ann:x:1000:1001:Ann:/home/ann:/bin/sh:more"), "ann 1000 1001 /home/ann");
        assert_eq!(user("ann"), "ann 0 0 ");
        assert_eq!(user("ann:x:many:-1"), "ann 0 -1 ");
    }

    #[test]
    fn a_group_has_members_without_empty_names() {
        let group = parse_group(b"wheel:x:10:root,,ann");
        assert_eq!(group.members, [b"root".to_vec(), b"ann".to_vec()]);
        assert_eq!(parse_group(b"wheel:x:10:").members, Vec::<Vec<u8>>::new());
    }
}
