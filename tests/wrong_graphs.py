"""Graphs that no runtime should run, or whose answers it must refuse."""

import onnx
from onnx import parser

from fake_ctc import FRAME, READER

__all__ = ["ENDLESS", "FOREIGN", "WRONG_OUTPUTS"]

_ENDLESS = """<ir_version: 10, opset_import: ["": 21]>
endless (float[b, s] pcm) => (float[b, s] logits)
<int64 most = {9223372036854775807}, bool yes = {1}> {
  logits = Loop (most, yes, pcm) <
      body = body (int64 n, bool go, float[b, s] x) => (bool on, float[b, s] y) {
    on = Identity (go)
    y = Sin (x)
  }>
}"""

_CONDITIONAL = f"""<ir_version: 10, opset_import: ["": 21]>
reader (float[b, s] pcm) => (float[b, f, 28] logits) <bool yes = {{1}}> {{
  logits = If (yes) <
    then_branch = spoken () => (float[b, f, 28] heard)
      <int64[3] frames = {{0, -1, {FRAME}}}, int64[1] last = {{2}}> {{
        framed = Reshape (pcm, frames)
        heard = ReduceMax <keepdims = 1> (framed, last)
      }},
    else_branch = silent () => (float[b, f, 28] nothing)
      <int64[1] behind = {{2}}> {{
        rounded = Round (pcm)
        nothing = Unsqueeze (rounded, behind)
      }}
  >
}}"""


def _graph(text: str) -> bytes:
    return parser.parse_model(text).SerializeToString()


def _own_function() -> bytes:
    """The reader with a function of its own that is called as one of ONNX's operators."""
    model = parser.parse_model(READER.replace("Abs (off)", "own.Abs (off)"))
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    function = parser.parse_function(
        '<domain: "own", opset_import: ["": 21]> Abs (x) => (y) { y = Abs (x) }'
    )
    model.functions.append(function)
    return model.SerializeToString()


def _answering(outputs: str, body: str) -> bytes:
    text = f"""<ir_version: 10, opset_import: ["": 21]>
    wrong (float[b, s] pcm) => {outputs}
    <int64[1] axis = {{1}}, int64[1] two = {{2}}, int64[1] zero = {{0}}> {{ {body} }}"""
    return parser.parse_model(text).SerializeToString()


FOREIGN = {
    "Round": _graph(READER.replace("Abs (off)", "Round (off)")),
    "If": _graph(_CONDITIONAL),
    "own::Abs": _own_function(),
}
"""By an operator that mqtool never writes."""

_ANSWERS = {
    "rank 1": ("(float[b] logits)", "logits = ReduceMean <keepdims = 0> (pcm, axis)"),
    "rank 2": ("(float[b, s] logits)", "logits = Neg (pcm)"),
    "integers": (
        "(int64[b, s, one] logits)",
        "u = Unsqueeze (pcm, two)\n logits = Cast <to = 7> (u)",
    ),
    "doubles": (
        "(double[b, s, one] logits)",
        "u = Unsqueeze (pcm, two)\n logits = Cast <to = 11> (u)",
    ),
    "halves": (
        "(float16[b, s, one] logits)",
        "u = Unsqueeze (pcm, two)\n logits = Cast <to = 10> (u)",
    ),
    "booleans": (
        "(bool[b, s, one] logits)",
        "u = Unsqueeze (pcm, two)\n logits = Cast <to = 9> (u)",
    ),
    "strings": (
        "(string[b, s, one] logits)",
        "u = Unsqueeze (pcm, two)\n logits = Cast <to = 8> (u)",
    ),
    "a number": ("(float logits)", "logits = ReduceMean <keepdims = 0> (pcm)"),
    "two batches": (
        "(float[two_b, s, one] logits)",
        "u = Unsqueeze (pcm, two)\n logits = Concat <axis = 0> (u, u)",
    ),
    "another name": ("(float[b, s] logitz)", "logitz = Neg (pcm)"),
    "a sequence": ("(seq(float[b, s]) logits)", "logits = SequenceConstruct (pcm)"),
    "no frames": (
        "(float[b, none, s] logits)",
        "u = Unsqueeze (pcm, axis)\n logits = Slice (u, zero, zero, axis)",
    ),
}
WRONG_OUTPUTS = {what: _answering(*answer) for what, answer in _ANSWERS.items()}
"""Given PCM, answer something else than logits, or than those of the task."""

ENDLESS = _graph(_ENDLESS)
"""Never answers."""
