#!/usr/bin/env bash
# The report's page in a real browser: no message on the console, every chart drawn, no text cut off
# or on top of another. Installs Chromium where there is none (as root, on Debian).
#
# ci/report.sh [PAGE [SCREENSHOT.png [light|dark]]] checks a page of yours and takes its picture.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v chromium >/dev/null || ci/apt-install.sh chromium fonts-dejavu-core
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Two machines by name, with every kind of chart.
make_page() {
    cargo build --release --quiet -p masktile-bench
    for machine in here there; do
        target/release/masktile-bench run --op matmul,softmax,attention,silu --mask none,causal \
            --shape 32x32x32,64x64x64,8x64x64x64,8x128x128x64,4096 --threads 1,2 --rounds 5 \
            --machine "$machine" --json "$work/$machine.jsonl" >/dev/null
    done
    target/release/masktile-bench report "$work/here.jsonl" "$work/there.jsonl" --out "$work"
}

browse() {
    # Its errors about buses and GPUs that a server lacks are no messages of the page.
    chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
        --disable-background-networking --disable-component-update --disable-sync \
        --user-data-dir="$work/profile" --hide-scrollbars --enable-logging=stderr \
        "$@" 2>"$work/log"
}

page=${1:-}
if [ -z "$page" ]; then
    make_page
    page=$work/index.html
fi
# The check is a script within a copy of the page.
{ cat "$page" && echo '<script>' && cat ci/report-check.js && echo '</script>'; } >"$work/checked.html"
browse --window-size=1280,1600 --virtual-time-budget=5000 --dump-dom "file://$work/checked.html" >"$work/dom"
if grep CONSOLE "$work/log"; then
    echo "the page, or its check, has something to say: see above" >&2
    exit 1
fi
if ! grep -o '<title>[0-9]* charts checked</title>' "$work/dom"; then
    echo "the check did not run to its end" >&2
    exit 1
fi

if [ -n "${2:-}" ]; then
    dark=()
    [ "${3:-light}" = dark ] && dark=(--blink-settings=preferredColorScheme=0)
    browse --window-size=1280,1160 "${dark[@]}" --screenshot="$2" "file://$(realpath "$page")"
fi
