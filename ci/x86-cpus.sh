#!/usr/bin/env bash
# The tests on x86-64 processors that have less than this one, under QEMU, which raises SIGILL on
# what the model lacks: detection must tell the truth, and every instruction set be what it says.
set -euo pipefail
cd "$(dirname "$0")/.."
export MASKTILE_TEST_EFFORT=small

tests=(dispatch softmax matmul attention)
arguments=()
for test in "${tests[@]}"; do
    arguments+=(--test "$test")
done
binaries=$(cargo test --no-run -p masktile "${arguments[@]}" --message-format=json 2>/dev/null |
    grep -o '"executable":"[^"]*"' | cut -d'"' -f4)
[ "$(wc -w <<<"$binaries")" -eq ${#tests[@]} ]

while read -r cpu isas; do
    for binary in $binaries; do
        # A process that starts itself again would start outside of QEMU.
        MASKTILE_TEST_ISAS=$isas qemu-x86_64 -cpu "$cpu" "$binary" --quiet \
            --skip the_environment_variable >/tmp/x86-cpus.$$ || {
            echo "x86-64 $cpu: $binary failed" >&2
            cat /tmp/x86-cpus.$$ >&2
            exit 1
        }
    done
    echo "x86-64 $cpu: ${isas//,/, }; ${tests[*]} pass"
done <<'CPUS'
qemu64 scalar
Nehalem scalar
SandyBridge scalar
Haswell scalar,avx2
EPYC scalar,avx2
CPUS
rm -f /tmp/x86-cpus.$$
