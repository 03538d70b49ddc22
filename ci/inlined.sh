#!/usr/bin/env bash
# Every vector instruction stands where it is used: a closure or helper that the compiler did not
# inline into a function with the instruction set's features is compiled without them, and each of
# its intrinsics becomes a call. Bits stay, speed goes, and no test shows it. So none may be left.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release -p masktile-kernels --quiet
library=target/release/libmasktile_kernels.rlib
relocations=$(objdump -dr --no-show-raw-insn "$library" 2>/dev/null)
if ! grep -q vfmadd231ps <<<"$relocations"; then
    echo "$library holds no vector code: this check looks at the wrong file" >&2
    exit 1
fi
if calls=$(grep -E 'R_X86_64_PLT32.*_mm(256|512)_' <<<"$relocations"); then
    echo "intrinsics that are called instead of inlined:" >&2
    sort <<<"$calls" | uniq -c | sort -rn | head >&2
    exit 1
fi
echo "no intrinsic is called: all are inlined"
