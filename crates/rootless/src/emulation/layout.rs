//! How the kernel lays out what the calls of the stat family answer.

use rustix::fs::{Statx, makedev};

/// `struct statx`, as large as every kernel's.
pub(crate) const STATX_SIZE: usize = 256;

/// How large `struct stat` of this architecture is.
const STAT_SIZE: usize = if cfg!(target_arch = "x86_64") { 144 } else { 128 };

/// Puts numbers at offsets.
struct Bytes([u8; STAT_SIZE]);

impl Bytes {
    fn put<const SIZE: usize>(&mut self, offset: usize, bytes: [u8; SIZE]) {
        if let Some(place) = self.0.get_mut(offset..offset + SIZE) {
            place.copy_from_slice(&bytes);
        }
    }

    fn long(&mut self, offset: usize, value: u64) {
        self.put(offset, value.to_ne_bytes());
    }

    fn word(&mut self, offset: usize, value: u32) {
        self.put(offset, value.to_ne_bytes());
    }
}

/// `struct stat` of this architecture.
pub(crate) fn stat(raw: &Statx) -> [u8; STAT_SIZE] {
    let mode = u32::from(raw.stx_mode);
    let device = makedev(raw.stx_dev_major, raw.stx_dev_minor);
    let node = makedev(raw.stx_rdev_major, raw.stx_rdev_minor);
    let mut bytes = Bytes([0; STAT_SIZE]);
    if cfg!(target_arch = "x86_64") {
        // arch/x86/include/uapi/asm/stat.h
        bytes.long(16, raw.stx_nlink.into());
        bytes.word(24, mode);
        bytes.word(28, raw.stx_uid);
        bytes.word(32, raw.stx_gid);
        bytes.long(40, node);
        bytes.long(56, raw.stx_blksize.into());
    } else {
        // include/uapi/asm-generic/stat.h
        bytes.word(16, mode);
        bytes.word(20, raw.stx_nlink);
        bytes.word(24, raw.stx_uid);
        bytes.word(28, raw.stx_gid);
        bytes.long(32, node);
        bytes.word(56, raw.stx_blksize);
    }
    bytes.long(0, device);
    bytes.long(8, raw.stx_ino);
    bytes.long(48, raw.stx_size);
    bytes.long(64, raw.stx_blocks);
    let times = [raw.stx_atime, raw.stx_mtime, raw.stx_ctime];
    for (offset, time) in [72, 88, 104].into_iter().zip(times) {
        bytes.long(offset, time.tv_sec.cast_unsigned());
        bytes.long(offset + 8, time.tv_nsec.into());
    }
    bytes.0
}

/// `struct statx`.
#[expect(unsafe_code, reason = "the kernel's struct as bytes")]
pub(crate) fn statx(raw: &Statx) -> &[u8] {
    const { assert!(size_of::<Statx>() == STATX_SIZE) };
    // SAFETY: the struct has no padding, the kernel has filled all of it, and it is read as long as it is.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(raw).cast::<u8>(), STATX_SIZE) }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{AtFlags, CWD, StatxFlags};

    use super::*;

    #[test]
    fn stat_is_what_the_kernel_answers() {
        let raw =
            rustix::fs::statx(CWD, c"/proc/self/exe", AtFlags::empty(), StatxFlags::BASIC_STATS);
        let made = stat(&raw.unwrap());
        let mut kernels = [0_u8; STAT_SIZE];
        #[expect(unsafe_code, reason = "the call whose answer is to be compared")]
        // SAFETY: the buffer is as long as the kernel's struct on this architecture.
        let result = unsafe {
            libc::syscall(
                libc::SYS_newfstatat,
                libc::AT_FDCWD,
                c"/proc/self/exe".as_ptr(),
                kernels.as_mut_ptr(),
                0,
            )
        };
        assert_eq!(result, 0);
        assert_eq!(made, kernels);
    }
}
