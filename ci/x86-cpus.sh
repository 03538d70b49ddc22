#!/usr/bin/env bash
# The tests on x86-64 processors that have less than this one, under QEMU, which raises SIGILL on
# what the model lacks: detection must tell the truth, and every instruction set be what it says.
# Products are left out where multiply-adds are fused in software: emulated, that takes too long.
set -euo pipefail
cd "$(dirname "$0")/.."
export MASKTILE_TEST_EFFORT=small

tests=(dispatch softmax attention matmul)
arguments=()
for test in "${tests[@]}"; do
    arguments+=(--test "$test")
done
binaries=$(cargo test --no-run -p masktile "${arguments[@]}" --message-format=json 2>/dev/null |
    grep -o '"executable":"[^"]*"' | cut -d'"' -f4)
[ "$(wc -w <<<"$binaries")" -eq ${#tests[@]} ]
output=$(mktemp)
trap 'rm -f "$output"' EXIT

while read -r cpu isas left_out; do
    for binary in $binaries; do
        [[ -n $left_out && $binary == */$left_out-* ]] && continue
        # A process that starts itself again would start outside of QEMU.
        MASKTILE_TEST_ISAS=$isas qemu-x86_64 -cpu "$cpu" "$binary" --quiet \
            --skip the_environment_variable >"$output" 2>&1 </dev/null || {
            echo "x86-64 $cpu: $binary failed" >&2
            cat "$output" >&2
            exit 1
        }
    done
    echo "x86-64 $cpu: ${isas//,/, }; passed: ${tests[*]}${left_out:+, but $left_out was left out}"
done <<'CPUS'
qemu64 scalar matmul
Nehalem scalar matmul
SandyBridge scalar matmul
Haswell scalar,avx2
EPYC scalar,avx2
CPUS
