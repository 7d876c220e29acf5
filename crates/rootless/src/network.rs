//! A network that has nothing but the guest itself.

use crate::child::errno;

/// Switches the loopback interface of a new network namespace on. Async-signal-safe.
#[expect(unsafe_code, reason = "no wrapper is async-signal-safe by contract")]
pub(crate) fn raise_loopback() -> Result<(), i32> {
    // SAFETY: the name and its end are shorter than the field; an all-zero `ifreq` is a valid value, of which the kernel reads the name and reads or writes the flags;
    // the descriptor is closed once.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket == -1 {
            return Err(errno());
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        std::ptr::copy_nonoverlapping(c"lo".as_ptr(), request.ifr_name.as_mut_ptr(), 3);
        let mut result = libc::ioctl(socket, libc::SIOCGIFFLAGS as _, &raw mut request);
        if result == 0 {
            #[expect(clippy::cast_possible_truncation, reason = "flags of 16 bits")]
            let up = libc::IFF_UP as libc::c_short;
            request.ifr_ifru.ifru_flags |= up;
            result = libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw const request);
        }
        let error = errno();
        libc::close(socket);
        if result == 0 { Ok(()) } else { Err(error) }
    }
}
