//! How much of the machine a guest gets, and which hosts it knows by name.

use std::fmt::Write;
use std::net::IpAddr;

use crate::child::errno;

/// What is the same for every guest of a build.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// How many bytes `/dev/shm` holds; the place's own where there is none.
    pub shm_size: Option<u64>,
    /// What the processes may use.
    pub limits: Vec<ResourceLimit>,
    /// Hosts for `/etc/hosts`.
    pub hosts: Vec<(String, IpAddr)>,
}

/// A limit of setrlimit(2); `u64::MAX` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimit {
    /// What is limited.
    pub resource: Resource,
    /// What holds until a process asks for more.
    pub soft: u64,
    /// What a process may ask for.
    pub hard: u64,
}

/// What can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    name: &'static str,
    number: libc::c_uint,
}

/// Docker's names with the kernel's numbers, which are the same on every architecture that this is built for.
const RESOURCES: [(&str, libc::c_uint); 15] = [
    ("core", 4),
    ("cpu", 0),
    ("data", 2),
    ("fsize", 1),
    ("locks", 10),
    ("memlock", 8),
    ("msgqueue", 12),
    ("nice", 13),
    ("nofile", 7),
    ("nproc", 6),
    ("rss", 5),
    ("rtprio", 14),
    ("rttime", 15),
    ("sigpending", 11),
    ("stack", 3),
];

impl Resource {
    /// The resource that Docker calls `name`.
    pub fn named(name: &str) -> Option<Self> {
        RESOURCES
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(name, number)| Self { name, number })
    }

    /// Docker's name.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl Resources {
    /// Lines for `/etc/hosts`.
    pub(crate) fn host_lines(&self) -> String {
        self.hosts.iter().fold(String::new(), |mut lines, (name, address)| {
            // Writing to a string does not fail.
            writeln!(lines, "{address}\t{name}").ok();
            lines
        })
    }
}

/// `struct rlimit64`.
#[repr(C)]
struct Limit {
    soft: u64,
    hard: u64,
}

#[expect(unsafe_code, reason = "no wrapper is async-signal-safe by contract")]
impl ResourceLimit {
    /// Limits this process and what it starts. Async-signal-safe.
    pub(crate) fn set(&self) -> Result<(), i32> {
        self.change(Some(&Limit { soft: self.soft, hard: self.hard })).map(drop)
    }

    /// Lets this process set the limit later, when it may not raise it any more. Async-signal-safe.
    pub(crate) fn make_room(&self) {
        if let Ok(now) = self.change(None)
            && now.hard < self.hard
        {
            // What is refused here is refused later, and told then.
            self.change(Some(&Limit { soft: now.soft, hard: self.hard })).ok();
        }
    }

    /// Sets the limit, if there is one to set; returns what it was before.
    fn change(&self, limit: Option<&Limit>) -> Result<Limit, i32> {
        let mut before = Limit { soft: 0, hard: 0 };
        let new = limit.map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the pointers are null or to structs that outlive the call.
        let result = unsafe {
            libc::syscall(libc::SYS_prlimit64, 0, self.resource.number, new, &raw mut before)
        };
        if result == 0 { Ok(before) } else { Err(errno()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers_and_numbers_are_the_kernels() {
        let number = |name: &str| Resource::named(name).unwrap().number;
        for (name, expected) in [
            ("core", libc::RLIMIT_CORE as libc::c_uint),
            ("cpu", libc::RLIMIT_CPU as libc::c_uint),
            ("data", libc::RLIMIT_DATA as libc::c_uint),
            ("fsize", libc::RLIMIT_FSIZE as libc::c_uint),
            ("locks", libc::RLIMIT_LOCKS as libc::c_uint),
            ("memlock", libc::RLIMIT_MEMLOCK as libc::c_uint),
            ("msgqueue", libc::RLIMIT_MSGQUEUE as libc::c_uint),
            ("nice", libc::RLIMIT_NICE as libc::c_uint),
            ("nofile", libc::RLIMIT_NOFILE as libc::c_uint),
            ("nproc", libc::RLIMIT_NPROC as libc::c_uint),
            ("rss", libc::RLIMIT_RSS as libc::c_uint),
            ("rtprio", libc::RLIMIT_RTPRIO as libc::c_uint),
            ("rttime", libc::RLIMIT_RTTIME as libc::c_uint),
            ("sigpending", libc::RLIMIT_SIGPENDING as libc::c_uint),
            ("stack", libc::RLIMIT_STACK as libc::c_uint),
        ] {
            assert_eq!(number(name), expected, "{name}");
        }
        assert_eq!(Resource::named("as"), None);
        assert_eq!(Resource::named("NOFILE"), None);
    }

    #[test]
    fn a_limit_can_be_read_without_being_changed() {
        let resource = Resource::named("nofile").unwrap();
        let limit = ResourceLimit { resource, soft: 1, hard: 1 };
        let before = limit.change(None).unwrap();
        limit.make_room();
        let after = limit.change(None).unwrap();
        assert_eq!((before.soft, before.hard), (after.soft, after.hard));
        assert!(before.soft > 1);
    }

    #[test]
    fn hosts_are_lines() {
        let hosts = vec![
            ("one".to_owned(), IpAddr::from([10, 0, 0, 1])),
            ("two".to_owned(), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])),
        ];
        let resources = Resources { hosts, ..Resources::default() };
        assert_eq!(resources.host_lines(), "10.0.0.1\tone\n::1\ttwo\n");
    }
}
