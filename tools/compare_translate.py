"""Tokens a second of the example and of PyTorch: the same texts in the same batches of 64, greedy, from
caches, on one thread of one core, in alternating rounds. The script fails if they translate differently.

    cargo build --release --example translate
    VENV/bin/python tools/compare_translate.py
"""

import argparse
import os
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch

from train_translate import DATA, read_weights
from translate_model import Translator, decode, encode

EXAMPLE = Path(__file__).parent.parent / "target/release/examples/translate"
BATCH = 64


def pytorch(model: Translator, batches: list) -> tuple[list[str], float]:
    """The translations, and tokens a second; an end counts as a token, what follows it does not."""
    start = time.perf_counter()
    outputs = [model.greedy(*batch) for batch in batches]
    seconds = time.perf_counter() - start
    lines = [line for output in outputs for line in decode(output)]
    return lines, sum(len(line) + 1 for line in lines) / seconds


def example(file: str, arguments: list[str]) -> tuple[list[str], float]:
    run = subprocess.run([EXAMPLE, "--file", file, *arguments], capture_output=True, text=True, check=True)
    return run.stdout.splitlines(), float(re.search(r"(\d+) a second", run.stderr)[1])


def main():
    parser = argparse.ArgumentParser(description="Compares the example's speed with PyTorch's.")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--isa", help="the example's instruction set")
    parser.add_argument("--least", type=float, default=0.0, help="fail if the example is less than so many times as fast")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    model = Translator()
    read_weights(model)
    model.eval()
    texts = [line.split("\t")[0] for line in (DATA / "held-out.tsv").read_text().splitlines()[: 15 * BATCH]]
    batches = [encode(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]
    rates = {"PyTorch": [], "masktile": []}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(f"{text}\n" for text in texts))
        file.flush()
        pytorch(model, batches[:2])
        for _ in range(options.rounds):
            wanted, rate = pytorch(model, batches)
            rates["PyTorch"].append(rate)
            given, rate = example(file.name, ["--isa", options.isa] if options.isa else [])
            rates["masktile"].append(rate)
            assert given == wanted, [pair for pair in zip(given, wanted) if pair[0] != pair[1]]
    for name, measured in rates.items():
        print(f"{name}: {statistics.median(measured):,.0f} tokens a second ({min(measured):,.0f} to {max(measured):,.0f})")
    ratio = statistics.median(ours / theirs for ours, theirs in zip(rates["masktile"], rates["PyTorch"]))
    print(f"masktile is {ratio:.2f} times as fast (median of {options.rounds} rounds, torch {torch.__version__})")
    if ratio < options.least:
        raise SystemExit(f"wanted {options.least} times")


if __name__ == "__main__":
    main()
