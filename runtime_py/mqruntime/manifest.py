"""The model folder and its manifest, `model.json`.

A model folder (float or packed) holds:

    model.json            this manifest: UTF-8 JSON, sorted keys, one line
    encoder.onnx          Whisper only; with decoder.onnx
    decoder.onnx
    model.onnx            CTC and keyword models: the only graph
    *.onnx.data           external data of the graph of that name, only for graphs over 1.5 GB
    vocabulary.json.gz    gzip (mtime 0) of a JSON array: entry i is token i
                          (Whisper: byte-level BPE units as in GPT-2's `vocab.json`;
                          CTC: characters, the word delimiter as it is)

Graph inputs and outputs, the same in float and packed models:

    model.onnx    pcm float32 [batch, samples]
                  -> logits float32 [batch, frames, vocabulary] (CTC) or [batch, labels] (keywords)
    encoder.onnx  pcm float32 [batch, samples], samples a multiple of 320 and at most `window`
                  -> cross_key_{i}, cross_value_{i} float32 [batch, heads, frames, head_size]
    decoder.onnx  tokens int64 [batch, n], past_key_{i}, past_value_{i} float32
                  [batch, heads, past, head_size] (past may be 0), cross_key_{i}, cross_value_{i}
                  -> logits float32 [batch, n, vocabulary],
                     present_key_{i}, present_value_{i} float32 [batch, heads, past + n, head_size]

with i from 0 to the number of decoder layers - 1. PCM is mono at `sample_rate`, in [-1, 1].
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from mqruntime.errors import ManifestError

__all__ = ["FORMAT", "MANIFEST_NAME", "CtcSettings", "Manifest", "Task", "WhisperSettings"]

FORMAT = 1
MANIFEST_NAME = "model.json"

Task = Literal["transcribe", "ctc", "keywords"]


@dataclass(frozen=True)
class WhisperSettings:
    """Token ids and limits that Whisper's decoding loop needs.

    Attributes:
        window: samples the encoder sees at once (480000, 30 s).
        max_tokens: length of the decoder's position table, prompt included (448).
        languages: ISO code -> token id; empty for English-only models.
        transcribe: task token, None for English-only models.
        suppress: token ids never produced.
        suppress_at_begin: token ids not produced as the first token after the prompt.
    """

    window: int
    max_tokens: int
    start_of_transcript: int
    end_of_text: int
    no_timestamps: int
    timestamp_begin: int
    no_speech: int | None
    transcribe: int | None
    translate: int | None
    languages: dict[str, int]
    suppress: list[int]
    suppress_at_begin: list[int]


@dataclass(frozen=True)
class CtcSettings:
    """Blank token id and the token that stands for a space between words (None: no words)."""

    blank: int
    word_delimiter: int | None


@dataclass(frozen=True)
class Manifest:
    """What a model is and how to run it.

    Attributes:
        family: transformers' `model_type` (whisper, wav2vec2, hubert, wavlm, wav2vec2-conformer).
        graphs: role (encoder, decoder, model) -> file name.
        vocabulary: file name of the token table; None for keyword models.
        labels: keyword models: label i of the logits.
        min_samples: shortest input the graphs take; shorter PCM is padded with zeros.
        source: name, licence and revision of the model this was made from (free text values).
        packed: None for a float model; for a packed one the plan's SHA-256, budget and options.
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
    source: dict[str, str] = field(default_factory=dict)
    packed: dict[str, Any] | None = None
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        """The file's bytes; the same manifest always gives the same bytes."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode() + b"\n"

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read and check `folder/model.json`.

        Raises:
            ManifestError: no such folder or file, not JSON, another format, or a missing field.
        """
        path = Path(folder) / MANIFEST_NAME
        if not path.is_file():
            raise ManifestError(
                f"{folder}: no {MANIFEST_NAME} here; give a folder made by mqtool export or pack"
            )
        try:
            fields = json.loads(path.read_bytes())
        except ValueError as error:
            raise ManifestError(f"{path}: not valid JSON ({error}); export or pack again") from None
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            found = fields.get("format") if isinstance(fields, dict) else type(fields).__name__
            raise ManifestError(f"{path}: format {found!r}, this version reads {FORMAT}")
        try:
            if fields.get("whisper") is not None:
                fields["whisper"] = WhisperSettings(**fields["whisper"])
            if fields.get("ctc") is not None:
                fields["ctc"] = CtcSettings(**fields["ctc"])
            manifest = cls(**fields)
        except TypeError as error:
            raise ManifestError(f"{path}: {error}; export or pack again") from None
        for name in [*manifest.graphs.values(), manifest.vocabulary]:
            if name is not None and (Path(name).name != name or not (path.parent / name).is_file()):
                raise ManifestError(f"{path}: names {name!r}, which is not a file beside it")
        return manifest
