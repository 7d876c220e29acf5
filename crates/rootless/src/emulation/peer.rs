//! Who is at the other end of a local socket.
//!
//! The kernel remembers the user of both ends, which is always the builder. Servers that let users in by who they are, such
//! as `PostgreSQL`, ask it with `SO_PEERCRED`. The socket itself is the guest's; what leads from one end to the other
//! without it is `sock_diag(7)`.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::fs::{CWD, Dir, Mode, OFlags, openat, readlinkat};

use super::{Answer, Emulation, Result, SUCCESS};
use crate::caller::Caller;

/// `struct ucred`.
const SIZE: usize = 12;

impl Emulation {
    /// `getsockopt(2)` with `SO_PEERCRED`. The kernel answers where the other end is not found.
    pub(super) fn tell_peer(&self, caller: &Caller<'_>) -> Result {
        let socket = format!("/proc/{}/fd/{}", caller.thread(), caller.signed_word(0));
        let Some(peer) = inode_of(&socket).and_then(peer_of).and_then(process_with) else {
            return Ok(Answer::GoOn);
        };
        let Ok(identity) = self.identities.of(peer) else { return Ok(Answer::GoOn) };
        let (uid, gid) = (identity.users.effective, identity.groups.effective);
        let answer = [peer.to_ne_bytes(), uid.to_ne_bytes(), gid.to_ne_bytes()].concat();
        let room = caller.read(caller.argument(4), 4)?;
        let room = room.try_into().map_or(0, u32::from_ne_bytes);
        let written = usize::try_from(room).unwrap_or_default().min(SIZE);
        caller.write(caller.argument(3), &answer[..written])?;
        let written = u32::try_from(written).unwrap_or_default();
        caller.write(caller.argument(4), &written.to_ne_bytes())?;
        Ok(SUCCESS)
    }
}

/// The inode in `socket:[inode]`.
fn inode_of(link: &str) -> Option<u32> {
    let target = readlinkat(CWD, link, Vec::new()).ok()?;
    target.to_str().ok()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The first process that has a socket open.
fn process_with(inode: u32) -> Option<u32> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let list = |path: &str| openat(CWD, path, flags, Mode::empty()).and_then(Dir::read_from).ok();
    let numbers = |directory: Dir| {
        directory.filter_map(|entry| entry.ok()?.file_name().to_str().ok()?.parse::<u32>().ok())
    };
    numbers(list("/proc")?).find(|process| {
        let Some(open) = list(&format!("/proc/{process}/fd")) else { return false };
        numbers(open).any(|number| inode_of(&format!("/proc/{process}/fd/{number}")) == Some(inode))
    })
}

/// The inode of the other end of a local socket.
#[expect(unsafe_code, reason = "rustix' feature for sockets is for these calls too much")]
fn peer_of(inode: u32) -> Option<u32> {
    const NETLINK_SOCK_DIAG: libc::c_int = 4;
    let request = question(inode);
    let mut answer = [0_u8; 512];
    // SAFETY: the descriptor is new and has one owner; the buffers are as long as the kernel is told.
    let length = unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let socket = libc::socket(libc::AF_NETLINK, kind, NETLINK_SOCK_DIAG);
        if socket < 0 {
            return None;
        }
        let socket = OwnedFd::from_raw_fd(socket);
        let sent = libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0);
        if usize::try_from(sent) != Ok(request.len()) {
            return None;
        }
        // The answer is there when `send` returns.
        let flags = libc::MSG_DONTWAIT;
        libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), flags)
    };
    peer_in(answer.get(..usize::try_from(length).ok()?)?)
}

/// `struct nlmsghdr` and `struct unix_diag_req`, which asks for `UDIAG_SHOW_PEER`.
fn question(inode: u32) -> Vec<u8> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const UDIAG_SHOW_PEER: u32 = 4;
    const LENGTH: u32 = 40;
    let family = u8::try_from(libc::AF_UNIX).unwrap_or_default();
    let mut bytes = LENGTH.to_ne_bytes().to_vec();
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0, 0, 0]);
    for number in [u32::MAX, inode, UDIAG_SHOW_PEER, u32::MAX, u32::MAX] {
        bytes.extend(number.to_ne_bytes());
    }
    bytes
}

/// The attribute `UNIX_DIAG_PEER` behind a `struct nlmsghdr` and a `struct unix_diag_msg`.
fn peer_in(answer: &[u8]) -> Option<u32> {
    const UNIX_DIAG_PEER: u16 = 2;
    const HEADERS: usize = 32;
    let mut rest = answer.get(HEADERS..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        if kind == UNIX_DIAG_PEER {
            return Some(u32::from_ne_bytes(*rest.get(4..)?.first_chunk()?));
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_ends_of_a_pair_know_each_other() {
        let (one, other) = UnixStream::pair().unwrap();
        let inode = |end: &UnixStream| inode_of(&format!("/proc/self/fd/{}", end.as_raw_fd()));
        let peer = peer_of(inode(&one).unwrap());
        assert_eq!(peer, inode(&other));
        assert_eq!(process_with(peer.unwrap()), Some(std::process::id()));
    }

    #[test]
    fn an_answer_without_a_peer_is_none() {
        assert_eq!(peer_in(&[]), None);
        assert_eq!(peer_in(&[0; 200]), None);
        assert_eq!(peer_in(&[0xff; 64]), None);
    }
}
