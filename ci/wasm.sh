#!/usr/bin/env bash
# WebAssembly in Node: the steps of the firmware and products of every size up to 96, in scalar code
# and in vectors, must have the bits of the host. With relaxed-simd that asks for a processor with
# fused multiply-add, which V8 then uses.
set -euo pipefail
cd "$(dirname "$0")/../firmware"
# shellcheck source=ci/debian-cargo.sh
. ../ci/debian-cargo.sh

linker=$(rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld
# Newer engines have it on.
relaxed=$(node --v8-options | grep -o -- "--experimental-wasm-relaxed-simd" | head -1 || true)
module=$cross_dir/wasm32-unknown-unknown/release/examples/wasm.wasm
for features in +simd128 +simd128,+relaxed-simd; do
    RUSTFLAGS="-C target-feature=$features -C linker=$linker -C link-arg=-zstack-size=1048576" \
        debian_cargo build --release --quiet -Zbuild-std=core --target wasm32-unknown-unknown \
        --example wasm --features wasm
    node ${relaxed:+"$relaxed"} ../ci/wasm.mjs "$module" "$features"
done
