#!/usr/bin/env bash
# Installs the packages named that are missing; needs no root where none is. One call at a time, for
# apt takes no second one.
set -euo pipefail
if [ -z "${APT_LOCKED:-}" ]; then
    APT_LOCKED=1 exec flock "${TMPDIR:-/tmp}/masktile-apt.lock" "$0" "$@"
fi

missing=()
for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -ne 0 ]; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
fi
