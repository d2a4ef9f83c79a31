"""Read a CTranslate2 Whisper folder (what faster-whisper uses) as a transformers model.

`model.bin`, little-endian, format versions 4 to 6:

    u32 version
    string spec name ("WhisperSpec"), u32 spec revision
    u32 number of variables, each:
        string name, u8 rank, u32 dims[rank], u8 type id, u32 bytes, raw data
    u32 number of aliases, each: string alias, string variable

where a string is a u16 length that counts its closing NUL, then the characters. Type ids:
0 float32, 1 int8, 2 int16, 3 int32, 4 float16, 5 bfloat16. An integer `X/weight` comes with
`X/weight_scale`, one value a row (int8) or one in all (int16), and stands for `weight / scale`.

Linear weights are [out, in]. Projections of one input are stacked: Q, K, V in `linear_0` of self
attention; Q in `linear_0`, then K, V in `linear_1` of cross attention. Whisper's K projection has
no bias, so its third of the stacked bias is zero.
"""

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import ml_dtypes
import numpy as np

from mqtool.errors import ExportError
from mqtool.exporters.tokenizer import read_vocabulary

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

__all__ = ["is_ctranslate2_folder", "load_whisper", "read_variables"]

_VERSIONS = range(4, 7)
_SPEC = "WhisperSpec"
_EMBEDDINGS = "decoder/embeddings/weight"
_PROJECTION = "decoder/projection/weight"
_MAX_RANK = 3  # a convolution's
_DTYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype("<f4"),
    1: np.dtype("i1"),
    2: np.dtype("<i2"),
    3: np.dtype("<i4"),
    4: np.dtype("<f2"),
    5: np.dtype(ml_dtypes.bfloat16),
}


@dataclass(frozen=True)
class _Variable:
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class VariableFile:
    """The named tensors of a `model.bin`, read from disk one at a time."""

    def __init__(self, path: Path, variables: dict[str, _Variable]) -> None:
        self._path = path
        self._variables = variables

    def __contains__(self, name: str) -> bool:
        return name in self._variables

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor without reading it."""
        return self._find(name).shape

    def raw(self, name: str) -> np.ndarray:
        """The tensor as stored."""
        variable = self._find(name)
        count = math.prod(variable.shape)
        stored = np.fromfile(self._path, variable.dtype, count, offset=variable.offset)
        return stored.reshape(variable.shape)

    def float32(self, name: str) -> np.ndarray:
        """The tensor in float32, dequantized if it has a scale."""
        values = self.raw(name).astype(np.float32)
        if f"{name}_scale" in self:
            scale = self.raw(f"{name}_scale").astype(np.float32)
            values /= scale.reshape(-1, *[1] * (values.ndim - 1))
        return values

    def has_own(self, name: str, other: str) -> bool:
        """Whether `name` is there and no alias of `other`."""
        return name in self and self._find(name) != self._find(other)

    def _find(self, name: str) -> _Variable:
        if name not in self._variables:
            raise ExportError(f"{self._path}: no tensor {name!r}; is this a Whisper model?")
        return self._variables[name]


def is_ctranslate2_folder(folder: Path) -> bool:
    """Whether `folder` holds a CTranslate2 model (and not a transformers one)."""
    return (folder / "model.bin").is_file() and not any(
        (folder / name).is_file() for name in ("pytorch_model.bin", "model.safetensors")
    )


def read_variables(path: Path) -> VariableFile:
    """Index the tensors of a CTranslate2 Whisper `model.bin`.

    Raises:
        ExportError: not such a file, another version or architecture, or cut short.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return VariableFile(path, _read_index(_Reader(file, path, size)))
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror or error})") from None


class _Reader:
    """Little-endian fields from a file of known size; anything past its end is an ExportError."""

    def __init__(self, file: BinaryIO, path: Path, size: int) -> None:
        self.file, self.path, self.size = file, path, size

    def unpack(self, code: str) -> Any:
        layout = struct.Struct(f"<{code}")
        return layout.unpack(self.read(layout.size))

    def integer(self, code: str) -> int:
        return int(self.unpack(code)[0])

    def string(self) -> str:
        return self.read(self.integer("H")).rstrip(b"\0").decode("utf-8", "replace")

    def read(self, count: int) -> bytes:
        data = self.file.read(count)
        if len(data) != count:
            raise self.truncated()
        return data

    def skip(self, count: int) -> int:
        offset = self.file.tell()
        if offset + count > self.size:
            raise self.truncated()
        self.file.seek(count, 1)
        return offset

    def truncated(self) -> ExportError:
        return ExportError(
            f"{self.path}: ends too early ({self.size} bytes); the download or copy is incomplete"
        )


def _read_index(reader: _Reader) -> dict[str, _Variable]:
    version = reader.integer("I")
    if version not in _VERSIONS:
        raise ExportError(
            f"{reader.path}: not a CTranslate2 model, or format version {version} "
            f"(read: {_VERSIONS.start} to {_VERSIONS.stop - 1}); convert it again"
        )
    spec = reader.string()
    if spec != _SPEC:
        raise ExportError(f"{reader.path}: holds a {spec!r}, of CTranslate2 only {_SPEC} is read")
    reader.integer("I")  # revision: adds optional tensors that are not needed here
    variables: dict[str, _Variable] = {}
    for _ in range(reader.integer("I")):
        name = reader.string()
        rank = reader.integer("B")
        if rank > _MAX_RANK:
            raise ExportError(f"{reader.path}: tensor {name!r} has rank {rank}; convert it again")
        shape = reader.unpack(f"{rank}I")
        type_id = reader.integer("B")
        byte_count = reader.integer("I")
        offset = reader.skip(byte_count)
        dtype = _DTYPES.get(type_id)
        if dtype is None or dtype.itemsize * math.prod(shape) != byte_count or 0 in shape:
            raise ExportError(f"{reader.path}: tensor {name!r} is malformed (type {type_id})")
        variables[name] = _Variable(offset, tuple(shape), dtype)
    for _ in range(reader.integer("I")):
        alias, name = reader.string(), reader.string()
        if name in variables:
            variables[alias] = variables[name]
    return variables


def load_whisper(folder: Path) -> "WhisperForConditionalGeneration":
    """The folder's model as transformers' class, float32, every parameter set.

    Raises:
        ExportError: missing, truncated or malformed files, or not Whisper.
    """
    import torch
    from transformers import WhisperForConditionalGeneration

    variables = read_variables(folder / "model.bin")
    vocabulary, _ = variables.shape(_EMBEDDINGS)
    config = _whisper_config(variables, read_vocabulary(folder, vocabulary))
    config.tie_word_embeddings = not variables.has_own(_PROJECTION, _EMBEDDINGS)
    state = {name: torch.from_numpy(array) for name, array in _state(variables)}
    with torch.device("meta"):
        model: Any = WhisperForConditionalGeneration(config)
    try:
        missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    except RuntimeError as error:  # a shape that contradicts the others
        raise ExportError(f"{folder}: {' '.join(str(error).split())}") from None
    left = sorted({*missing, *unexpected} - {"proj_out.weight"})
    if left:
        raise ExportError(f"{folder}: tensors of {left[0]!r} and {len(left) - 1} more do not match")
    model.tie_weights()
    _set_generation(model, folder)
    model.eval()
    whisper: WhisperForConditionalGeneration = model
    return whisper


def _whisper_config(variables: VariableFile, tokens: list[str]) -> Any:
    from transformers import WhisperConfig

    for token in ("<|startoftranscript|>", "<|endoftext|>"):
        if token not in tokens:
            raise ExportError(f"the tokenizer has no {token}: not Whisper's")
    end = tokens.index("<|endoftext|>")
    width, mels, _ = variables.shape("encoder/conv1/weight")
    return WhisperConfig(
        vocab_size=len(tokens),
        num_mel_bins=mels,
        d_model=width,
        encoder_layers=_count_layers(variables, "encoder"),
        decoder_layers=_count_layers(variables, "decoder"),
        encoder_attention_heads=int(variables.raw("encoder/num_heads")),
        decoder_attention_heads=int(variables.raw("decoder/num_heads")),
        encoder_ffn_dim=variables.shape("encoder/layer_0/ffn/linear_0/weight")[0],
        decoder_ffn_dim=variables.shape("decoder/layer_0/ffn/linear_0/weight")[0],
        max_source_positions=variables.shape("encoder/position_encodings/encodings")[0],
        max_target_positions=variables.shape("decoder/position_encodings/encodings")[0],
        decoder_start_token_id=tokens.index("<|startoftranscript|>"),
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )


def _count_layers(variables: VariableFile, side: str) -> int:
    count = 0
    while f"{side}/layer_{count}/ffn/linear_0/weight" in variables:
        count += 1
    return count


def _state(variables: VariableFile) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (parameter name in transformers, float32 array) for every parameter."""

    def linear(theirs: str, ours: list[str]) -> Iterator[tuple[str, np.ndarray]]:
        weights = np.split(variables.float32(f"{theirs}/weight"), len(ours))
        biases = np.split(variables.float32(f"{theirs}/bias"), len(ours))
        for name, weight, bias in zip(ours, weights, biases, strict=True):
            yield f"{name}.weight", weight
            if not name.endswith("k_proj"):
                yield f"{name}.bias", bias

    def norm(theirs: str, ours: str) -> Iterator[tuple[str, np.ndarray]]:
        yield f"{ours}.weight", variables.float32(f"{theirs}/gamma")
        yield f"{ours}.bias", variables.float32(f"{theirs}/beta")

    for conv in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            yield f"model.encoder.{conv}.{kind}", variables.float32(f"encoder/{conv}/{kind}")
    yield "model.decoder.embed_tokens.weight", variables.float32(_EMBEDDINGS)
    if variables.has_own(_PROJECTION, _EMBEDDINGS):
        yield "proj_out.weight", variables.float32(_PROJECTION)
    for side in ("encoder", "decoder"):
        root = f"model.{side}"
        table = variables.float32(f"{side}/position_encodings/encodings")
        yield f"{root}.embed_positions.weight", table
        yield from norm(f"{side}/layer_norm", f"{root}.layer_norm")
        for index in range(_count_layers(variables, side)):
            theirs, ours = f"{side}/layer_{index}", f"{root}.layers.{index}"
            attention = f"{ours}.self_attn"
            qkv = [f"{attention}.{name}_proj" for name in ("q", "k", "v")]
            yield from norm(f"{theirs}/self_attention/layer_norm", f"{attention}_layer_norm")
            yield from linear(f"{theirs}/self_attention/linear_0", qkv)
            yield from linear(f"{theirs}/self_attention/linear_1", [f"{attention}.out_proj"])
            yield from norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
            yield from linear(f"{theirs}/ffn/linear_0", [f"{ours}.fc1"])
            yield from linear(f"{theirs}/ffn/linear_1", [f"{ours}.fc2"])
            if side == "decoder":
                cross = f"{ours}.encoder_attn"
                kv = [f"{cross}.{name}_proj" for name in ("k", "v")]
                yield from norm(f"{theirs}/attention/layer_norm", f"{cross}_layer_norm")
                yield from linear(f"{theirs}/attention/linear_0", [f"{cross}.q_proj"])
                yield from linear(f"{theirs}/attention/linear_1", kv)
                yield from linear(f"{theirs}/attention/linear_2", [f"{cross}.out_proj"])


def _set_generation(model: "WhisperForConditionalGeneration", folder: Path) -> None:
    """Take the suppression lists over from config.json."""
    path = folder / "config.json"
    if not path.is_file():
        raise ExportError(f"{folder}: no config.json; copy the whole CTranslate2 folder")
    try:
        settings = json.loads(path.read_bytes())
    except ValueError as error:
        raise ExportError(f"{path}: not valid JSON ({error})") from None
    generation: Any = model.generation_config
    generation.suppress_tokens = settings.get("suppress_ids") or []
    generation.begin_suppress_tokens = settings.get("suppress_ids_begin") or []
