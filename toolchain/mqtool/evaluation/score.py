"""Score a model on recordings with transcripts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mqruntime.bundle.speech_task import asked_to, text_language
from mqruntime.options import DecodingOptions, SpeechTask
from mqruntime.recognition import Recognizer
from mqtool.bundles.unpackage import stored_bytes
from mqtool.context import QUIET, RunContext
from mqtool.errors import AudioError, ClipsError
from mqtool.evaluation.bootstrap import interval
from mqtool.evaluation.word_errors import Errors, count_errors, text_normalizer
from mqtool.recordings.clips import Clip

__all__ = ["Evaluation", "Scored", "evaluate_model", "score_clip", "summary"]


@dataclass(frozen=True)
class Scored:
    """One clip's outcome.

    Attributes:
        clip: the recording.
        text: what the model said.
        errors: against the transcript, both normalized.
        correct: keyword models: whether the label is the transcript.
        seconds: length of the recording.
        work: seconds the model took.
    """

    clip: Clip
    text: str
    errors: Errors
    correct: bool | None
    seconds: float
    work: float


@dataclass(frozen=True)
class Evaluation:
    """How well a model recognizes recordings.

    Attributes:
        scored: each recording's outcome.
        bytes: size of the model.
        by: column of the manifest that tells groups apart.
    """

    scored: list[Scored]
    bytes: int
    by: str = "group"

    @property
    def figures(self) -> dict[str, Any]:
        """Of all recordings: see `summary`."""
        return summary(self.scored)

    @property
    def groups(self) -> dict[str, dict[str, Any]]:
        """The same of each group."""
        groups: dict[str, list[Scored]] = {}
        for item in self.scored:
            name = item.clip.fields.get(self.by)
            if name:
                groups.setdefault(name, []).append(item)
        return {name: summary(items) for name, items in sorted(groups.items())}

    def to_json(self) -> dict[str, Any]:
        """The JSON of `mqtool evaluate`: figures of all, of each group, and each recording."""
        return {
            **self.figures,
            "bytes": self.bytes,
            "groups": self.groups,
            "per_clip": [_clip_row(item) for item in self.scored],
        }


def evaluate_model(
    model: Path,
    clips: Sequence[Clip],
    *,
    by: str = "group",
    language: str | None = None,
    task: SpeechTask | None = None,
    detect_language: bool = False,
    remove_diacritics: bool = False,
    on_refused: Callable[[AudioError], None] | None = None,
    context: RunContext = QUIET,
) -> Evaluation:
    """Run a model folder, float or packed, on clips and count its errors.

    Args:
        model: folder made by export or pack.
        clips: with transcripts.
        by: column of the manifest that tells groups apart.
        language: what the caller says is spoken; a clip's own is not for a model that cannot be
            told.
        task: what the model is asked to do; None for what it does by default.
        detect_language: let the model find the language although it is known.
        remove_diacritics: see `text_normalizer`.
        on_refused: told what is wrong with a clip that cannot be read, and is left out; None
            raises it.
        context: threads and progress.

    Raises:
        ClipsError: a clip has no transcript, or none could be read.
        ModelError: the model cannot be opened or run, or does not know `language` or `task`.
        AudioError: a clip cannot be read.
    """
    _check_transcripts(clips)
    advance = context.progress("Transcribing", len(clips))
    scored: list[Scored] = []
    reason = ""
    with Recognizer.open(model, threads=context.threads) as recognizer:
        recognizer.task.check_language(language)
        asked_to(recognizer.manifest, task, model)
        for clip in clips:
            try:
                item = score_clip(
                    recognizer,
                    clip,
                    task=task,
                    detect_language=detect_language,
                    remove_diacritics=remove_diacritics,
                )
            except AudioError as error:
                if on_refused is None:
                    raise
                reason = reason or str(error)
                on_refused(error)
            else:
                scored.append(item)
            advance()
    if not scored:
        raise ClipsError(f"none of {len(clips)} recordings can be used; the first: {reason}")
    return Evaluation(scored, stored_bytes(model), by)


def score_clip(
    recognizer: Recognizer,
    clip: Clip,
    *,
    task: SpeechTask | None = None,
    detect_language: bool = False,
    remove_diacritics: bool = False,
) -> Scored:
    """`evaluate_model` for an opened model and one clip."""
    kind = recognizer.task
    forced = clip.language if kind.languages and not detect_language else None
    result = recognizer.transcribe(
        clip.pcm(recognizer.manifest.sample_rate), forced, options=DecodingOptions(task=task)
    )
    written = text_language(asked_to(recognizer.manifest, task), clip.language or result.language)
    normalize = text_normalizer(written, remove_diacritics=remove_diacritics)
    reference, text = normalize(clip.transcript or ""), normalize(result.text)
    return Scored(
        clip,
        result.text,
        count_errors(reference, text),
        reference == text if kind.classifies else None,
        result.seconds,
        sum(result.timings.values()),
    )


def summary(scored: Sequence[Scored]) -> dict[str, Any]:
    """Figures over clips: rates in percent with 95 % bootstrap intervals.

    `wer` and `cer` are summed errors over summed reference lengths (None without any words);
    `accuracy` is None but for keyword models; `rtf` is work time over audio time.
    """
    seconds = sum(item.seconds for item in scored)
    errors = [item.errors for item in scored]
    correct = [float(item.correct) for item in scored if item.correct is not None]
    figures: dict[str, Any] = {
        "clips": len(scored),
        "seconds_audio": seconds,
        "rtf": sum(item.work for item in scored) / seconds,
    }
    rates: dict[str, tuple[list[float], list[float]]] = {
        "wer": ([e.word_errors for e in errors], [e.words for e in errors]),
        "cer": ([e.character_errors for e in errors], [e.characters for e in errors]),
        "accuracy": (correct, [1.0] * len(correct)),
    }
    for name, (numerators, totals) in rates.items():
        total = sum(totals)
        figures[name] = 100 * sum(numerators) / total if total else None
        figures[f"{name}_interval"] = (
            [100 * end for end in interval(numerators, totals)] if total else None
        )
    return figures


def _check_transcripts(clips: Sequence[Clip]) -> None:
    silent = [clip for clip in clips if not clip.transcript]
    if silent:
        raise ClipsError(
            f"{silent[0].path}: {len(silent)} of {len(clips)} clips have no transcript; "
            f"give a manifest with the column `transcript`, or select rows that have one"
        )


def _clip_row(item: Scored) -> dict[str, Any]:
    row = {
        "path": str(item.clip.path),
        "text": item.text,
        "transcript": item.clip.transcript,
        "word_errors": item.errors.word_errors,
        "words": item.errors.words,
        "character_errors": item.errors.character_errors,
        "characters": item.errors.characters,
    }
    return row if item.correct is None else {**row, "correct": item.correct}
