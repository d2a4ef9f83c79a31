"""Would other operators be faster? Parts of a Whisper in two forms, in turn.

- The encoder's attention, and a decoder step's to what the encoder heard, as onnxruntime's own
  MultiHeadAttention against MatMul, Softmax, MatMul. Packed encoders have the former.
- A step's attention with its keys and values as int8 (MatMulInteger) against float32. They are
  inputs of a step, so that onnxruntime cannot arrange them beforehand.
- A Linear and the output head as onnxruntime's own MatMulNBits, 4 bits with a scale for every 32
  weights, against the int8 product that packed models compute (DynamicQuantizeLinear,
  MatMulInteger).

Medians of runs in turn, in one process; a ratio above 1 is a form that takes longer.

    python examples/benchmarks/operators.py -o examples/results/operators.csv
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from string import Template

import numpy as np
import onnx_ir as ir

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from result_files import csv_path, write_result

from mqruntime.engine.session import Session, StoredGraph
from mqtool.evaluation.bench import time_interleaved

HEADS, FRAMES, HEAD_SIZE = {"whisper-tiny.en": 6, "whisper-base": 8}, 1500, 64
VOCABULARY = 51864
BLOCK = 32
CALLS = 20

ATTENTION = """
<ir_version: 10, opset_import: ["" : 21]>
attention (float[1,$H,$Q,64] q, float[1,$H,1500,64] k, float[1,$H,1500,64] v)
          => (float[1,$H,$Q,64] y)
{
   columns = Transpose <perm = [0, 1, 3, 2]> (k)
   scores = MatMul (q, columns)
   weights = Softmax (scores)
   y = MatMul (weights, v)
}
"""

FUSED_ATTENTION = """
<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
attention (float[1,$Q,$D] q, $KV k, $KV v) => (float[1,$Q,$D] y)
{
   y = com.microsoft.MultiHeadAttention <num_heads = $H, scale = 1.0> (q, k, v)
}
"""

INT8_ATTENTION = """
<ir_version: 10, opset_import: ["" : 21]>
attention (float[1,$H,1,64] q, int8[1,$H,64,1500] k, float[1,$H,1,1] k_scale,
           int8[1,$H,1500,64] v, float[1,$H,1,1] v_scale) => (float[1,$H,1,64] y)
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
linear (float[1,1,$K] x, int8[$K,$N] codes, float[$N] scale) => (float[1,1,$N] y)
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
linear (float[1,1,$K] x, uint8[$N,$B,16] codes, float[$S] scale) => (float[1,1,$N] y)
{
   y = com.microsoft.MatMulNBits <K = $K, N = $N, bits = 4, block_size = 32,
                                  accuracy_level = 4> (x, codes, scale)
}
"""

Feeds = dict[str, np.ndarray]


def main() -> None:
    """Measure every part of both models, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=25)
    parser.add_argument("-o", "--output", type=csv_path)
    options = parser.parse_args()
    rows = []
    for threads in options.threads:
        for model, heads in HEADS.items():
            width = heads * HEAD_SIZE
            for part, calls, ours, other in (
                ("encoder's attention, one operator", 1, *fused_attentions(heads, True, threads)),
                ("step's attention, one operator", CALLS, *fused_attentions(heads, False, threads)),
                ("step's attention, int8 keys and values", CALLS, *attentions(heads, threads)),
                ("linear, MatMulNBits", CALLS, *linears(width, 4 * width, threads)),
                ("output head, MatMulNBits", CALLS, *linears(width, VOCABULARY, threads)),
            ):
                ms, our_ms = time_interleaved(other, ours, options.runs, calls)
                ratio = ms / our_ms
                rows.append({"model": model, "threads": threads, "part": part, "ratio": ratio})
                print(f"{model}, {threads} threads: {part}: {ratio:.2f}", flush=True)
    if options.output:
        write_result(options.output, rows, onnxruntime=version("onnxruntime"))


def fused_attentions(
    heads: int, is_encoder: bool, threads: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """All frames' attention to all, or a step's to them: in three operators, and in one."""
    rng = np.random.default_rng(0)
    queries, width = FRAMES if is_encoder else 1, heads * HEAD_SIZE
    apart = {
        name: rng.normal(0, 0.3, (1, heads, length, HEAD_SIZE)).astype(np.float32)
        for name, length in (("q", queries), ("k", FRAMES), ("v", FRAMES))
    }
    # A step gets its keys and values apart, as the encoder gives them; the encoder's are its own.
    together = {
        name: np.ascontiguousarray(array.swapaxes(1, 2)).reshape(1, -1, width)
        if is_encoder or name == "q"
        else array
        for name, array in apart.items()
    }
    shape = ",".join(map(str, together["k"].shape))
    sizes = {"H": heads, "Q": queries, "D": width, "KV": f"float[{shape}]"}
    return (
        opened(ATTENTION, sizes, apart, {}, threads),
        opened(FUSED_ATTENTION, sizes, together, {}, threads),
    )


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
    sizes = {"H": heads, "Q": 1}
    return (
        opened(ATTENTION, sizes, {"q": query} | exact, {}, threads),
        opened(INT8_ATTENTION, sizes, {"q": query} | codes | scales, {}, threads),
    )


def linears(
    columns: int, rows: int, threads: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """A product with a weight of the graph: int8 with a scale a row, and MatMulNBits."""
    rng = np.random.default_rng(0)
    blocks = columns // BLOCK
    sizes = {"K": columns, "N": rows, "B": blocks, "S": rows * blocks}
    feeds = {"x": rng.normal(0, 1, (1, 1, columns)).astype(np.float32)}
    int8 = {
        "codes": rng.integers(-127, 128, (columns, rows), np.int8),
        "scale": np.full(rows, 0.01, np.float32),
    }
    nbits = {
        "codes": rng.integers(0, 256, (rows, blocks, BLOCK // 2), np.uint8),
        "scale": np.full(rows * blocks, 0.1, np.float32),
    }
    return (
        opened(INT8_LINEAR, sizes, feeds, int8, threads),
        opened(NBITS_LINEAR, sizes, feeds, nbits, threads),
    )


def opened(
    text: str, sizes: Mapping[str, object], feeds: Feeds, initializers: Feeds, threads: int
) -> Callable[[], object]:
    """A call that runs a graph of these sizes; `initializers` become its own instead of inputs."""
    model = ir.from_onnx_text(Template(text).substitute(sizes))
    for value in [value for value in model.graph.inputs if value.name in initializers]:
        value.const_value = ir.Tensor(initializers[value.name], name=value.name)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    stored = StoredGraph("part", memoryview(ir.to_proto(model).SerializeToString()), {})
    # A pool of threads that spins after its run would take the other form's time.
    session = Session(stored, threads=threads, config={"session.force_spinning_stop": "1"})
    return lambda: session.run(feeds)


if __name__ == "__main__":
    main()
