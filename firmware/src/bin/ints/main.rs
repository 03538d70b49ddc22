//! Runs the quantised steps on a microcontroller and reports, one line a step.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device;
#[cfg(target_os = "none")]
#[path = "../check/gauge.rs"]
mod gauge;
#[cfg(target_os = "none")]
#[path = "../check/report.rs"]
mod report;

/// The host has tests instead.
#[cfg(not(target_os = "none"))]
fn main() {}
