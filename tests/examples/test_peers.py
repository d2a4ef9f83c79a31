"""The benchmark's own writer of whisper.cpp's file, its error figures and its report."""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "benchmarks"))

from peers import measure, report
from peers.catalogue import FLOAT, Peer, Places
from peers.make_ggml import MODEL, write_ggml
from result_files import read_result

from mqtool.evaluation.word_errors import Errors
from mqtool.exporters.sources.ctranslate2 import read_variables
from mqtool.recordings.clips import Clip


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


def test_a_report_is_table_and_picture(tmp_path: Path) -> None:
    model = "whisper-tiny.en"
    places = Places(tmp_path, tmp_path, tmp_path)
    said = {"en": "the cat sat down", "fr": "un deux trois quatre"}
    clips = [
        Clip(Path(f"{code}-{n}.wav"), transcript=text, language=code)
        for code, text in said.items()
        for n in range(3)
    ]
    times = {part: {"peer": 2.0, "float": 4.0, "ratio": 0.5} for part in report.PARTS}
    peers = [FLOAT, Peer("other-q4", "other", "")]
    for size, peer in zip((30, 10), peers, strict=True):
        folder = tmp_path / peer.name
        folder.mkdir()
        (folder / "model").write_bytes(bytes(size))
        files = measure.digest(folder)
        rows = [
            {"clip": f"{clip.language}/{clip.path.stem}", "files": files, "text": clip.transcript}
            for clip in clips
        ]
        if peer is not FLOAT:
            rows[0]["text"] = "the hat sat down"
            path = report.times_file(peer, model, places)
            path.parent.mkdir(parents=True)
            found = {"files": files, "threads": 2, "peak_rss": 9e6, "imported_rss": 3e6, **times}
            path.write_text(json.dumps(found))
        path = tmp_path / "transcripts" / model / f"{peer.name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    target = tmp_path / "results" / f"peers-{model}"
    made = [(peer, tmp_path / peer.name) for peer in peers]
    report.write(model, made, places, clips, target)
    names = sorted(path.name for path in target.parent.iterdir())
    assert names == [f"peers-{model}.csv", f"peers-{model}.md", f"peers-{model}.png"]
    rows = read_result(target.parent / names[0])
    assert [(row["model"], row["language"]) for row in rows] == [
        (peer.name, language) for peer in peers for language in ("all", "en", "fr")
    ]
    whole = rows[3]
    assert whole["bytes"] == 10
    assert whole["wer"] == whole["wer_above_float"] == pytest.approx(100 / 24, rel=1e-6)
    assert (whole["rtf_ratio"], whole["float_load_ms"]) == (0.5, 4)
    assert rows[4]["wer"] == pytest.approx(100 / 12, rel=1e-6)
    assert rows[4]["rtf_ratio"] is None
    (line,) = [line for line in (target.parent / names[1]).read_text().splitlines() if "q4" in line]
    assert line.startswith("| other-q4 | 10 | 6 | 4.2 (0.0 to 12.5) | +4.2 (+0.0 to +12.5) |")
    assert line.endswith("| 8.3 | 0.0 | 2.000 | 0.50 | 0.50 | 0.50 | 2 | 9 | 3 |")
