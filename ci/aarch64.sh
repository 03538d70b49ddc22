#!/usr/bin/env bash
# The tests on AArch64 under QEMU, as four processors: built once, run on each. The small ones raise
# SIGILL on every extension beyond NEON. Tables of cases are thinned, for emulation is slow. The
# inner loops of the NEON tiles must not touch the stack.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/debian-cargo.sh
. ci/debian-cargo.sh

export MASKTILE_TEST_EFFORT=small
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
for cpu in cortex-a53 cortex-a72 neoverse-n1 max; do
    echo "== aarch64, -cpu $cpu"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $cpu -L /usr/aarch64-linux-gnu"
    debian_cargo test -Zbuild-std=std,panic_abort,test --target aarch64-unknown-linux-gnu \
        -p masktile -p masktile-kernels --lib --tests --features rayon
done

# Loops of the tiles (those with fused multiply-adds) and their accesses to the stack.
matmul=$(find "$cross_dir/aarch64-unknown-linux-gnu/debug/deps" -name 'matmul-*' -executable -type f \
    -printf '%T@ %p\n' | sort -rn | head -1 | cut -d' ' -f2)
aarch64-linux-gnu-objdump -dC --no-show-raw-insn "$matmul" | gawk '
    /^[0-9a-f]+ <.*>:$/ { inside = /Neon/ && /tile::Body</; n = 0; next }
    !inside || !/^ *[0-9a-f]+:/ { next }
    {
        at[n] = strtonum("0x" gensub(":", "", 1, $1)); text[n++] = $0
        if ($2 !~ /^(b\.|cbn?z|tbn?z)/ || !match($0, /[0-9a-f]+ </)) next
        target = strtonum("0x" substr($0, RSTART, RLENGTH - 2))
        if (target >= at[n - 1]) next
        fmla = stack = 0
        for (i = n - 2; i >= 0 && at[i] >= target; i--) {
            fmla += text[i] ~ /\tfmla/
            stack += text[i] ~ /\[sp/
        }
        if (fmla < 4) next
        loops++
        if (stack) { print "stack in a loop: " text[n - 1]; bad = 1 }
    }
    END {
        if (loops < 4) { print "only " loops + 0 " loops of tiles were found"; exit 1 }
        print "aarch64: " loops " loops of NEON tiles, " (bad ? "some touch" : "none touches") " the stack"
        exit bad
    }'
