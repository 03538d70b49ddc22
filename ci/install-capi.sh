#!/usr/bin/env bash
# Installs what ci/capi.sh needs: compilers, CMake, Valgrind, and cargo-c, which Debian has in a
# version that cannot read this edition of Rust. Unoptimised it is built in half the time, and it
# compiles nothing itself. Does nothing where all is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

ci/apt-install.sh g++ make cmake pkg-config valgrind libc6-dbg libssl-dev
# The version is the README's.
cargo_c=$(grep -o 'cargo-c@[^`]*' README.md)
cargo capi --version >/dev/null 2>&1 ||
    CARGO_PROFILE_DEV_DEBUG=0 cargo install --locked --debug "$cargo_c"
