#!/usr/bin/env bash
# Installs what the checks of other targets need, on Debian 12: Debian's own compiler with the
# library's sources (from which other targets' standard libraries are built), linkers and a libc,
# QEMU and Node to run them. Does nothing where all of it is installed.
set -euo pipefail

packages=(rustc-web cargo-web rust-web-src gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    binutils-arm-none-eabi qemu-user qemu-system-arm bsdextrautils)
# Whatever Node there is will do.
command -v node >/dev/null || packages+=(nodejs)
exec "$(dirname "$0")/apt-install.sh" "${packages[@]}"
