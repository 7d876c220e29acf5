//! What signals do to a process that is not yet the guest's.

/// What the kernel calls a set of signals.
const SIGNAL_SET_SIZE: usize = size_of::<u64>();

/// Puts every signal back to what a new process expects.
///
/// The system call itself, because the library keeps two signals for itself and leaves them ignored
/// if they were. Async-signal-safe.
#[expect(unsafe_code, reason = "no wrapper is async-signal-safe by contract")]
pub(crate) fn default_actions() {
    // The kernel's `struct sigaction` with the default action, no flag and an empty mask is all
    // zeros, whatever its layout, and no larger than this.
    let default = [0_u64; 8];
    for signal in 1..=64 {
        // Two cannot be changed. SAFETY: the buffer is at least as large as what the kernel reads.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                SIGNAL_SET_SIZE,
            )
        };
    }
}

/// Blocks the signals of `mask`, and no others.
///
/// The system call itself for the same reason. Async-signal-safe.
#[expect(unsafe_code, reason = "no wrapper is async-signal-safe by contract")]
pub(crate) fn set_mask(mask: u64) {
    // SAFETY: the kernel reads as much as it is told.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            std::ptr::null_mut::<u64>(),
            SIGNAL_SET_SIZE,
        )
    };
}
