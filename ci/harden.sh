#!/usr/bin/env bash
# No input makes a kernel read or write where it must not, crash, hang or lie: everything that
# tries to refute that, as one table.
#
#   ci/harden.sh             what CI runs: samples of f32, 20 seconds of each fuzz target
#   ci/harden.sh full        every f32 bit pattern, an hour of each fuzz target
#   ci/harden.sh self-test   builds each injected fault in and expects the test that catches it
set -uo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never RUST_BACKTRACE=0
logs=target/harden
mkdir -p $logs

rows=() failures=0

# check NAME COMMAND...: runs it and adds a row. Tests say `cases: N of what`; where a suite does
# not, its tests are the cases.
check() {
    local name=$1 log cases failed=0 start=$SECONDS
    shift
    log=$logs/${name//[^a-z0-9]/-}.log
    echo "=== $name"
    if ! "$@" >"$log" 2>&1; then
        failed=$(grep -c -E '\.\.\. FAILED|^failed:|hangs$' "$log")
        [ "$failed" -gt 0 ] || failed=1
        tail -n 40 "$log"
    fi
    cases=$(awk '/^cases: / {n += $2} /^test result:/ {tests += $4} END {printf "%.0f", n ? n : tests}' "$log")
    # A check that tried nothing has not passed.
    [ "$cases" -gt 0 ] || failed=$((failed + 1))
    failures=$((failures + failed))
    rows+=("$(printf '%-44s %14d %9d %6ds' "$name" "$cases" "$failed" $((SECONDS - start)))")
}

print_table() {
    echo
    printf '%-44s %14s %9s %7s\n' "tried" "cases" "failures" "time"
    printf '%s\n' "${rows[@]}"
    [ "$failures" -eq 0 ]
}

tests() {
    local test=$1
    shift
    cargo test -p masktile --features rayon --test "$test" -- --nocapture "$@"
}

harden() {
    check "dependencies" ci/dependencies.sh
    check "unsafe inventory" tests unsafe_inventory
    check "guard pages and canaries" tests guard
    check "sizes near usize::MAX" tests sizes
    check "shared by 32 threads" tests sharing
    check "floating-point control state" tests float_state
    if [ "$1" = full ]; then
        check "every f32: exp and activations" \
            cargo test -p masktile --release -- --ignored --nocapture exhaustive
    else
        check "sampled f32: exp" tests exp
        check "sampled f32: activations" tests activation
    fi
    check "time and values" tests timing --ignored
    check "AddressSanitizer, whole suite" ci/sanitize.sh
    local seconds=20
    [ "$1" = full ] && seconds=3600
    check "fuzz targets, $seconds s each" ci/fuzz.sh $seconds
    print_table
}

# caught FAULT TEST NAME: builds the fault in and expects the named test to fail, by a signal or
# by its own word. The fault is a compiler flag of this repository's crates alone, by a wrapper
# around the compiler, so that dependencies are not built again.
caught() {
    local fault=$1 test=$2 name=$3 wrapper log=$logs/fault-$1.log start=$SECONDS failed=0
    wrapper=$PWD/$logs/rustc-with-$fault
    printf '#!/bin/sh\nexec "$@" --cfg masktile_fault=\\"%s\\"\n' "$fault" >"$wrapper"
    chmod +x "$wrapper"
    echo "=== fault: $fault"
    # Quickly compiled kernels will do.
    local build=(cargo test -p masktile --test "$test"
        --config profile.test.package.masktile-kernels.opt-level=1)
    export RUSTC_WORKSPACE_WRAPPER=$wrapper
    "${build[@]}" --no-run >"$log" 2>&1 || { tail -n 20 "$log"; failed=1; }
    if "${build[@]}" -- --exact "$name" >>"$log" 2>&1 ||
        ! grep -q -E "test $name \.\.\. FAILED|signal: 11" "$log"; then
        echo "not caught by $test $name"
        failed=1
    fi
    unset RUSTC_WORKSPACE_WRAPPER
    failures=$((failures + failed))
    rows+=("$(printf '%-44s %14d %9d %6ds' "fault $fault" 1 "$failed" $((SECONDS - start)))")
}

self_test() {
    grep -qw avx2 /proc/cpuinfo || { echo "the faults are in AVX2 code, which this machine lacks"; exit 1; }
    caught long_load guard masked::softmax_of_every_remainder
    caught missing_mask softmax every_remainder_and_every_mask
    caught sum_order guard masked::attention_of_every_remainder
    caught unchecked_multiply sizes views
    print_table
}

case ${1:-} in
self-test) self_test ;;
full) ci/install-harden.sh && harden full ;;
"") ci/install-harden.sh && harden ci ;;
*)
    sed -n '2,9s/^# \?//p' "$0"
    exit 2
    ;;
esac
