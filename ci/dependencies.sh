#!/usr/bin/env bash
# What a program gets with masktile: exactly the crates that SECURITY.md lists, from crates.io, under
# a licence that permits any use. Needs no network once the registry is warm.
set -euo pipefail
cd "$(dirname "$0")/.."

licences='MIT|Apache-2.0|Zlib|Unlicense|BSD-[23]-Clause'
failures=0 cases=0
fail() {
    echo "$*" >&2
    failures=$((failures + 1))
}

# Crates of a table row in SECURITY.md: | `name` | ...
listed() { sed -n 's/^| `\([a-z0-9_-]*\)` |.*/\1/p' SECURITY.md; }

found=$(cargo tree --offline --locked -p masktile --features rayon -e normal,build \
    --prefix none --format '{p}|{l}|{r}' | sed 's/ (\*)//' | sort -u)
while IFS='|' read -r package licence repository; do
    cases=$((cases + 1))
    name=${package%% *}
    case $name in masktile | masktile-kernels) continue ;; esac
    listed | grep -qx "$name" || fail "$name is not listed in SECURITY.md"
    grep -Eq "$licences" <<<"$licence" || fail "$name: licence '$licence'"
    [ -n "$repository" ] || fail "$name names no repository"
    grep -q "(/" <<<"$package" && fail "$package does not come from crates.io"
done <<<"$found"
for name in $(listed); do
    grep -q "^$name " <<<"$found" || fail "$name is listed in SECURITY.md and not used"
done
# Two versions of one crate would be two to look after.
twice=$(cut -d' ' -f1 <<<"$found" | sort | uniq -d)
[ -z "$twice" ] || fail "in two versions: $twice"

echo "cases: $cases crates"
[ "$failures" -eq 0 ]
