#!/usr/bin/env bash
# The tests on AArch64 under QEMU, as four processors: built once, run on each. The small ones raise
# SIGILL on every extension beyond NEON. Tables of cases are thinned, for emulation is slow: least on
# the first, which has NEON alone, and on the last, which has every extension.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/debian-cargo.sh
. ci/debian-cargo.sh

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
while read -r cpu effort; do
    echo "== aarch64, -cpu $cpu"
    export MASKTILE_TEST_EFFORT=$effort
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $cpu -L /usr/aarch64-linux-gnu"
    debian_cargo test -Zbuild-std=std,panic_abort,test --target aarch64-unknown-linux-gnu \
        -p masktile -p masktile-kernels --lib --tests --features rayon </dev/null
done <<'PROCESSORS'
cortex-a53 small
cortex-a72 tiny
neoverse-n1 tiny
max small
PROCESSORS
