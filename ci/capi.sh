#!/usr/bin/env bash
# The C ABI: the header is current, the tests pass, README's command installs the library and runs
# both C programs, and they run too where CMake found and built them, under AddressSanitizer and
# under Valgrind. Installs what it needs (as root, on Debian).
set -euo pipefail
cd "$(dirname "$0")/.."
ci/install-capi.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

manifest=capi/Cargo.toml
cargo fmt --manifest-path $manifest --check
cargo clippy --manifest-path $manifest --all-targets --quiet -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --manifest-path $manifest --no-deps --quiet
cargo test --manifest-path $manifest --quiet

# README's command, as it stands there.
command=$(grep '^cargo cinstall' README.md)
echo "$command"
rm -rf installed
make --silent -C examples/c clean
eval "$command"

echo "== CMake"
cmake -S examples/c -B "$work/cmake" -DCMAKE_PREFIX_PATH="$PWD/installed" >/dev/null
cmake --build "$work/cmake" --parallel >/dev/null
ctest --test-dir "$work/cmake" --output-on-failure

echo "== AddressSanitizer"
CFLAGS=-fsanitize=address,undefined CXXFLAGS=-fsanitize=address,undefined \
    make --silent -C examples/c run PREFIX="$PWD/installed" OUT="$work"

echo "== Valgrind, which knows no AVX-512"
if grep -qw avx2 /proc/cpuinfo; then
    export MASKTILE_ISA=avx2
fi
for program in attention decode; do
    valgrind --quiet --error-exitcode=1 --leak-check=full --errors-for-leak-kinds=definite \
        "$work/cmake/${program}_masktile"
done
