#!/usr/bin/env bash
# Builds without std: for this machine, then for targets that have no std at all, which proves it.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/debian-cargo.sh
. ci/debian-cargo.sh

cargo build -p masktile --no-default-features
if [ "${1:-}" = bare ]; then
    for target in x86_64-unknown-none aarch64-unknown-none thumbv7em-none-eabihf thumbv6m-none-eabi; do
        echo "== $target"
        debian_cargo build --release -Zbuild-std=core --target "$target" -p masktile --no-default-features
    done
fi
