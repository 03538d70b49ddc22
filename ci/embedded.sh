#!/usr/bin/env bash
# The kernels on every target that is not the machine's own: microcontrollers, AArch64, WebAssembly,
# x86-64 of less than this machine's and without an operating system. Builds and runs all of it and
# prints one table. `ci/embedded.sh firmware` stops after the microcontrollers.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/debian-cargo.sh
. ci/debian-cargo.sh
export CARGO_TERM_COLOR=never

# What the linked program must not hold: code that panics, and code that formats.
unwanted() { arm-none-eabi-nm -C "$1" | grep -E 'core::panicking|core::fmt' || true; }

# Section .text of a program, in bytes.
text() { arm-none-eabi-size -A "$1" | awk '$1 == ".text" {print $2}'; }

build() { # target, board, cargo's other arguments
    (cd firmware && MASKTILE_BOARD=$2 debian_cargo build --release --quiet -Zbuild-std=core \
        --target "$1" "${@:3}")
}

# One line of the table from the lines that a board's program printed.
line() { # target, board, core, bytes of .text; the report is read
    awk -v head="$1|$3 ($2)|$4" '
        function value(key) { return match($0, " " key "=[^ ]+") ? substr($0, RSTART + length(key) + 2, RLENGTH - length(key) - 2) : "-" }
        value("stack") + 0 > stack { stack = value("stack") + 0 }
        value("bits") == "differ" { differs = 1 }
        value("each") != "-" { each[$1] = value("each") }
        $1 == "attention" { attention = value("instructions") }
        END {
            printf "%s|%d|%s|%s|%s|%s|%d|%s\n", head, stack, each["product"], each["padded-softmax"],
                each["causal-softmax"], each["bool-softmax"], attention, differs ? "DIFFER" : "equal"
        }'
}

firmware() {
    echo "target|core (board)|.text|stack|product|padded|causal|bool|attention|bits"
    local target board machine core report text
    while read -r target board machine core; do
        build "$target" "$board" --bin check
        local program=$cross_dir/$target/release/check
        if [ -n "$(unwanted "$program")" ]; then
            echo "$target: the program can panic, or formats:" >&2
            unwanted "$program" >&2
            return 1
        fi
        # What a board says comes out as standard error.
        report=$(timeout 120 qemu-system-arm -M "$machine" -icount shift=0 -nographic \
            -semihosting-config enable=on,target=native -kernel "$program" </dev/null 2>&1) || {
            echo "$target on $machine failed:" >&2
            echo "$report" >&2
            return 1
        }
        build "$target" "$board" --example step --features board
        text=$(text "$cross_dir/$target/release/examples/step")
        line "$target" "$machine" "$core" "$text" <<<"$report"
    done <<'BOARDS'
thumbv6m-none-eabi microbit microbit Cortex-M0
thumbv7m-none-eabi mps2 mps2-an385 Cortex-M3
thumbv7em-none-eabihf mps2 mps2-an386 Cortex-M4F
thumbv7em-none-eabihf mps2 mps2-an500 Cortex-M7
thumbv8m.main-none-eabihf mps2-an505 mps2-an505 Cortex-M33
thumbv8m.main-none-eabihf mps3-an547 mps3-an547 Cortex-M55
BOARDS
}

# What a program without floats must not hold either: the compiler's software floats.
floats() { arm-none-eabi-nm "$1" | grep -E '__aeabi_(f|d|[iul]+2[fd])|__(add|sub|mul|div)[sd]f3' || true; }

# The quantised steps, on cores that have no unit for floats.
ints() {
    local target board machine core report
    while read -r target board machine core; do
        build "$target" "$board" --bin ints
        local program=$cross_dir/$target/release/ints
        if [ -n "$(unwanted "$program")$(floats "$program")" ]; then
            echo "$target: the quantised steps panic, format or compute floats:" >&2
            unwanted "$program" >&2
            floats "$program" >&2
            return 1
        fi
        report=$(timeout 120 qemu-system-arm -M "$machine" -icount shift=0 -nographic \
            -semihosting-config enable=on,target=native -kernel "$program" </dev/null 2>&1) || {
            echo "quantised steps on $machine failed:" >&2
            echo "$report" >&2
            return 1
        }
        printf '%s\n' "$core ($machine), quantised, each a multiplication or kept key:" "$report"
    done <<'BOARDS'
thumbv6m-none-eabi microbit microbit Cortex-M0
thumbv7m-none-eabi mps2 mps2-an385 Cortex-M3
BOARDS
}

# The check above finds a panic where there is one.
planted() {
    build thumbv7em-none-eabihf mps2 --bin check --features plant-panic
    [ -n "$(unwanted "$cross_dir/thumbv7em-none-eabihf/release/check")" ] || {
        echo "a planted panic was not found" >&2
        return 1
    }
    echo "a planted panic is found"
}

# The table's last lines: other targets, each with what its script says in the end.
others() {
    ci/wasm.sh
    ci/x86-cpus.sh
    ci/neon-loops.sh
    ci/aarch64.sh
    ci/no-std.sh bare
}

(cd firmware && cargo test --quiet --release --test expected --target-dir "$cross_dir/host")
table=$(firmware)
planted
ints
[ "${1:-}" = firmware ] || others
echo
echo "Instructions of a multiply-add (product) and of a kept element (softmax) of 64 x 64, and of"
echo "the whole attention; bytes of code of examples/step.rs and of stack of the hungriest step."
column -t -s '|' <<<"$table"
