#!/usr/bin/env bash
# The whole test suite with AddressSanitizer, on nightly; tables of cases are thinned.
set -euo pipefail
cd "$(dirname "$0")/.."

# An uninstrumented build script or macro must not be linked with the sanitizer: hence the target.
# Line tables are enough for its reports, and instrumented code takes minutes at level 3.
MASKTILE_TEST_EFFORT=small RUSTFLAGS=-Zsanitizer=address CARGO_PROFILE_TEST_DEBUG=line-tables-only \
    cargo +nightly test --target x86_64-unknown-linux-gnu --target-dir target-asan \
    --config profile.test.opt-level=1 --config profile.test.package.masktile-kernels.opt-level=1 \
    -p masktile -p masktile-kernels --features rayon --lib --tests "$@"
