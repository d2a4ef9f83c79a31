"""Would other operators make a decoder step faster? Parts of it in other forms, in turn.

- Attention to what the encoder heard, with its keys and values as int8 (MatMulInteger) against
  float32. They are inputs of a step, so that onnxruntime cannot arrange them beforehand.
- A Linear and the output head as onnxruntime's own MatMulNBits, 4 bits with a scale for every 32
  weights, against the int8 product that packed models compute (DynamicQuantizeLinear,
  MatMulInteger).

Medians of runs in turn, in one process; a ratio above 1 is a form that takes longer.

    python examples/benchmarks/decoder_parts.py -o examples/results/decoder-parts.json
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx_ir as ir
import onnxruntime

HEADS, FRAMES, HEAD_SIZE = {"whisper-tiny.en": 6, "whisper-base": 8}, 1500, 64
VOCABULARY = 51864
BLOCK = 32

ATTENTION = """
<ir_version: 10, opset_import: ["" : 21]>
attention (float[1,H,1,64] q, float[1,H,1500,64] k, float[1,H,1500,64] v) => (float[1,H,1,64] y)
{
   columns = Transpose <perm = [0, 1, 3, 2]> (k)
   scores = MatMul (q, columns)
   weights = Softmax (scores)
   y = MatMul (weights, v)
}
"""

INT8_ATTENTION = """
<ir_version: 10, opset_import: ["" : 21]>
attention (float[1,H,1,64] q, int8[1,H,64,1500] k, float[1,H,1,1] k_scale,
           int8[1,H,1500,64] v, float[1,H,1,1] v_scale) => (float[1,H,1,64] y)
{
   q8, q_scale, q_zero = DynamicQuantizeLinear (q)
   products = MatMulInteger (q8, k, q_zero)
   as_float = Cast <to = 1> (products)
   qk_scale = Mul (q_scale, k_scale)
   scores = Mul (as_float, qk_scale)
   weights = Softmax (scores)
   w8, w_scale, w_zero = DynamicQuantizeLinear (weights)
   sums = MatMulInteger (w8, v, w_zero)
   sums_float = Cast <to = 1> (sums)
   wv_scale = Mul (w_scale, v_scale)
   y = Mul (sums_float, wv_scale)
}
"""

INT8_LINEAR = """
<ir_version: 10, opset_import: ["" : 21]>
linear (float[1,1,K] x, int8[K,N] codes, float[N] scale) => (float[1,1,N] y)
{
   x8, x_scale, x_zero = DynamicQuantizeLinear (x)
   products = MatMulInteger (x8, codes, x_zero)
   as_float = Cast <to = 1> (products)
   scales = Mul (x_scale, scale)
   y = Mul (as_float, scales)
}
"""

NBITS_LINEAR = """
<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
linear (float[1,1,K] x, uint8[N,B,16] codes, float[S] scale) => (float[1,1,N] y)
{
   y = com.microsoft.MatMulNBits <K = K, N = N, bits = 4, block_size = 32,
                                  accuracy_level = 4> (x, codes, scale)
}
"""

Feeds = dict[str, np.ndarray]


def main() -> None:
    """Measure every part of both models, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=25)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    rows = []
    for threads in options.threads:
        for model, heads in HEADS.items():
            width = heads * HEAD_SIZE
            for part, ours, other in (
                ("attention, int8 keys and values", *attentions(heads, threads)),
                ("linear, MatMulNBits", *linears(width, 4 * width, threads)),
                ("output head, MatMulNBits", *linears(width, VOCABULARY, threads)),
            ):
                ratio = in_turn(other, ours, options.runs)
                rows.append({"model": model, "threads": threads, "part": part, "ratio": ratio})
                print(f"{model}, {threads} threads: {part}: {ratio:.2f}", flush=True)
    if options.output:
        facts = {"command": "python " + " ".join(sys.argv), "date": date.today().isoformat()}
        facts["onnxruntime"] = onnxruntime.__version__
        options.output.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")


def attentions(heads: int, threads: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """A step's attention to the encoder: in float32, and with int8 keys and values."""
    rng = np.random.default_rng(0)
    query = rng.normal(0, 1, (1, heads, 1, HEAD_SIZE)).astype(np.float32)
    shapes = {"k": (1, heads, HEAD_SIZE, FRAMES), "v": (1, heads, FRAMES, HEAD_SIZE)}
    codes = {name: rng.integers(-127, 128, shape, np.int8) for name, shape in shapes.items()}
    scale = np.full((1, heads, 1, 1), 0.01, np.float32)
    exact = {name: array * scale for name, array in codes.items()}
    exact["k"] = np.ascontiguousarray(exact["k"].swapaxes(2, 3))  # as exported graphs have them
    scales = {"k_scale": scale, "v_scale": scale}
    texts = (text.replace(",H,", f",{heads},") for text in (ATTENTION, INT8_ATTENTION))
    feeds: tuple[Feeds, Feeds] = {"q": query} | exact, {"q": query} | codes | scales
    ours, other = (opened(*both, {}, threads) for both in zip(texts, feeds, strict=True))
    return ours, other


def linears(
    columns: int, rows: int, threads: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """A product with a weight of the graph: int8 with a scale a row, and MatMulNBits."""
    rng = np.random.default_rng(0)
    blocks = columns // BLOCK
    sizes = {"K": columns, "N": rows, "B": blocks, "S": rows * blocks}
    feeds = {"x": rng.normal(0, 1, (1, 1, columns)).astype(np.float32)}
    weights: list[Feeds] = [
        {
            "codes": rng.integers(-127, 128, (columns, rows), np.int8),
            "scale": np.full(rows, 0.01, np.float32),
        },
        {
            "codes": rng.integers(0, 256, (rows, blocks, BLOCK // 2), np.uint8),
            "scale": np.full(rows * blocks, 0.1, np.float32),
        },
    ]
    calls = []
    for text, initializers in zip((INT8_LINEAR, NBITS_LINEAR), weights, strict=True):
        for name, size in sizes.items():
            for before, after in (("[", ","), ("[", "]"), (",", "]"), (",", ","), ("= ", ",")):
                text = text.replace(before + name + after, f"{before}{size}{after}")
        calls.append(opened(text, feeds, initializers, threads))
    return calls[0], calls[1]


def opened(text: str, feeds: Feeds, initializers: Feeds, threads: int) -> Callable[[], object]:
    """A call that runs a graph; `initializers` become its own instead of inputs."""
    model = ir.from_onnx_text(text)
    for value in [value for value in model.graph.inputs if value.name in initializers]:
        value.const_value = ir.Tensor(initializers[value.name], name=value.name)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # A pool of threads that spins after its run would take the other form's time.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, feeds)


def in_turn(other: Callable[[], object], ours: Callable[[], object], runs: int) -> float:
    """Median time of `other` in that of `ours`; each run is twenty calls."""
    times: tuple[list[float], list[float]] = [], []
    for run in range(runs + 1):
        for side in (0, 1) if run % 2 else (1, 0):
            start = time.perf_counter()
            for _ in range(20):
                (other, ours)[side]()
            if run:  # the first one allocates
                times[side].append(time.perf_counter() - start)
    return median(times[0]) / median(times[1])


if __name__ == "__main__":
    main()
