"""Trains the translator of examples/translate and writes what its crate keeps under data/:

- weights.safetensors: bfloat16, which the tests, the example and the firmware read;
- held-out.tsv: 1,000 texts of combinations of formats that training never saw, with translations;
- reference.safetensors: PyTorch's float32 logits of the first 100 of them.

    python3 -m venv VENV && VENV/bin/pip install -r tools/requirements.txt
    VENV/bin/python tools/train_translate.py | tee tools/train_translate.log

Seeds are fixed; the same versions on the same kind of processor give the same weights.
"""

import argparse
import math
import time
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from translate_dates import draw
from translate_model import SOURCE, TARGET, Translator, decode, encode, encode_targets

DATA = Path(__file__).parent.parent / "examples/translate/model/data"
SEED = 20261124
# Texts are drawn in lots, each sorted by length and cut into batches: little padding.
BATCHES_OF_A_LOT = 16


def batches(random: Random, size: int):
    while True:
        lot = sorted((draw(random, held_out=False) for _ in range(BATCHES_OF_A_LOT * size)), key=lambda pair: len(pair[0]))
        cut = [lot[i : i + size] for i in range(0, len(lot), size)]
        random.shuffle(cut)
        yield from cut


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Rises over the first 300 steps, then falls along a cosine to zero."""
    return peak * min(step / 300, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def train(model: Translator, steps: int, size: int, peak: float):
    optimizer = torch.optim.AdamW(model.parameters(), peak, betas=(0.9, 0.98), weight_decay=0.01)
    validation = [draw(random, held_out=True) for random in [Random(SEED + 2)] for _ in range(512)]
    start, lost = time.monotonic(), 0.0
    for step, batch in zip(range(1, steps + 1), batches(Random(SEED), size)):
        texts, targets = zip(*batch)
        given, wanted = encode_targets(targets)
        optimizer.param_groups[0]["lr"] = learning_rate(step, steps, peak)
        logits = model(*encode(texts), given)
        loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        lost += loss.item()
        if step % 250 == 0:
            right = accuracy(model, validation)
            seconds = time.monotonic() - start
            print(f"step {step}: loss {lost / 250:.4f}, {right:.1%} of 512 unseen right, {seconds:.0f} s", flush=True)
            lost = 0.0


def translate(model: Translator, texts: list[str]) -> list[str]:
    return [line for i in range(0, len(texts), 64) for line in decode(model.greedy(*encode(texts[i : i + 64])))]


def accuracy(model: Translator, pairs: list[tuple[str, str]]) -> float:
    texts, targets = zip(*pairs)
    return sum(map(str.__eq__, translate(model, list(texts)), targets)) / len(pairs)


def round_to_bfloat16(model: Translator):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())


def read_weights(model: Translator):
    weights = load_file(DATA / "weights.safetensors")
    model.load_state_dict({name: weight.float() for name, weight in weights.items()})


def draw_held_out(count: int) -> list[tuple[str, str]]:
    """Pairs of distinct texts: a combination of one moment, as "at noon" is, counts once."""
    random, pairs = Random(SEED + 1), {}
    while len(pairs) < count:
        text, iso = draw(random, held_out=True)
        pairs.setdefault(text.lower(), (text, iso))
    return list(pairs.values())


def write_weights(model: Translator):
    DATA.mkdir(parents=True, exist_ok=True)
    weights = {name: parameter.detach().bfloat16() for name, parameter in model.named_parameters()}
    save_file(weights, DATA / "weights.safetensors", {"source": SOURCE[1:], "target": TARGET[1:]})


def write_tests(model: Translator, held_out: list[tuple[str, str]]):
    (DATA / "held-out.tsv").write_text("".join(f"{text}\t{iso}\n" for text, iso in held_out))
    texts, targets = zip(*held_out[:100])
    with torch.inference_mode():
        logits = model(*encode(list(texts)), encode_targets(list(targets))[0])
    save_file({"logits": logits.contiguous()}, DATA / "reference.safetensors")


def main():
    parser = argparse.ArgumentParser(description="Trains the translator of examples/translate.")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=192)
    parser.add_argument("--rate", type=float, default=3e-3, help="the learning rate at its peak")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", action="store_true", help="train nothing: measure the weights that are there")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(options.threads)
    model = Translator()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"torch {torch.__version__}, {parameters} parameters, {vars(options)}", flush=True)
    if options.measure:
        read_weights(model)
    else:
        train(model, options.steps, options.batch, options.rate)
        round_to_bfloat16(model)
        write_weights(model)
    held_out = draw_held_out(1000)
    texts = [text for text, _ in held_out]
    wrong = [(text, iso, got) for (text, iso), got in zip(held_out, translate(model, texts)) if got != iso]
    print(f"rounded to bfloat16: {1 - len(wrong) / len(texts):.1%} of {len(texts)} unseen, distinct texts right")
    for text, iso, got in wrong:
        print(f"wrong: {text!r} is {iso}, not {got}")
    write_tests(model, held_out)


if __name__ == "__main__":
    main()
