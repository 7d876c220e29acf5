//! Docker's default capabilities, and dropping all others.

use rustix::thread::CapabilitySet;

/// What a container of Docker, containerd or BuildKit has when nobody asks for more.
const DEFAULT: [u32; 14] = [
    0,  // CHOWN
    1,  // DAC_OVERRIDE
    3,  // FOWNER
    4,  // FSETID
    5,  // KILL
    6,  // SETGID
    7,  // SETUID
    8,  // SETPCAP
    10, // NET_BIND_SERVICE
    13, // NET_RAW
    18, // SYS_CHROOT
    27, // MKNOD
    29, // AUDIT_WRITE
    31, // SETFCAP
];

/// Without one of these root is no root: packages cannot be installed, or are installed wrongly without a word.
const NEEDED: [(CapabilitySet, &str); 7] = [
    (CapabilitySet::CHOWN, "CHOWN"),
    (CapabilitySet::DAC_OVERRIDE, "DAC_OVERRIDE"),
    (CapabilitySet::FOWNER, "FOWNER"),
    (CapabilitySet::FSETID, "FSETID"),
    (CapabilitySet::SETFCAP, "SETFCAP"),
    (CapabilitySet::SETGID, "SETGID"),
    (CapabilitySet::SETUID, "SETUID"),
];

/// The capabilities that this process lacks and root needs. Where there is one, guests on the container's own root have root
/// emulated. None where the kernel does not say.
pub fn missing_capabilities() -> Vec<&'static str> {
    let Ok(sets) = rustix::thread::capabilities(None) else { return Vec::new() };
    let missing = NEEDED.iter().filter(|(needed, _)| !sets.effective.contains(*needed));
    missing.map(|(_, name)| *name).collect()
}

/// No kernel has a capability of this number yet; those it does not know are skipped.
const END: u32 = 64;

/// The default set as a bit mask; BuildKit's `0xa80425fb`.
pub(crate) const DEFAULT_MASK: u64 = {
    let mut mask = 0;
    let mut index = 0;
    while index < DEFAULT.len() {
        mask |= 1 << DEFAULT[index];
        index += 1;
    }
    mask
};

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`, of which version 3 has two.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// Takes everything but the default set out of the bounding set. Async-signal-safe.
pub(crate) fn limit_bounding_set() -> Result<(), i32> {
    for capability in 0..END {
        if DEFAULT_MASK & (1 << capability) != 0 {
            continue;
        }
        #[expect(
            unsafe_code,
            reason = "rustix refuses capabilities that it does not know, the kernel may know more"
        )]
        // SAFETY: `prctl` with these arguments touches no memory.
        let result =
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
        if result != 0 {
            match crate::child::errno() {
                // The first number that the kernel does not know.
                libc::EINVAL => break,
                error => return Err(error),
            }
        }
    }
    Ok(())
}

/// Keeps of what the process may do only the default set, and lets nothing be inherited.
/// Async-signal-safe.
pub(crate) fn limit_current() -> Result<(), i32> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    #[expect(unsafe_code, reason = "no wrapper is async-signal-safe by contract")]
    // SAFETY: the kernel writes two `Data` for version 3, which is what the array holds.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    if result != 0 {
        return Err(crate::child::errno());
    }
    for (half, shift) in data.iter_mut().zip([0, 32]) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low half of what was shifted down"
        )]
        let mask = (DEFAULT_MASK >> shift) as u32;
        half.permitted &= mask;
        half.effective = half.permitted;
        half.inheritable = 0;
    }
    #[expect(unsafe_code, reason = "no wrapper is async-signal-safe by contract")]
    // SAFETY: the kernel reads two `Data` for version 3, which is what the array holds.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(crate::child::errno()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_the_one_that_docker_and_buildkit_print() {
        assert_eq!(DEFAULT_MASK, 0xa804_25fb);
    }
}
