//! What INT, TERM, HUP and QUIT do.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ebiko_rootless::{HeldSignals, Interrupt};

/// How long the build may take to end a step and to clean up. Kubernetes kills after 30 s.
const GRACE: Duration = Duration::from_secs(10);

/// The directory of a private build, which goes away even if the build has to be ended by force.
#[derive(Debug, Clone, Default)]
pub(crate) struct Temporary(Arc<Mutex<Option<PathBuf>>>);

impl Temporary {
    /// Names the directory.
    pub(crate) fn set(&self, directory: Option<PathBuf>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = directory;
    }
}

/// Raises the returned interrupt at the first signal. A second signal, or the end of [`GRACE`], ends the process at once.
///
/// To be called before any other thread is started.
pub(crate) fn watch() -> io::Result<(Arc<Interrupt>, Temporary)> {
    let signals = HeldSignals::hold()?;
    let interrupt = Arc::new(Interrupt::new()?);
    let temporary = Temporary::default();
    let (raise, to_remove) = (Arc::clone(&interrupt), temporary.clone());
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let Ok(signal) = signals.wait() else { return };
        raise.raise(signal);
        let after_grace = to_remove.clone();
        // Whichever comes first; where no thread can be started there is still the second signal.
        std::thread::Builder::new()
            .name("grace".into())
            .spawn(move || {
                std::thread::sleep(GRACE);
                end(signal, &after_grace);
            })
            .ok();
        if signals.wait().is_ok() {
            end(signal, &to_remove);
        }
    })?;
    Ok((interrupt, temporary))
}

/// Ends the process at the first signal, for commands that leave nothing behind that matters. As the first process of a
/// container it would not end otherwise.
///
/// To be called before any other thread is started.
pub(crate) fn end_at_first() -> io::Result<()> {
    let signals = HeldSignals::hold()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if let Ok(signal) = signals.wait() {
            end(signal, &Temporary::default());
        }
    })?;
    Ok(())
}

/// Ends the process although the build has not ended: it waits for a registry, or does not heed.
#[expect(clippy::exit, clippy::print_stderr, reason = "nobody else will do it any more")]
#[expect(clippy::disallowed_methods, reason = "the temporary directory is on the host")]
fn end(signal: i32, temporary: &Temporary) {
    eprintln!("error: stopped by signal {signal}");
    if let Some(directory) = &*temporary.0.lock().unwrap_or_else(PoisonError::into_inner) {
        // What cannot be removed is left; there is nobody to tell.
        std::fs::remove_dir_all(directory).ok();
    }
    std::process::exit(128 + signal);
}
