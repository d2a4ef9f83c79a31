"""The benchmark's own writer of whisper.cpp's file, and its error figures."""

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "benchmarks"))

from peers import report
from peers.make_ggml import MODEL, write_ggml

from mqtool.evaluation.word_errors import Errors
from mqtool.exporters.sources.ctranslate2 import read_variables


@pytest.fixture(scope="module")
def ggml(whisper_tiny_en: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    target = tmp_path_factory.mktemp("peers") / "ggml"
    write_ggml(whisper_tiny_en, target, "f16", Path("unused"))
    return (target / MODEL).read_bytes()


def tensors(content: bytes) -> dict[str, np.ndarray]:
    bins, width = struct.unpack_from("<2i", content, 48)
    at = 56 + 4 * bins * width
    (count,) = struct.unpack_from("<i", content, at)
    at += 4
    for _ in range(count):
        at += 4 + struct.unpack_from("<I", content, at)[0]
    found = {}
    while at < len(content):
        rank, length, kind = struct.unpack_from("<3i", content, at)
        shape = struct.unpack_from(f"<{rank}i", content, at + 12)[::-1]
        at += 12 + 4 * rank
        name = content[at : at + length].decode()
        at += length
        dtype = np.dtype(("<f4", "<f2")[kind])
        found[name] = np.frombuffer(content, dtype, int(np.prod(shape)), at).reshape(shape)
        at += found[name].nbytes
    assert at == len(content)
    return found


@pytest.mark.weights
def test_header_says_what_the_model_is(ggml: bytes) -> None:
    numbers = struct.unpack_from("<I11i", ggml)
    assert numbers == (0x67676D6C, 51864, 1500, 384, 6, 4, 448, 384, 6, 4, 80, 1)


@pytest.mark.weights
def test_every_parameter_is_in_the_file(ggml: bytes, whisper_tiny_en: Path) -> None:
    found = tensors(ggml)
    variables = read_variables(whisper_tiny_en / "model.bin")
    tied = "decoder/projection/weight"  # the embedding again
    shapes = [variables.shape(name) for name in variables if name != tied]
    sizes = [np.prod(shape) for shape in shapes if shape]
    key_biases = 12 * 384  # stored as zeros there, absent here
    assert sum(values.size for values in found.values()) == sum(sizes) - key_biases
    stacked = variables.float32("decoder/layer_3/attention/linear_1/weight")
    value = found["decoder.blocks.3.cross_attn.value.weight"]
    np.testing.assert_array_equal(value, np.split(stacked, 2)[1].astype(np.float16))
    assert "encoder.blocks.0.attn.key.bias" not in found
    assert found["encoder.positional_embedding"].dtype == np.float32


@pytest.mark.weights
def test_rows_must_divide_into_blocks(whisper_tiny_en: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="q4_K needs rows of 256 weights, not 384"):
        write_ggml(whisper_tiny_en, tmp_path / "ggml", "q4_K", Path("unused"))
    assert not (tmp_path / "ggml").exists()


def test_difference_counts_common_clips_only() -> None:
    reference = {"en/a": Errors(0, 10, 0, 50), "en/b": Errors(1, 10, 2, 50)}
    outcomes = {"en/b": Errors(3, 10, 8, 50), "en/c": Errors(5, 10, 9, 50)}
    figures = report._errors(outcomes, reference)
    assert figures["wer"] == pytest.approx(40)
    assert figures["wer_above_float"] == pytest.approx(20)
    assert figures["clips"] == 2
