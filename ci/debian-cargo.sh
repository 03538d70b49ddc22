# shellcheck shell=bash
# Sourced: cargo for other targets. `debian_cargo` is Debian's cargo and compiler, which can build
# a target's standard library from source; its objects and rustup's must not mix.
debian_cargo() {
    env RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1 RUSTUP_TOOLCHAIN= \
        CARGO_TARGET_DIR="$PWD/target-cross" /usr/bin/cargo "$@"
}
