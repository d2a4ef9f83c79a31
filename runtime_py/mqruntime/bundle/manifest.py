"""The model folder and its manifest, `model.json`.

A model folder (float or packed) holds:

    model.json            this manifest: UTF-8 JSON, sorted keys, one line
    encoder.onnx          models that write a text token by token: Whisper (task transcribe) and
    decoder.onnx          Moonshine (task seq2seq)
    encoder.onnx          transducers: what hears, what was said so far, and what joins both to the
    predictor.onnx        next token
    joint.onnx
    model.onnx            CTC and keyword models: the only graph
    *.onnx.data           external data of the graph of that name, only for graphs over 1.5 GB
    *.onnx.data.gz        format 2, instead: that data coded (`mqruntime.engine.coded_data`), for
                          every graph that has any. Where the inflated file is beside it, that
                          one is opened
    vocabulary.json.gz    gzip (mtime 0) of a JSON array: entry i is token i
                          (Whisper: byte-level BPE units as in GPT-2's `vocab.json`;
                          CTC, transducers: what each adds to a text, a word delimiter as it is;
                          seq2seq: as the manifest's `seq2seq.spelling` says)

Graph inputs and outputs, the same in float and packed models:

    model.onnx    pcm float32 [batch, samples]
                  -> logits float32 [batch, frames, vocabulary] (CTC) or [batch, labels] (keywords)
    encoder.onnx  pcm float32 [batch, samples], at most `window`; Whisper's a multiple of 320
                  -> cross_key_{i}, cross_value_{i} float32 [batch, heads, frames, head_size]
    decoder.onnx  tokens int64 [batch, n], past_key_{i}, past_value_{i} float32
                  [batch, heads, past, head_size] (past may be 0), cross_key_{i}, cross_value_{i}
                  -> logits float32 [batch, n, vocabulary],
                     present_key_{i}, present_value_{i} float32 [batch, heads, past + n, head_size]

    and of transducers
    encoder.onnx    pcm float32 [batch, samples], at most `window`
                    -> frames float32 [batch, frames, size]
    predictor.onnx  tokens int64 [batch, 1], past_hidden_{i}, past_cell_{i} float32
                    [batch, 1, size], at first 0
                    -> prediction, present_hidden_{i}, present_cell_{i}, all alike
    joint.onnx      frame, prediction float32 [batch, pairs, size]
                    -> logits float32 [batch, pairs, vocabulary], and where the manifest's
                    `transducer.durations` names any, durations float32 [batch, pairs, number]

with i from 0 to the number of the decoder's or predictor's layers - 1. PCM is mono at
`sample_rate`, in [-1, 1].

Format 1 is of models whose weights are as onnxruntime opens them, format 2 of packed models whose
weights are coded; `packed.weights` then has `{"encoder.onnx.data": [[stored, inflated], ...]}`, the
lengths of the parts of each file.
"""

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from mqruntime.bundle.fields import MAX_JSON, parse_json, read_fields
from mqruntime.bundle.seq2seq_settings import Seq2SeqSettings
from mqruntime.bundle.transducer_settings import TransducerSettings
from mqruntime.bundle.whisper_settings import WhisperSettings
from mqruntime.engine.coded_data import CodedData
from mqruntime.errors import ManifestError

__all__ = [
    "CODED_FORMAT",
    "FORMAT",
    "MANIFEST_NAME",
    "RATES",
    "ROLES",
    "CtcSettings",
    "Manifest",
    "Seq2SeqSettings",
    "Task",
    "TransducerSettings",
    "WhisperSettings",
    "canonical_json",
]

FORMAT = 1
CODED_FORMAT = 2
MANIFEST_NAME = "model.json"

Task = Literal["transcribe", "ctc", "keywords", "seq2seq", "transducer"]

ROLES: dict[str, tuple[str, ...]] = {
    "transcribe": ("encoder", "decoder"),
    "ctc": ("model",),
    "keywords": ("model",),
    "seq2seq": ("encoder", "decoder"),
    "transducer": ("encoder", "predictor", "joint"),
}
"""Roles of a task's graphs, in the order in which values pass through them."""

_SETTINGS = {
    "transcribe": "whisper",
    "ctc": "ctc",
    "seq2seq": "seq2seq",
    "transducer": "transducer",
}
"""Task -> the field with what its decoding needs."""

RATES = range(8000, 48001)
"""Hz, that a model may take."""

_FORMATS = (FORMAT, CODED_FORMAT)

_TOKENS = 1 << 31
"""Token ids are below, so that 32 bits hold them."""


def canonical_json(value: Any) -> bytes:
    r"""UTF-8 JSON with sorted keys, without spaces, in one line: one form for every value.

    Keys are ordered by their code points. Strings escape `"`, `\` and what is below U+0020, by a
    letter where JSON has one, else as \u001f. Numbers with a fraction or an exponent are spelled
    as Python's `repr` does: the fewest digits that are read as that number again.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode() + b"\n"


@dataclass(frozen=True)
class _Weights:
    """The field of `packed` that readers of format 2 need."""

    weights: dict[str, list[list[int]]]

    @classmethod
    def of(cls, packed: dict[str, Any] | None) -> Self:
        return read_fields(cls, {"weights": (packed or {}).get("weights")}, "packed")


@dataclass(frozen=True)
class CtcSettings:
    """How CTC's tokens become text.

    Attributes:
        blank: token that is no text.
        word_delimiter: token that stands for a space between words; None: words begin at tokens
            that begin with a space.
        clean_up: whether spaces before `.`, `?`, `!`, `,` and English contractions go, as in
            transformers' `clean_up_tokenization`; not in the file where they stay.
        byte_fallback: whether tokens <0x00> to <0xFF> are bytes, of which those in a row are UTF-8,
            or each U+FFFD if they are not; not in the file where they are none.
    """

    blank: int
    word_delimiter: int | None
    clean_up: bool = False
    byte_fallback: bool = False


@dataclass(frozen=True)
class Manifest:
    """What a model is and how to run it.

    Attributes:
        family: transformers' `model_type` (whisper, moonshine, wav2vec2, hubert, sew-d, ...).
        task: transcribe (Whisper), ctc, keywords, seq2seq (Moonshine) or transducer (Parakeet).
        sample_rate: of the PCM that the graphs take, in Hz.
        graphs: role (encoder, decoder, predictor, joint, model) -> file name.
        vocabulary: file name of the token table; None for keyword models.
        labels: keyword models: label i of the logits.
        min_samples: shortest input the graphs take; shorter PCM is padded with zeros.
        whisper: what Whisper's decoding loop needs; null for other tasks.
        ctc: what decoding of CTC needs; null for other tasks.
        seq2seq: what decoding of task seq2seq needs; not in the file for other tasks.
        transducer: likewise.
        source: name, licence and revision of the model this was made from (free text values).
        packed: None for a float model; for a packed one the SHA-256 of plan and recordings, the
            budget, options, and, in format 2, where its coded weights are cut.
        format: of this file, 1 or 2.
    """

    family: str
    task: Task
    sample_rate: int
    graphs: dict[str, str]
    vocabulary: str | None = None
    labels: list[str] = field(default_factory=list)
    min_samples: int = 1
    whisper: WhisperSettings | None = None
    ctc: CtcSettings | None = None
    seq2seq: Seq2SeqSettings | None = None
    transducer: TransducerSettings | None = None
    source: dict[str, str] = field(default_factory=dict)
    packed: dict[str, Any] | None = None
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """The file's JSON value."""
        value = asdict(self)
        if self.whisper is not None:  # readers of 0.3.0 refuse what they would not follow
            for name, absent in (("words", []), ("language", None), ("task", "transcribe")):
                if value["whisper"][name] == absent:
                    del value["whisper"][name]
        for name in ("clean_up", "byte_fallback") if self.ctc is not None else ():
            if not value["ctc"][name]:
                del value["ctc"][name]
        for name in ("seq2seq", "transducer"):
            if value[name] is None:
                del value[name]
        return value

    def to_bytes(self) -> bytes:
        """The file's bytes; the same manifest always gives the same bytes."""
        return canonical_json(self.to_json())

    @classmethod
    def parse(cls, content: bytes, name: str) -> Self:
        """Read and check the bytes of a `model.json`.

        Args:
            content: the file.
            name: what to call it in errors.

        Raises:
            ManifestError: not JSON, another format, or a field that is missing, unknown or of the
                wrong type or range.
        """
        try:
            fields = parse_json(content)
        except ValueError as error:
            raise ManifestError(f"{name}: not valid JSON ({error}); export or pack again") from None
        found = fields.get("format") if isinstance(fields, dict) else type(fields).__name__
        if found not in _FORMATS:
            raise ManifestError(f"{name}: format {found!r}, this version reads {_FORMATS}")
        try:
            manifest = read_fields(cls, fields)
            manifest.check()
        except ValueError as error:
            raise ManifestError(f"{name}: {error}; export or pack again") from None
        return manifest

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read and check `folder/model.json`.

        Raises:
            ManifestError: no such folder or file, a file it names is not there, or see `parse`.
        """
        path = Path(folder) / MANIFEST_NAME
        if not path.is_file():
            raise ManifestError(
                f"{folder}: no {MANIFEST_NAME} here; give a folder made by mqtool export or pack"
            )
        with path.open("rb") as file:
            manifest = cls.parse(file.read(MAX_JSON + 1), str(path))
        for name in manifest.files:
            # Coded data may be there inflated, as unzip and gunzip leave it.
            found = [name, name.removesuffix(".gz")] if name.endswith(".data.gz") else [name]
            if Path(name).name != name or not any((path.parent / f).is_file() for f in found):
                raise ManifestError(f"{path}: names {name!r}, which is not a file beside it")
        return manifest

    @property
    def files(self) -> list[str]:
        """Files of a folder that the manifest names; data that is not coded comes on top."""
        return [*self.plain_files, *(f"{name}.gz" for name in self.coded)]

    @property
    def possible_files(self) -> set[str]:
        """Names that a folder's files may have: coded data may be there inflated, or both ways."""
        data = {f"{graph}.data" for graph in self.graphs.values()}
        return {*self.plain_files, *data, *(f"{name}.gz" for name in data)}

    @property
    def plain_files(self) -> list[str]:
        """Those of them that are not coded."""
        vocabulary = [] if self.vocabulary is None else [self.vocabulary]
        return [*self.graphs.values(), *vocabulary]

    @cached_property
    def coded(self) -> dict[str, CodedData]:
        """Where the weights of format 2 are cut, by the name of the data that they inflate to."""
        if self.format != CODED_FORMAT:
            return {}
        listed = _Weights.of(self.packed)
        return {name: CodedData.parse(parts) for name, parts in listed.weights.items()}

    def check(self) -> None:
        """Check what the types do not say.

        Raises:
            ValueError: naming the first value that cannot be.
        """
        if self.format not in _FORMATS:
            raise ValueError(f"format {self.format!r}, this version reads {_FORMATS}")
        if (self.format == CODED_FORMAT) != ("weights" in (self.packed or {})):
            raise ValueError(
                f"format {self.format} and the field `packed.weights` do not go together"
            )
        known = {f"{name}.data" for name in self.graphs.values()}
        if unknown := self.coded.keys() - known:
            raise ValueError(f"packed.weights names {min(unknown)!r}, the data of no graph")
        roles = set(ROLES[self.task])
        if set(self.graphs) != roles:
            raise ValueError(f"task {self.task!r} has graphs {sorted(self.graphs)}, not {roles}")
        if self.sample_rate not in RATES:
            raise ValueError(f"sample_rate is {self.sample_rate}, not 8000 to 48000")
        if not 1 <= self.min_samples <= 60 * self.sample_rate:
            raise ValueError(f"min_samples is {self.min_samples}, not 1 to a minute's")
        for task, name in _SETTINGS.items():
            if (self.task == task) != (getattr(self, name) is not None):
                raise ValueError(f"task {self.task!r} and field `{name}` do not go together")
        if (self.task == "keywords") != bool(self.labels):
            raise ValueError(f"task {self.task!r} and {len(self.labels)} labels do not go together")
        if (self.task == "keywords") == (self.vocabulary is not None):
            raise ValueError(f"task {self.task!r} and vocabulary {self.vocabulary!r} do not fit")
        if self.whisper is not None:
            self.whisper.check()
        for settings in (self.seq2seq, self.transducer):
            if settings is not None:
                settings.check(self.sample_rate, self.min_samples)
        if self.ctc is not None:
            for token in (self.ctc.blank, self.ctc.word_delimiter or 0):
                if not 0 <= token < _TOKENS:
                    raise ValueError(f"ctc names the token {token}")
