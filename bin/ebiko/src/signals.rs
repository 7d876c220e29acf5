//! What INT, TERM, HUP and QUIT do.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ebiko_rootless::{HeldSignals, Interrupt};

/// How long the build may take to end a step and to clean up. Kubernetes kills after 30 s.
const GRACE: Duration = Duration::from_secs(20);

/// Raises the returned interrupt at the first signal. A second signal, or the end of [`GRACE`], ends the process at once.
///
/// To be called before any other thread is started.
pub(crate) fn watch() -> io::Result<Arc<Interrupt>> {
    let signals = HeldSignals::hold()?;
    let interrupt = Arc::new(Interrupt::new()?);
    let raise = Arc::clone(&interrupt);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let Ok(signal) = signals.wait() else { return };
        raise.raise(signal);
        let end = move || end(signal);
        // Whichever comes first; a thread that cannot be started leaves the second signal.
        std::thread::Builder::new()
            .name("grace".into())
            .spawn(move || {
                std::thread::sleep(GRACE);
                end();
            })
            .ok();
        if signals.wait().is_ok() {
            end();
        }
    })?;
    Ok(interrupt)
}

#[expect(clippy::exit, reason = "the build did not end although it was asked to")]
fn end(signal: i32) {
    std::process::exit(128 + signal);
}
