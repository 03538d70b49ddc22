//! Translates the lines of a file of its debugger's (QEMU's) machine on a microcontroller, with the
//! weights in flash: a line of text and of hash each, as `examples/translate --hash` prints them.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod debugger;
#[cfg(target_os = "none")]
mod device;

/// The host has `examples/translate` instead.
#[cfg(not(target_os = "none"))]
fn main() {}
