"""Write whisper.cpp's model file, 16-bit or quantized.

The file, little-endian (what whisper.cpp's `convert-*-to-ggml.py` writes and its `quantize` tool
rewrites):

    u32 0x67676d6c
    i32 vocabulary, audio positions, width, heads, layers, text positions, width, heads, layers,
        mel bins, file type
    i32 mel bins, i32 FFT bins, float32 filters [mel bins, FFT bins]
    i32 number of ordinary tokens, each: u32 length, bytes
    tensors, each: i32 rank, i32 length of name, i32 tensor type, i32 dims[rank] (fastest first),
        name, data

As there, vectors, convolution biases and position tables are float32, convolution weights float16,
and every other matrix has the file's type. The blocks of a quantized type are made by
`ggml_quantize_chunk` of the ggml library inside the pywhispercpp wheel: the function that the
`quantize` tool calls, without an importance matrix, as that tool has none for Whisper.

    python make_ggml.py WEIGHTS TARGET TYPE LIBRARY     (TYPE: f16 q8_0 q5_1 q5_0 q4_0 q4_K ...)
"""

import ctypes
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mqtool.exporters.sources.ctranslate2 import VariableFile, read_variables
from mqtool.exporters.tokenizer import read_vocabulary
from mqtool.outputs import new_folder

__all__ = ["MODEL", "TYPES", "write_ggml"]

MODEL = "model.bin"

_MAGIC = 0x67676D6C
_F32, _F16 = 0, 1
_QUANTIZED_FILE = 2000  # the quantization format's version, 2, in thousands
_LAYER = {
    "self_attention/layer_norm": "attn_ln",
    "attention/layer_norm": "cross_attn_ln",
    "ffn/layer_norm": "mlp_ln",
    "ffn/linear_0": "mlp.0",
    "ffn/linear_1": "mlp.2",
    "self_attention/linear_1": "attn.out",
    "attention/linear_2": "cross_attn.out",
}
_STACKED = {
    "self_attention/linear_0": ["attn.query", "attn.key", "attn.value"],
    "attention/linear_0": ["cross_attn.query"],
    "attention/linear_1": ["cross_attn.key", "cross_attn.value"],
}
_FLOAT32 = {"positional_embedding", "conv1.bias", "conv2.bias"}


@dataclass(frozen=True)
class Type:
    """ggml's number of a file type and of the tensor type, weights a block and bytes a block."""

    file: int
    tensor: int
    block: int
    block_bytes: int


TYPES = {
    "f16": Type(1, 1, 1, 2),
    "q4_0": Type(2, 2, 32, 18),
    "q4_1": Type(3, 3, 32, 20),
    "q5_0": Type(8, 6, 32, 22),
    "q5_1": Type(9, 7, 32, 24),
    "q8_0": Type(7, 8, 32, 34),
    "q2_K": Type(10, 10, 256, 84),
    "q3_K": Type(11, 11, 256, 110),
    "q4_K": Type(12, 12, 256, 144),
    "q5_K": Type(13, 13, 256, 176),
}


def write_ggml(weights: Path, target: Path, kind: str, library: Path) -> None:
    """Make a folder with one whisper.cpp model file in it.

    Args:
        weights: CTranslate2 folder of a Whisper model.
        target: new folder.
        kind: one of `TYPES`.
        library: `libggml-base`, which quantizes.

    Raises:
        ValueError: a matrix is too narrow for the type's blocks.
    """
    variables = read_variables(weights / "model.bin")
    size, width = variables.shape("decoder/embeddings/weight")
    if width % TYPES[kind].block:
        raise ValueError(f"{kind} needs rows of {TYPES[kind].block} weights, not {width}")
    tokens = read_vocabulary(weights, size)
    with new_folder(target) as folder, (folder / MODEL).open("wb") as file:
        _write_header(file, variables, size, kind)
        _write_filters(file, variables.shape("encoder/conv1/weight")[1])
        _write_tokens(file, tokens)
        for name, values in _tensors(variables):
            _write_tensor(file, name, values, kind, library)


def _write_header(file: BinaryIO, variables: VariableFile, size: int, kind: str) -> None:
    width, mels, _ = variables.shape("encoder/conv1/weight")
    numbers = [size]
    for side in ("encoder", "decoder"):
        positions, _ = variables.shape(f"{side}/position_encodings/encodings")
        layers = sum(f"{side}/layer_{i}/ffn/linear_0/weight" in variables for i in range(99))
        numbers += [positions, width, int(variables.raw(f"{side}/num_heads")), layers]
    file_type = TYPES[kind].file + (0 if kind == "f16" else _QUANTIZED_FILE)
    file.write(struct.pack("<I11i", _MAGIC, *numbers, mels, file_type))


def _write_filters(file: BinaryIO, mels: int) -> None:
    import librosa

    filters = librosa.filters.mel(sr=16000, n_fft=400, n_mels=mels).astype("<f4")
    file.write(struct.pack("<2i", *filters.shape))
    file.write(filters.tobytes())


def _write_tokens(file: BinaryIO, tokens: list[str]) -> None:
    units = _byte_units()
    english_only = len(tokens) < 51865  # then the published files hold end_of_text too
    regular = tokens[: tokens.index("<|endoftext|>") + english_only]
    file.write(struct.pack("<i", len(regular)))
    for token in regular:
        text = bytes(units[unit] for unit in token)
        file.write(struct.pack("<I", len(text)))
        file.write(text)


def _byte_units() -> dict[str, int]:
    """Byte-level BPE's characters: printing Latin-1 as itself, the others from U+0100 on."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printing]
    units = {chr(byte): byte for byte in printing}
    return units | {chr(256 + index): byte for index, byte in enumerate(others)}


def _tensors(variables: VariableFile) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor under OpenAI's name, float32."""
    for side, norm in (("encoder", "ln_post"), ("decoder", "ln")):
        table = variables.float32(f"{side}/position_encodings/encodings")
        yield f"{side}.positional_embedding", table
        yield from _norm(variables, f"{side}/layer_norm", f"{side}.{norm}")
        index = 0
        while f"{side}/layer_{index}/ffn/linear_0/weight" in variables:
            yield from _block(variables, f"{side}/layer_{index}", f"{side}.blocks.{index}")
            index += 1
    for conv in ("conv1", "conv2"):
        yield f"encoder.{conv}.weight", variables.float32(f"encoder/{conv}/weight")
        bias = variables.float32(f"encoder/{conv}/bias")
        yield f"encoder.{conv}.bias", bias[:, np.newaxis]
    yield "decoder.token_embedding.weight", variables.float32("decoder/embeddings/weight")


def _block(variables: VariableFile, theirs: str, ours: str) -> Iterator[tuple[str, np.ndarray]]:
    for name, renamed in _LAYER.items():
        if name.endswith("norm") and f"{theirs}/{name}/gamma" in variables:
            yield from _norm(variables, f"{theirs}/{name}", f"{ours}.{renamed}")
        elif f"{theirs}/{name}/weight" in variables:
            for kind in ("weight", "bias"):
                yield f"{ours}.{renamed}.{kind}", variables.float32(f"{theirs}/{name}/{kind}")
    for name, parts in _STACKED.items():
        if f"{theirs}/{name}/weight" not in variables:
            continue
        for kind in ("weight", "bias"):
            stacked = variables.float32(f"{theirs}/{name}/{kind}")
            for part, values in zip(parts, np.split(stacked, len(parts)), strict=True):
                if not (part.endswith("key") and kind == "bias"):
                    yield f"{ours}.{part}.{kind}", values


def _norm(variables: VariableFile, theirs: str, ours: str) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{ours}.weight", variables.float32(f"{theirs}/gamma")
    yield f"{ours}.bias", variables.float32(f"{theirs}/beta")


def _write_tensor(file: BinaryIO, name: str, values: np.ndarray, kind: str, library: Path) -> None:
    tensor_type, data = _encoded(name, values, kind, library)
    encoded = name.encode()
    file.write(struct.pack("<3i", values.ndim, len(encoded), tensor_type))
    file.write(struct.pack(f"<{values.ndim}i", *reversed(values.shape)))
    file.write(encoded)
    file.write(data)


def _encoded(name: str, values: np.ndarray, kind: str, library: Path) -> tuple[int, bytes]:
    if values.ndim < 2 or name.partition(".")[2] in _FLOAT32:
        return _F32, values.astype("<f4").tobytes()
    halves = values.astype("<f2")
    if values.ndim > 2 or kind == "f16":
        return _F16, halves.tobytes()
    return TYPES[kind].tensor, _quantized(halves.astype(np.float32), kind, library)


def _quantized(values: np.ndarray, kind: str, library: Path) -> bytes:
    """Blocks of a matrix [rows, columns], by ggml itself."""
    chosen = TYPES[kind]
    ggml: Any = ctypes.CDLL(str(library))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,
        *[ctypes.c_void_p] * 2,
        *[ctypes.c_int64] * 3,
        ctypes.c_void_p,
    ]
    values = np.ascontiguousarray(values, np.float32)
    blocks = np.empty(values.size // chosen.block * chosen.block_bytes, np.uint8)
    written = ggml.ggml_quantize_chunk(
        chosen.tensor, values.ctypes.data, blocks.ctypes.data, 0, *values.shape, None
    )
    if written != blocks.size:
        raise ValueError(f"ggml wrote {written} bytes for {kind}, expected {blocks.size}")
    return blocks.tobytes()


if __name__ == "__main__":
    source, destination, quantization, shared_library = sys.argv[1:]
    write_ggml(Path(source), Path(destination), quantization, Path(shared_library))
