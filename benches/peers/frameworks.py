"""Masked softmax and attention of PyTorch and ONNX Runtime beside masktile's, which is called through its C ABI:
in one process, on one thread of one core, in turns round by round. First every result is compared with masktile's.

    cargo build --release --manifest-path capi/Cargo.toml
    cargo run --release -p masktile-bench -- run --op softmax,attention --json ours.jsonl
    python3 -m venv frameworks && frameworks/bin/pip install numpy cffi torch onnx onnxruntime
    frameworks/bin/python benches/peers/frameworks.py ours.jsonl --json all.jsonl

The shapes and masks are those of the file that masktile-bench wrote, and so are the machine's limits: what a call
counts as is said once. The JSON that is written is read by masktile-bench's `report` and `compare`.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import time
from pathlib import Path

import cffi
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

ROOT = Path(__file__).parent.parent.parent
LIBRARY = ROOT / "capi/target/release/libmasktile.so"
HEADER = ROOT / "capi/assets/capi/include/masktile.h"
# A sample is as many calls as take so long, by the processor's clock.
SAMPLE_NS = 2_000_000
TOLERANCE = 1e-5


def load_library():
    """The C ABI as its header has it."""
    source = re.sub(r"#include.*", "", HEADER.read_text())
    declarations = subprocess.run(["cc", "-E", "-P", "-"], input=source, capture_output=True, text=True, check=True)
    ffi = cffi.FFI()
    ffi.cdef(declarations.stdout)
    return ffi, ffi.dlopen(str(LIBRARY))


def aligned(shape, values=None):
    """An array that starts at a cache line, as tensor libraries allocate."""
    bytes_ = int(np.prod(shape)) * 4
    memory = np.zeros(bytes_ + 64, np.uint8)
    start = -memory.ctypes.data % 64
    array = memory[start : start + bytes_].view(np.float32).reshape(shape)
    if values is not None:
        array[...] = values
    return array


class Case:
    """Operands of one operation at one shape with one mask, the same for all."""

    def __init__(self, op, shape, mask):
        self.op, self.mask = op, mask
        random = np.random.default_rng(1)
        if op == "softmax":
            heads, queries, keys = map(int, shape.split("x"))
            self.scores = aligned((1, heads, queries, keys), random.uniform(-8, 8, (1, heads, queries, keys)))
        else:
            first, queries, keys, dim = shape.split("x")
            heads, kv_heads = (first.split("/") * 2)[:2]
            heads, kv_heads, queries, keys, dim = map(int, (heads, kv_heads, queries, keys, dim))
            of = lambda heads, tokens: aligned((1, heads, tokens, dim), random.uniform(-1, 1, (1, heads, tokens, dim)))
            self.q, self.k, self.v = of(heads, queries), of(kv_heads, keys), of(kv_heads, keys)
            self.kv_heads, self.dim = kv_heads, dim
        self.heads, self.queries, self.keys = heads, queries, keys
        self.length = keys - keys // 4
        grid = (1, heads, queries, keys)
        query, key = np.ogrid[:queries, :keys]
        self.kept = {
            "causal": lambda: np.broadcast_to(key <= query + keys - queries, grid),
            "lengths": lambda: np.broadcast_to(key < self.length, grid),
            "bool": lambda: random.uniform(size=grid) < 0.5,
        }.get(mask, lambda: None)()
        self.bias = aligned(grid, random.uniform(-1, 1, grid)) if mask == "bias" else None


class Masktile:
    name = "masktile"

    def __init__(self):
        self.ffi, self.library = load_library()

    def view(self, array, element="float"):
        ffi = self.ffi
        strides = [step // array.itemsize for step in array.strides]
        data = ffi.cast(f"{element} *", array.ctypes.data)
        return {"data": data, "len": array.size, "shape": list(array.shape), "strides": strides}

    def masks(self, case, kept_alive):
        ffi, lib = self.ffi, self.library
        if case.mask == "none":
            return ffi.NULL, 0
        mask = ffi.new("MasktileMask[1]")
        mask[0].size = ffi.sizeof("MasktileMask")
        if case.mask == "causal":
            mask[0].kind = lib.MASKTILE_MASK_KIND_CAUSAL
            mask[0].of.offset.kind = lib.MASKTILE_OFFSET_KIND_BOTTOM_RIGHT
        elif case.mask == "lengths":
            lengths = ffi.new("size_t[1]", [case.length])
            kept_alive.append(lengths)
            mask[0].kind = lib.MASKTILE_MASK_KIND_KEY_LENGTHS
            mask[0].of.lengths = {"data": lengths, "len": 1}
        elif case.mask == "bool":
            ones = np.ascontiguousarray(case.kept).view(np.uint8)
            kept_alive.append(ones)
            mask[0].kind = lib.MASKTILE_MASK_KIND_BOOL
            mask[0].of.matrix.ones = self.view(ones, element="uint8_t")
            mask[0].of.matrix.meaning = lib.MASKTILE_ONES_ARE_KEPT
        else:
            mask[0].kind = lib.MASKTILE_MASK_KIND_BIAS
            mask[0].of.bias = self.view(case.bias)
        kept_alive.append(mask)
        return mask, 1

    def prepare(self, case):
        ffi, lib, kept_alive = self.ffi, self.library, []
        masks, count = self.masks(case, kept_alive)
        if case.op == "softmax":
            out = aligned(case.scores.shape)
            fields = {"scores": self.view(case.scores), "probs": self.view(out)}
            struct, function = "MasktileSoftmax", lib.masktile_softmax
        else:
            out = aligned(case.q.shape)
            rows = case.heads // case.kv_heads * case.queries
            workspace = aligned(lib.masktile_attention_workspace_len(rows, case.keys, case.dim, case.dim))
            memory = {"data": ffi.cast("float *", workspace.ctypes.data), "len": workspace.size}
            kept_alive.append(workspace)
            fields = {"q": case.q, "k": case.k, "v": case.v, "out": out}
            fields = {name: self.view(array) for name, array in fields.items()} | {"workspace": memory}
            struct, function = "MasktileAttention", lib.masktile_attention
        kept_alive.append(out)
        args = ffi.new(f"{struct} *", fields | {"size": ffi.sizeof(struct), "masks": masks, "mask_count": count})

        # The structs hold addresses alone.
        def call(_kept_alive=kept_alive):
            if function(args) != lib.MASKTILE_STATUS_OK:
                raise RuntimeError(ffi.string(lib.masktile_last_error()).decode())

        return call, lambda: out


class PyTorch:
    name = "pytorch"

    def prepare(self, case):
        torch.set_num_threads(1)
        tensor = lambda array: None if array is None else torch.from_numpy(np.require(array, requirements=["C", "W"]))
        kept, bias, result = tensor(case.kept), tensor(case.bias), []
        if case.op == "softmax":
            scores, out = tensor(case.scores), torch.empty(case.scores.shape)
            masked = None if kept is None else ~kept
            if masked is not None:
                call = lambda: torch.softmax(scores.masked_fill(masked, -torch.inf), -1, out=out)
            elif bias is not None:
                call = lambda: torch.softmax(scores + bias, -1, out=out)
            else:
                call = lambda: torch.softmax(scores, -1, out=out)
            return torch.inference_mode()(call), lambda: out.numpy()
        q, k, v = tensor(case.q), tensor(case.k), tensor(case.v)
        # Its own causal mask is aligned to the first key.
        causal = case.mask == "causal" and case.queries == case.keys
        mask = bias if bias is not None else None if causal else kept
        attention = torch.nn.functional.scaled_dot_product_attention
        grouped = case.heads != case.kv_heads

        @torch.inference_mode()
        def call():
            result[:] = [attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=grouped)]

        return call, lambda: result[0].numpy()


class OnnxRuntime:
    name = "onnxruntime"

    def prepare(self, case):
        inputs, nodes = {}, []
        if case.op == "softmax":
            inputs["scores"] = case.scores
            scores = "scores"
            if case.kept is not None:
                inputs["kept"] = np.ascontiguousarray(case.kept)
                least = helper.make_tensor("least", TensorProto.FLOAT, [], [-np.inf])
                nodes += [helper.make_node("Constant", [], ["least"], value=least)]
                nodes += [helper.make_node("Where", ["kept", "scores", "least"], ["masked"])]
                scores = "masked"
            elif case.bias is not None:
                inputs["bias"] = case.bias
                nodes += [helper.make_node("Add", ["scores", "bias"], ["biased"])]
                scores = "biased"
            nodes += [helper.make_node("Softmax", [scores], ["out"], axis=-1)]
            shape = case.scores.shape
        else:
            inputs |= {"q": case.q, "k": case.k, "v": case.v}
            causal = case.mask == "causal" and case.queries == case.keys
            if case.bias is not None:
                inputs["mask"] = case.bias
            elif case.kept is not None and not causal:
                inputs["mask"] = np.ascontiguousarray(case.kept)
            nodes += [helper.make_node("Attention", list(inputs), ["out"], is_causal=int(causal))]
            shape = case.q.shape
        types = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(bool): TensorProto.BOOL}
        describe = lambda name, array: helper.make_tensor_value_info(name, types[array.dtype], array.shape)
        out = helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)
        graph = helper.make_graph(nodes, case.op, [describe(*item) for item in inputs.items()], [out])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        binding, result = session.io_binding(), aligned(shape)
        for name, array in inputs.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output("out", "cpu", 0, np.float32, shape, result.ctypes.data)

        def call(_kept_alive=(inputs, result)):
            session.run_with_iobinding(binding)

        return call, lambda: result


def sample(call, calls):
    start = time.thread_time_ns()
    for _ in range(calls):
        call()
    return (time.thread_time_ns() - start) / calls


def measure(case, implementations, rounds):
    """Median time and spread of each that has this case, by name."""
    runs, wanted = {}, None
    for implementation in implementations:
        try:
            call, result = implementation.prepare(case)
            call()
        except Exception as error:  # What a framework lacks is said, and the others go on.
            if implementation.name == "masktile":
                raise
            print(f"{implementation.name} left out: {str(error).splitlines()[0][:100]}")
            continue
        given = np.array(result()).reshape(-1)
        wanted = given if wanted is None else wanted
        difference = float(np.abs(given - wanted).max())
        if not difference <= TOLERANCE:
            raise SystemExit(f"{implementation.name} deviates by {difference:g} at {case.op} {case.mask}")
        runs[implementation.name] = call
    once = {name: max(sample(call, 3), 1.0) for name, call in runs.items()}
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, call in runs.items():
            times[name].append(sample(call, max(1, round(SAMPLE_NS / once[name]))))
    for name, all_ in times.items():
        first, _, last = statistics.quantiles(all_, n=4)
        times[name] = (statistics.median(all_), (last - first) / statistics.median(all_))
    return times


def main():
    parser = argparse.ArgumentParser(description="Softmax and attention beside PyTorch and ONNX Runtime.")
    parser.add_argument("ours", type=Path, help="what masktile-bench measured: the shapes, masks and limits")
    parser.add_argument("--json", type=Path, help="writes the numbers to this file, one object a line")
    parser.add_argument("--op", default="", help="only this operation")
    parser.add_argument("--shape", default="", help="only the shapes whose names hold this")
    parser.add_argument("--rounds", type=int, default=31)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cases = {}
    for line in options.ours.read_text().splitlines():
        record = json.loads(line)
        if record["op"] in ("softmax", "attention") and record["threads"] == 1 and record["impl"] == "masktile":
            key = tuple(record[name] for name in ("op", "shape", "mask"))
            if options.op in key[0] and options.shape in key[1]:
                # The last is the best instruction set's, as the C ABI chooses.
                cases[key] = record
    if not cases:
        raise SystemExit(f"{options.ours}: no softmax or attention of such a name")
    implementations = [Masktile(), PyTorch(), OnnxRuntime()]
    print(f"PyTorch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}; microseconds a call")
    print(f"{'':42}" + "".join(f"{each.name:>13}" for each in implementations) + f"{'to best peer':>14}")
    written = []
    for (op, shape, mask), record in cases.items():
        times = measure(Case(op, shape, mask), implementations, options.rounds)
        peers = [time for name, (time, _) in times.items() if name != "masktile"]
        cells = [f"{times[each.name][0] / 1e3:13.1f}" if each.name in times else f"{'-':>13}" for each in implementations]
        ratio = f"{min(peers) / times['masktile'][0]:14.2f}" if peers else f"{'-':>14}"
        print(f"{op + ' ' + shape + ' ' + mask:42}" + "".join(cells) + ratio, flush=True)
        for name, (median, spread) in times.items():
            speed = record["median_ns"] / median
            new = record | {"impl": name, "median_ns": median, "spread": spread, "rounds": options.rounds}
            new |= {field: record[field] * speed for field in ("gflops", "gbps", "of_peak") if field in record}
            if name != "masktile":
                new["isa"] = None
            new.pop("instructions", None)
            written.append(new)
    if options.json:
        options.json.write_text("".join(json.dumps(record) + "\n" for record in written))


if __name__ == "__main__":
    main()
