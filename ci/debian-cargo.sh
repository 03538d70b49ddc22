# shellcheck shell=bash
# Sourced: cargo for other targets. `debian_cargo` is Debian's cargo and compiler, which can build
# a target's standard library from source; its objects and rustup's must not mix.
cross_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/target-cross
debian_cargo() {
    env RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1 RUSTUP_TOOLCHAIN= \
        CARGO_TARGET_DIR="$cross_dir" /usr/bin/cargo "$@"
}
