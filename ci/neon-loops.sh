#!/usr/bin/env bash
# The inner loops of NEON's register tiles keep off the stack: sums stay in registers. Looks at the
# disassembly of a release build of the kernels. (Tiles over B by columns, the last number 2, turn
# 16 vectors in registers between the sums, and do touch it.)
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/debian-cargo.sh
. ci/debian-cargo.sh

target=aarch64-unknown-linux-gnu
debian_cargo build --release --quiet -Zbuild-std=core --target $target -p masktile-kernels
rlib=$cross_dir/$target/release/libmasktile_kernels.rlib
aarch64-linux-gnu-objdump -d --no-show-raw-insn -C "$rlib" 2>/dev/null | awk '
    # A loop is what lies between a branch backwards and where it goes; an inner one has none in it.
    function judge(    i, j, loops, from, to, inner, fused) {
        for (i = 0; i < n; i++)
            if (target[i] != "" && (target[i] in index_of) && index_of[target[i]] <= i) {
                from[loops] = index_of[target[i]]; to[loops++] = i
            }
        for (i = 0; i < loops; i++) {
            inner = 1
            for (j = 0; j < loops; j++)
                if (j != i && from[i] <= from[j] && to[j] <= to[i]) inner = 0
            fused = 0
            for (j = from[i]; j <= to[i]; j++) fused += code[j] ~ /^fmla/
            if (!inner || fused < 8) continue
            seen++
            for (j = from[i]; j <= to[i]; j++)
                if (code[j] ~ /\[(sp|x29)/) { print name ": " code[j]; touched++; break }
        }
    }
    function reset() { n = 0; delete code; delete target; delete index_of }
    /^[0-9a-f]+ <.*>:$/ {
        if (name ~ /gemm::tile::Body<.*, [013]>/) judge()
        reset(); name = $0
        next
    }
    /^ *[0-9a-f]+:/ {
        address = $1; sub(":", "", address); sub(/^0+/, "", address)
        index_of[address] = n
        line = $0; sub(/^[^:]*:[ \t]*/, "", line); gsub(/\t/, " ", line)
        code[n] = line; target[n] = ""
        if (match(line, /^(b|b\.[a-z]+|cbn?z|tbn?z) /) && match(line, /[0-9a-f]+ </))
            target[n] = substr(line, RSTART, RLENGTH - 2)
        n++
    }
    END {
        if (name ~ /gemm::tile::Body<.*, [013]>/) judge()
        print "inner loops of NEON tiles: " seen + 0 ", on the stack: " touched + 0
        exit !(seen >= 10 && !touched)
    }'
