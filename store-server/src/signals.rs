//! The signals that the server minds.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register;

/// What was asked for by signals.
#[derive(Debug)]
pub(crate) struct Signals {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// Minds them from now on.
    ///
    /// # Errors
    /// Where a handler can't be installed.
    pub(crate) fn install() -> io::Result<Signals> {
        let signals = Signals { stop: Arc::default(), reload: Arc::default() };
        register(SIGTERM, Arc::clone(&signals.stop))?;
        register(SIGINT, Arc::clone(&signals.stop))?;
        register(SIGHUP, Arc::clone(&signals.reload))?;
        Ok(signals)
    }

    /// Whether SIGTERM or SIGINT came.
    pub(crate) fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether SIGHUP came since this was asked last.
    pub(crate) fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }

    /// Whether there is anything to do.
    pub(crate) fn pending(&self) -> bool {
        self.stop() || self.reload.load(Ordering::Relaxed)
    }
}
