//! Measures a look at a million files of which none changed, against a bare walk over the same tree, and what the index of
//! them takes. `cargo xtask bench walk` runs it.
//!
//! The tree is kept in `target/bench/walk` for the next time; with a directory as argument, there.

#![expect(clippy::print_stdout, reason = "a measurement tells its result")]
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement makes the tree that it looks at, and finds the place for it"
)]

mod bare;
mod million;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ebiko_rootfs::{Root, RootOptions, Time};
use ebiko_snapshot::{AdvanceOptions, Changeset, IgnoreSet, Mode, Snapshot};
use rustix::time::{ClockId, clock_gettime};

type AnyError = Box<dyn std::error::Error>;

/// How many times as long as the bare walk the look may take.
const TIME_BAR: f64 = 1.5;

/// What index, look and difference may take together, in MiB of resident memory.
const MEMORY_BAR: f64 = 160.0;

/// How often both walk, in turns. The medians count.
const ROUNDS: usize = 9;

fn main() -> ExitCode {
    match measure() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("walk: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether both bars are met.
fn measure() -> Result<bool, AnyError> {
    let place = std::env::args_os().nth(1).map_or_else(default_place, PathBuf::from);
    let threads = std::thread::available_parallelism()?.get();
    let tree = million::prepare(&place, threads)?;
    let root = Root::open(&tree, RootOptions::default())?;
    let ignore = IgnoreSet::empty();
    let look = |snapshot: &mut Snapshot| -> Result<Changeset, AnyError> {
        let options = AdvanceOptions { mode: Mode::Full, ignore: &ignore, threads, now: now() };
        Ok(snapshot.advance(&root, &options)?)
    };

    // Memory first, while the peak is still that of these three steps.
    let mut snapshot = Snapshot::empty();
    look(&mut snapshot)?;
    let files = snapshot.len();
    let each = snapshot.heap_size() / files.max(1);
    million::touch(&tree)?;
    let touched = look(&mut snapshot)?.len();
    let peak = peak_memory()?;

    let (mut bare, mut looks) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let found = bare::walk(&tree, threads)?;
        bare.push(started.elapsed());
        let started = Instant::now();
        let changes = look(&mut snapshot)?;
        looks.push(started.elapsed());
        if found != files || !changes.is_empty() {
            let changes = changes.len();
            return Err(format!("{found} files, {files} in the index, {changes} changes").into());
        }
    }
    let (bare, look) = (median(bare), median(looks));
    let ratio = look.as_secs_f64() / bare.as_secs_f64();
    println!(
        "walk: {files} files, {threads} threads, medians of {ROUNDS}: bare {bare:.2?}, look {look:.2?}"
    );
    println!(
        "walk: {each} bytes for a file in the index; {touched} changes found after 500 files were touched"
    );
    let is_fast = bar(
        ratio <= TIME_BAR,
        &format!("look without a change against a bare walk: {ratio:.2}x, at most {TIME_BAR}x"),
    );
    let is_small = bar(
        peak <= MEMORY_BAR,
        &format!(
            "peak resident memory of index, look and difference: {peak:.1} MiB, at most {MEMORY_BAR} MiB"
        ),
    );
    Ok(is_fast && is_small)
}

fn bar(is_met: bool, text: &str) -> bool {
    println!("{:<7} {text}", if is_met { "ok" } else { "MISSED" });
    is_met
}

fn default_place() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).join("target/bench/walk")
}

/// The clock that stamps inodes.
fn now() -> Time {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    Time { secs: now.tv_sec, nanos: u32::try_from(now.tv_nsec).unwrap_or_default() }
}

/// The most that the process ever had, shared libraries included, in MiB: never less than its anonymous memory.
fn peak_memory() -> Result<f64, AnyError> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no VmHWM")?;
    Ok(f64::from(kibibytes.trim().parse::<u32>()?) / 1024.0)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
