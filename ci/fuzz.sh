#!/usr/bin/env bash
# Replays the committed inputs of every fuzz target, then looks for new ones with AddressSanitizer.
#
#   ci/fuzz.sh [SECONDS [TARGET ...]]     20 seconds for each of all targets
#
# By hand for an hour each: ci/fuzz.sh 3600. An input that fails is left in fuzz/artifacts, and
# `cargo +nightly fuzz run TARGET FILE` shows it. What was found besides is in fuzz/target/found;
# files of it that are worth keeping belong in fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-20}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(fuzz/fuzz_targets/*.rs)

cargo +nightly fuzz build

fuzz_one() {
    local target bin found corpus log
    target=$(basename "$1" .rs)
    bin=fuzz/target/x86_64-unknown-linux-gnu/release/$target
    found=fuzz/target/found/$target
    corpus=fuzz/corpus/$target
    log=fuzz/target/$target.log
    mkdir -p "$found" "fuzz/artifacts/$target"
    if "$bin" -max_total_time="$2" -timeout=20 -rss_limit_mb=3000 -print_final_stats=1 \
        -artifact_prefix="fuzz/artifacts/$target/" "$found" "$corpus" >"$log" 2>&1; then
        awk -v target="$target" '/number_of_executed_units/ {print "cases: " $2 " inputs of " target}' "$log"
    else
        tail -n 60 "$log"
        echo "failed: $target"
        return 1
    fi
}
export -f fuzz_one
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I {} bash -c "fuzz_one {} $seconds"
