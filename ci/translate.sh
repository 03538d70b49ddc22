#!/usr/bin/env bash
# The translator on a server and on a microcontroller: `ci/translate.sh` runs the example on 200
# held-out texts on every instruction set and compares the firmware with it on 5; `ci/translate.sh 50`
# compares on 50.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/debian-cargo.sh
. ci/debian-cargo.sh
sentences=${1:-5}
held_out=examples/translate/model/data/held-out.tsv
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "$*" >&2
    exit 1
}

translate() { cargo run --release --quiet --example translate -- "$@"; }

# One sentence, with its picture.
example() {
    local text='Dienstag, den 3. November 2026 um 16:15' iso
    iso=$(translate --attention "$work/picture.svg" "$text")
    [ "$iso" = 2026-11-03T16:15 ] || fail "'$text' became '$iso'"
    grep -q '</svg>' "$work/picture.svg" || fail "no picture"
}

# At least 99 % right, and the same bits of every logit on every instruction set.
accuracy() {
    local isas isa right
    head -200 "$held_out" | cut -f1 >"$work/texts"
    head -200 "$held_out" | cut -f2 >"$work/wanted"
    # A wrong name's message lists them.
    isas=$({ translate --isa none x 2>&1 || true; } | sed -n 's/.*wanted one of //p' | tr -d ,)
    [ -n "$isas" ] || fail "no instruction sets"
    for isa in $isas; do
        translate --isa "$isa" --hash --file "$work/texts" >"$work/$isa"
        cmp "$work/$isa" "$work/scalar" || fail "$isa and scalar differ"
        right=$(paste <(cut -f1 "$work/$isa") "$work/wanted" | awk -F'\t' '$1 == $2' | wc -l)
        echo "$isa: $right of 200 right"
        [ "$right" -ge 198 ] || fail "$isa: wanted 198"
    done
}

# Wrong input: exit status 2 and a message that says what was given.
wrong_input() {
    local text message status
    for text in '' "$(printf '1%.0s' {1..65})" '3 % 4'; do
        status=0
        message=$(translate "$text" 2>&1) || status=$?
        [ "$status" -eq 2 ] || fail "'$text': exit status $status"
        [[ $message == "translate: text 1: given "*" wanted "* ]] || fail "'$text': $message"
    done
}

# The firmware's lines are the example's, with the hashes of all logits.
firmware() {
    local target=thumbv7em-none-eabihf program
    (cd firmware && debian_cargo build --release --quiet -Zbuild-std=core --target $target -p masktile-translate)
    program=$cross_dir/$target/release/translate
    if arm-none-eabi-nm -C "$program" | grep -E 'core::panicking|core::fmt'; then
        fail "the firmware can panic, or formats"
    fi
    head -"$sentences" "$work/texts" >"$work/file"
    timeout 600 qemu-system-arm -M mps2-an500 -nographic -kernel "$program" -semihosting-config \
        "enable=on,target=native,arg=translate,arg=$work/file" </dev/null >"$work/printed" 2>&1 ||
        fail "the firmware failed: $(cat "$work/printed")"
    grep -v '^stack' "$work/printed" >"$work/m7" || true
    head -"$sentences" "$work/scalar" | diff - "$work/m7" || fail "the firmware and the example differ"
    echo "Cortex-M7: $sentences of $sentences lines as on a server, bit by bit"
    arm-none-eabi-size -A "$program" | awk -v stack="$(sed -n 's/^stack //p' "$work/printed")" '
        $1 == ".vector_table" || $1 == ".text" || $1 == ".rodata" || $1 == ".data" { flash += $2 }
        $1 == ".data" || $1 == ".bss" || $1 == ".uninit" { ram += $2 }
        END { printf "flash: %d bytes; RAM: %d bytes of statics and %d of stack\n", flash, ram, stack }'
}

example
accuracy
wrong_input
firmware
