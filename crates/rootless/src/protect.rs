//! Keeping the builder itself out of reach.

use std::io;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Makes this process unreadable to other processes of the same user: its memory, environment and
/// descriptors cannot be opened through `/proc`, it cannot be traced, and it leaves no core file.
///
/// [`run`](crate::run) does this before it starts anything; a program that holds secrets does it at
/// its start. Processes that it starts become ordinary again when they execute their program.
pub fn protect_self() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
