#!/usr/bin/env bash
# Installs what the aarch64 and bare-metal checks need, on Debian 12: Debian's own compiler with the
# library's sources (from which other targets' standard libraries are built), a linker and libc for
# aarch64, and QEMU to run it. Does nothing where all of it is installed.
set -euo pipefail

exec "$(dirname "$0")/apt-install.sh" \
    rustc-web cargo-web rust-web-src qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross
