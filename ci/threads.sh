#!/usr/bin/env bash
# The threaded paths with ThreadSanitizer: operations shared by threads, detection, rayon.
#
# It must see the standard library's own synchronisation, so that is built from source, by Debian's
# compiler (ci/install-cross.sh). The sanitizer's runtime, which Debian's lacks, is the nightly
# toolchain's, and so is the linker that can link it.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/debian-cargo.sh
. ci/debian-cargo.sh

nightly=$(rustc +nightly --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu
runtime=$nightly/lib/librustc-nightly_rt.tsan.a
flags=(-Zsanitizer=thread -Zexternal-clangrt
    "-Clink-arg=-B$nightly/bin/gcc-ld" -Clink-arg=-fuse-ld=lld
    "-Clink-arg=-Wl,--whole-archive,$runtime,--no-whole-archive"
    -Clink-arg=-ldl -Clink-arg=-lrt -Clink-arg=-lm -Clink-arg=-lpthread -Clink-arg=-lc)
export MASKTILE_TEST_EFFORT=small CARGO_PROFILE_TEST_DEBUG=line-tables-only RUSTFLAGS="${flags[*]}"
debian_cargo test -Zbuild-std=std,panic_abort,test --target x86_64-unknown-linux-gnu \
    --config profile.test.package.masktile-kernels.opt-level=1 \
    -p masktile --features rayon --test sharing --test matmul "$@" -- threads race
