//! Versions: the header's, as constants, and the library's, by functions.

use std::ffi::{CStr, c_char};

/// The header's major version.
pub const VERSION_MAJOR: u32 = 0;
/// The header's minor version.
pub const VERSION_MINOR: u32 = 1;
/// The header's patch version.
pub const VERSION_PATCH: u32 = 0;

/// The library's version as text, `0.1.0`. Lives as long as the program.
#[unsafe(no_mangle)]
pub extern "C" fn masktile_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    CStr::from_bytes_with_nul(VERSION.as_bytes()).unwrap_or_default().as_ptr()
}

/// The library's version as a number: 10000 * major + 100 * minor + patch.
#[unsafe(no_mangle)]
pub extern "C" fn masktile_version_number() -> u32 {
    10_000 * VERSION_MAJOR + 100 * VERSION_MINOR + VERSION_PATCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_the_packages() {
        let numbers = format!("{VERSION_MAJOR}.{VERSION_MINOR}.{VERSION_PATCH}");
        assert_eq!(numbers, env!("CARGO_PKG_VERSION"));
        // SAFETY: it lives as long as the program.
        let text = unsafe { CStr::from_ptr(masktile_version()) };
        assert_eq!(text.to_str(), Ok(env!("CARGO_PKG_VERSION")));
        let cmake = include_str!("../assets/capi/share/masktile-config-version.cmake");
        assert!(cmake.contains(&format!("set(PACKAGE_VERSION {numbers})")));
    }
}
