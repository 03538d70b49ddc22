//! Ctrl-C: the first ends the measurements after the round that is running, so that what was
//! measured is printed; the second ends the program.

use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// The exit status of a program that Ctrl-C ended, as shells have it: 128 plus the signal.
pub const STATUS: u8 = 130;

/// From now on the first Ctrl-C only makes [`requested`] true.
///
/// # Errors
/// If the operating system refuses.
pub fn listen() -> Result<()> {
    ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            exit(STATUS.into());
        }
    })
    .context("cannot listen to Ctrl-C")
}

/// Whether Ctrl-C was pressed.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}
