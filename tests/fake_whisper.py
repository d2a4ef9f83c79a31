"""A Whisper model made of tables, whose logits are the same to the bit wherever they are computed.

What it does depends on the first sample of a window times 64, its mark: 0 is silence, with unlikely
words; 1 says likely words; 2 repeats a word; 3 guesses. The mark chooses the likeliest next token
for every token; the sum of all tokens so far, which only a right cache knows, and their number
change that a little, so that beams differ and a text ends.
"""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

from mqruntime.bundle.manifest import Manifest, WhisperSettings

SILENCE, LIKELY, REPEATING, GUESSING = range(4)
RATE = 16000
WINDOW = 2 * RATE

_TEXT = 40  # tokens 0 to 39 are words
_END_OF_TEXT, _START, _NO_SPEECH, _NO_TIMESTAMPS, _BEGIN = range(_TEXT, _TEXT + 5)
_VOCABULARY = _BEGIN + 101  # timestamps up to the window's end
_MOST_TOKENS = 32
_SUMS = 97

ENCODER = """<ir_version: 10, opset_import: ["": 21]>
encoder (float[b, s] pcm) => (float[b, 1, 1, 1] cross_key_0, float[b, 1, 1, 1] cross_value_0)
<int64[1] zero = {0}, int64[1] one = {1}, int64[4] shape = {0, 1, 1, 1}> {
  first = Slice (pcm, zero, one, one)
  cross_key_0 = Reshape (first, shape)
  cross_value_0 = Neg (cross_key_0)
}"""

DECODER = """<ir_version: 10, opset_import: ["": 21]>
decoder (int64[b, n] tokens, float[b, 1, p, 1] past_key_0, float[b, 1, p, 1] past_value_0,
         float[b, 1, 1, 1] cross_key_0, float[b, 1, 1, 1] cross_value_0)
  => (float[b, n, v] logits, float[b, 1, q, 1] present_key_0, float[b, 1, q, 1] present_value_0)
<int64[4] cached = {0, 1, -1, 1}, int64[2] flat = {0, -1}, int64[1] axis = {2},
 int64[1] before = {0}, int64[1] behind = {1}, int64 zero = {0}, float half = {0.5},
 int64 vocabulary = {VOCABULARY}, int64 sums = {SUMS}, int64 one = {1}, float lowest = {0.0},
 float highest = {3.0}, float scale = {64.0}> {
  values = Cast <to = 1> (tokens)
  added = Reshape (values, cached)
  present_key_0 = Concat <axis = 2> (past_key_0, added)
  present_value_0 = Concat <axis = 2> (past_value_0, added)

  first = Mul (cross_key_0, scale)
  rounded = Add (first, half)
  clipped = Clip (rounded, lowest, highest)
  whole = Cast <to = 7> (clipped)
  mark = Reshape (whole, flat)
  offset = Mul (mark, vocabulary)
  follows_row = Add (tokens, offset)
  follows_logits = Gather (follows, follows_row)

  past_sum = ReduceSum <keepdims = 0> (past_key_0, axis)
  past_total = Cast <to = 7> (past_sum)
  past_flat = Reshape (past_total, flat)
  new = Shape <start = 1, end = 2> (tokens)
  new_number = Squeeze (new)
  places = Range (zero, new_number, one)
  rows = Unsqueeze (places, behind)
  columns = Unsqueeze (places, before)
  is_before = LessOrEqual (rows, columns)
  summed = Cast <to = 7> (is_before)
  new_total = MatMul (tokens, summed)
  total = Add (new_total, past_flat)
  sum_row = Mod (total, sums)
  sum_logits = Gather (of_sum, sum_row)

  past_count = Shape <start = 2, end = 3> (past_key_0)
  new_count = Add (places, one)
  number_row = Add (new_count, past_count)
  number_logits = Gather (of_number, number_row)

  some = Add (follows_logits, sum_logits)
  logits = Add (some, number_logits)
}"""


def whisper_folder(folder: Path) -> Path:
    """Write the model."""
    settings = WhisperSettings(
        window=WINDOW,
        max_tokens=_MOST_TOKENS,
        start_of_transcript=_START,
        end_of_text=_END_OF_TEXT,
        no_timestamps=_NO_TIMESTAMPS,
        timestamp_begin=_BEGIN,
        no_speech=_NO_SPEECH,
        transcribe=None,
        translate=None,
        languages={},
        suppress=[_START, _NO_SPEECH, _NO_TIMESTAMPS],
        suppress_at_begin=[_END_OF_TEXT],
    )
    manifest = Manifest(
        family="whisper",
        task="transcribe",
        sample_rate=RATE,
        graphs={"encoder": "encoder.onnx", "decoder": "decoder.onnx"},
        vocabulary="vocabulary.json.gz",
        whisper=settings,
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("encoder", ENCODER), ("decoder", DECODER)):
        text = text.replace("VOCABULARY", str(_VOCABULARY)).replace("SUMS", str(_SUMS))
        model = parser.parse_model(text)
        if name == "decoder":
            model.graph.initializer.extend(_tables())
        onnx.checker.check_model(model)
        onnx.save(model, folder / f"{name}.onnx")
    (folder / "model.json").write_bytes(manifest.to_bytes())
    tokens = [*_words(), *(f"<|{number}|>" for number in range(_TEXT, _VOCABULARY))]
    (folder / "vocabulary.json.gz").write_bytes(gzip.compress(json.dumps(tokens).encode()))
    return folder


def multilingual_folder(folder: Path, **settings: Any) -> Path:
    """Write the model with languages and tasks, and other settings as given."""
    whisper_folder(folder)
    manifest = Manifest.read(folder)
    assert manifest.whisper is not None
    last = _VOCABULARY - 1
    known = {"languages": {"en": last, "fr": last - 1, "it": last - 2}}
    tasks = {"transcribe": last - 3, "translate": last - 4}
    whisper = replace(manifest.whisper, **(known | tasks | settings))
    (folder / "model.json").write_bytes(replace(manifest, whisper=whisper).to_bytes())
    return folder


def pcm(marks: list[tuple[float, int]]) -> np.ndarray:
    """PCM of stretches, each so many seconds of one mark."""
    return np.concatenate(
        [np.full(round(seconds * RATE), mark / 64, np.float32) for seconds, mark in marks]
    )


def _words() -> list[str]:
    rng = np.random.default_rng(6)
    letters = [rng.integers(97, 123, rng.integers(2, 6)) for _ in range(_TEXT)]
    return ["Ġ" + "".join(map(chr, word)) for word in letters]


def _tables() -> list[onnx.TensorProto]:
    rng = np.random.default_rng(5)
    follows = rng.normal(0, 1, (4, _VOCABULARY, _VOCABULARY))
    follows[LIKELY] *= 6
    follows[REPEATING, :_TEXT, :_TEXT] += 6.5 * np.eye(_TEXT)
    follows[SILENCE, _START, _NO_SPEECH] = 12
    of_sum = rng.normal(0, 1, (_SUMS, _VOCABULARY))
    of_number = np.zeros((_MOST_TOKENS + 1, _VOCABULARY))
    of_number[:, _END_OF_TEXT] = np.linspace(-8, 8, _MOST_TOKENS + 1)
    tables = {
        "follows": follows.reshape(-1, _VOCABULARY),
        "of_sum": of_sum,
        "of_number": of_number,
    }
    return [numpy_helper.from_array(t.astype(np.float32), name) for name, t in tables.items()]
