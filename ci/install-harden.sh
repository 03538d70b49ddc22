#!/usr/bin/env bash
# Installs what ci/harden.sh needs beside the stable toolchain: a nightly one, whose compiler has
# sanitizers, and cargo-fuzz. Does nothing where both are installed.
set -euo pipefail

rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
