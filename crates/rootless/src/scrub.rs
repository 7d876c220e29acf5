//! The environment of this process, where the kernel shows it.

#![expect(unsafe_code, reason = "the kernel shows the memory in which it has put the environment")]

use std::ffi::c_char;
use std::io;
use std::ptr;

unsafe extern "C" {
    /// The C library's list of variables.
    // process-wide because the kernel and the C library have it so
    static mut environ: *mut *mut c_char;
}

/// Overwrites every variable of this process with zeros and leaves none, so that `/proc/PID/environ` shows nothing, not even
/// to those who may read it. Who needs a variable later must have a copy.
///
/// Programs that are started afterwards inherit no variable.
///
/// # Errors
///
/// Fails if there are other threads, which might be reading a variable, or if that cannot be seen; nothing is changed then.
pub fn scrub_environment() -> io::Result<()> {
    let threads = rustix::fs::Dir::read_from(rustix::fs::open(
        "/proc/self/task",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?)?;
    let mut count = 0;
    for thread in threads {
        let name = thread?;
        count += usize::from(!matches!(name.file_name().to_bytes(), b"." | b".."));
    }
    if count != 1 {
        return Err(io::Error::other("there are other threads"));
    }
    // SAFETY: `environ` is null, or the address of a list of addresses of strings, with null at its end. This is the only
    // thread, so that nobody reads or changes any of it meanwhile. Each string is overwritten up to its end and not beyond;
    // an address that somebody has kept is then that of an empty string.
    unsafe {
        let mut variable = environ;
        if variable.is_null() {
            return Ok(());
        }
        while !(*variable).is_null() {
            ptr::write_bytes(*variable, 0, libc::strlen(*variable));
            *variable = ptr::null_mut();
            variable = variable.add(1);
        }
    }
    Ok(())
}
