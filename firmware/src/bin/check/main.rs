//! Runs the steps on a microcontroller and reports, one line a step, to whoever debugs it (QEMU).
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device;
#[cfg(target_os = "none")]
mod gauge;
#[cfg(target_os = "none")]
mod report;

/// The host has tests instead.
#[cfg(not(target_os = "none"))]
fn main() {}
