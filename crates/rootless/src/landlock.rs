//! Keeping a guest away from abstract unix sockets of the machine.
//!
//! A guest shares the network with the builder, and so the names of abstract sockets: those that
//! start with a NUL byte and have no file whose owner and mode would guard them. Who listens there
//! often asks the kernel only for the user of the other end, which for a guest of root is root
//! (CVE-2020-15257). A Landlock domain that handles nothing else refuses to connect from inside to
//! sockets from outside; the processes in it talk to each other as before.

use crate::child::errno;

/// `struct landlock_ruleset_attr` as of ABI 6.
#[repr(C)]
struct RulesetAttributes {
    handled_file_access: u64,
    handled_network_access: u64,
    scoped: u64,
}

const CREATE_RULESET_VERSION: libc::c_uint = 1;
const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;

/// The first version that knows scopes, of Linux 6.12.
const ABI_WITH_SCOPES: libc::c_long = 6;

/// Confines this process, and all that it will start, to abstract sockets of their own.
/// Async-signal-safe.
///
/// On a kernel that cannot do so, or where Landlock is switched off, nothing happens. Needs
/// `CAP_SYS_ADMIN`: the other way, `no_new_privs`, would take the effect from set-user-id programs,
/// which a `RUN` may use.
#[expect(unsafe_code, reason = "no wrapper is async-signal-safe by contract")]
pub(crate) fn scope_abstract_sockets() -> Result<(), i32> {
    let attributes = RulesetAttributes {
        handled_file_access: 0,
        handled_network_access: 0,
        scoped: SCOPE_ABSTRACT_UNIX_SOCKET,
    };
    // SAFETY: the kernel reads as many bytes as it is told, which is the size of the struct, or none
    // where it is asked for its version. The descriptor is closed once.
    unsafe {
        let version = libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttributes>(),
            0_usize,
            CREATE_RULESET_VERSION,
        );
        if version < ABI_WITH_SCOPES {
            return Ok(());
        }
        let ruleset = libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attributes,
            size_of::<RulesetAttributes>(),
            0,
        );
        if ruleset == -1 {
            return Err(errno());
        }
        let restricted = libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0);
        let error = errno();
        libc::syscall(libc::SYS_close, ruleset);
        if restricted == 0 { Ok(()) } else { Err(error) }
    }
}
