#!/usr/bin/env bash
# The Python wheel: built by pip as the README says, its stubs compared with the module and checked
# by mypy, its tests run. Installs Python's venv where there is none (as root, on Debian).
#
# ci/python.sh [PACKAGE..] installs more packages beside it: with `torch` its
# scaled_dot_product_attention is compared as well.
set -euo pipefail
cd "$(dirname "$0")/.."

python3 -c 'import ensurepip, venv' 2>/dev/null || ci/apt-install.sh python3-venv
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
. "$work/venv/bin/activate"
export PIP_DISABLE_PIP_VERSION_CHECK=1

cargo fmt --manifest-path python/Cargo.toml --check
# The command of the README as it stands there, with what the tests need.
command=$(sed -n 's/^\(pip install .\/python && .*\)/\1/p' README.md)
[ -n "$command" ] || { echo "README.md has no command for Python" >&2; exit 1; }
bash -c "$command"
python -m pip install --quiet mypy pytest "$@"

cd python
python -m mypy.stubtest masktile --ignore-missing-stub
python -m mypy
python -m pytest -q
cd ..
cargo clippy --manifest-path python/Cargo.toml --quiet -- -D warnings
