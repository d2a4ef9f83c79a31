"""What a model says and how well: validate, evaluate, transcribe, bench, inspect."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mqruntime.bundle.speech_task import asked_to
from mqruntime.options import DecodingOptions, SpeechTask
from mqruntime.recognition import Recognizer
from mqruntime.result import Result
from mqtool.api.recordings import PathLike, Recordings, paths_of, test_clips
from mqtool.bundles.unpackage import model_folder
from mqtool.context import Progress, RunContext, no_progress
from mqtool.errors import AudioError
from mqtool.evaluation.bench import (
    BenchComparison,
    Benchmark,
    bench_against,
    bench_int8,
    bench_model,
)
from mqtool.evaluation.describe import Description, describe
from mqtool.evaluation.score import Evaluation, evaluate_model
from mqtool.evaluation.validate import validate_folder
from mqtool.evaluation.validation import Validation
from mqtool.packing.plan_file import Plan
from mqtool.recordings.clips import find_clips

__all__ = ["INT8", "Transcript", "bench", "evaluate", "inspect", "transcribe", "validate"]

INT8 = "onnxruntime-int8"
"""Stands for the float model as onnxruntime's own quantizer makes it int8."""


@dataclass(frozen=True)
class Transcript:
    """What is said in a recording.

    Attributes:
        path: the recording.
        result: what the model gave.
        total: how many recordings were asked for with it.
    """

    path: Path
    result: Result
    total: int = 1

    @property
    def text(self) -> str:
        """What was said."""
        return self.result.text

    def to_json(self) -> dict[str, Any]:
        """A row of the JSON of `mqtool transcribe`."""
        result = self.result
        row: dict[str, Any] = {
            "path": str(self.path),
            "text": result.text,
            "tokens": result.tokens,
            "language": result.language,
            "seconds": result.seconds,
        }
        return row if result.score is None else {**row, "score": result.score}


def validate(
    packed: PathLike,
    *,
    reference: PathLike,
    recordings: Recordings,
    split: str | None = None,
    group: str | None = None,
    language: str | None = None,
    task: SpeechTask | None = None,
    plan: Plan | PathLike | None = None,
    max_word_difference: float = 30.0,
    threads: int = 0,
    progress: Progress = no_progress,
) -> Validation:
    """Check that a packed model keeps its size and its plan, and says what the float one says.

    Examples:
        >>> found = mqtool.validate("packed/", reference="model/", recordings="examples/clips")
        >>> [check.name for check in found.checks][:2]
        ['size', 'layers']

    Args:
        packed: folder made by `pack`, or a bundle of one.
        reference: the float model it was made from.
        recordings: without transcripts, best ones that the plan has not seen.
        split: as of `mqtool.plan`.
        group: likewise.
        language: likewise.
        task: what both are asked to do; None for what the packed one does by default.
        plan: that it was packed by; None leaves out its checks.
        max_word_difference: percent of words (keyword models: of recordings) that may differ.
        threads: inside an operator of onnxruntime; 0 lets it choose.
        progress: told how far the work has come.

    Raises:
        ModelError: the folders are swapped or unrelated, or one cannot be opened.
        PlanError: the plan is malformed or for another model.
        ClipsError, AudioError: the recordings cannot be used, or hold no words for the float model.
    """
    clips = test_clips(recordings, split=split, group=group, language=language)
    with model_folder(Path(packed)) as folder:
        return validate_folder(
            folder,
            Path(reference),
            clips,
            language=language,
            task=task,
            plan=plan if plan is None or isinstance(plan, Plan) else Plan.read(Path(plan)),
            max_word_difference=max_word_difference,
            context=RunContext(threads, progress),
        )


def evaluate(
    model: PathLike,
    *,
    manifest: Recordings,
    split: str | None = None,
    group: str | None = None,
    language: str | None = None,
    task: SpeechTask | None = None,
    by: str = "group",
    detect_language: bool = False,
    remove_diacritics: bool = False,
    on_refused: Callable[[AudioError], None] | None = None,
    threads: int = 0,
    progress: Progress = no_progress,
) -> Evaluation:
    """Score a model on recordings with transcripts.

    Examples:
        >>> scores = mqtool.evaluate("packed/", manifest="examples/clips/manifest.csv")
        >>> scores.figures["clips"], scores.figures["wer"] > 0
        (16, True)

    Args:
        model: model folder, float or packed, or a bundle.
        manifest: CSV with the columns path and transcript.
        split: as of `mqtool.plan`.
        group: likewise.
        language: likewise.
        task: what the model is asked to do, as of `mqtool.transcribe`; transcripts of translations
            are English.
        by: column to make groups of.
        detect_language: let the model find the language although it is known.
        remove_diacritics: compare letters without accents.
        on_refused: told what is wrong with a recording that cannot be used, and is left out; None
            raises it.
        threads: inside an operator of onnxruntime; 0 lets it choose.
        progress: told how far the work has come.

    Raises:
        ClipsError, AudioError: a recording has no transcript or cannot be used.
        ModelError: the model cannot be opened or run, or does not know the language or the task.
    """
    clips = test_clips(manifest, split=split, group=group, language=language)
    return evaluate_model(
        Path(model),
        clips,
        by=by,
        language=language,
        task=task,
        detect_language=detect_language,
        remove_diacritics=remove_diacritics,
        on_refused=on_refused,
        context=RunContext(threads, progress),
    )


def transcribe(
    model: PathLike,
    recordings: Recordings,
    *,
    split: str | None = None,
    group: str | None = None,
    language: str | None = None,
    task: SpeechTask | None = None,
    options: DecodingOptions | None = None,
    on_refused: Callable[[AudioError], None] | None = None,
    threads: int = 0,
    progress: Progress = no_progress,
) -> Iterator[Transcript]:
    """What is said in recordings, one after the other as they are asked for.

    Examples:
        >>> for transcript in mqtool.transcribe("packed/", "examples/clips/01.flac"):
        ...     print(transcript.path.name, round(transcript.result.seconds, 1))
        01.flac 2.5

    Args:
        model: model folder, float or packed, or a bundle.
        recordings: any that there are.
        split: as of `mqtool.plan`.
        group: likewise.
        language: spoken language, ISO code, of recordings that name none; None lets a
            multilingual Whisper detect it.
        task: transcribe, or translate to English; None for what `options` say, else what the model
            does by default.
        options: Whisper's decoding choices.
        on_refused: as of `mqtool.evaluate`.
        threads: inside an operator of onnxruntime; 0 lets it choose.
        progress: told how far the work has come.

    Raises:
        ModelError: the model cannot be opened or run, or does not know the language or the task.
        ClipsError, AudioError: a recording cannot be used.
    """
    options = options or DecodingOptions()
    if task is not None:
        options = replace(options, task=task)
    with Recognizer.open(Path(model), threads=threads) as recognizer:
        asked_to(recognizer.manifest, options.task, model)
        clips = test_clips(recordings, split=split, group=group, language=language)
        advance = progress("Transcribing", len(clips))
        for clip in clips:
            # A manifest's language is not for a model that cannot be told; a caller's is an error.
            told = clip.language if recognizer.task.languages else language
            try:
                result = recognizer.transcribe(
                    clip.pcm(recognizer.manifest.sample_rate), told, options=options
                )
            except AudioError as error:
                if on_refused is None:
                    raise
                on_refused(error)
            else:
                yield Transcript(clip.path, result, len(clips))
            advance()


def bench(
    model: PathLike,
    *,
    recordings: Recordings = (),
    against: PathLike | None = None,
    reference: PathLike | None = None,
    runs: int | None = None,
    threads: int = 0,
) -> BenchComparison | Benchmark:
    """Measure load time, speed and memory of a model, or its speed against another one's.

    Examples:
        >>> mqtool.bench("packed/", against="model/", runs=3).parts.keys()
        dict_keys(['model'])

    Args:
        model: model folder or bundle.
        recordings: to run instead of noise.
        against: another model, whose runs take turns with this one's; or `INT8`.
        reference: the float model, for `INT8`; None if `model` is it.
        runs: times each part is run; None for 5 alone and 15 against another one.
        threads: inside an operator of onnxruntime; 0 lets it choose.

    Raises:
        ModelError: a model cannot be opened or run, or the two do different tasks.
    """
    ours = Path(model)
    if against is None:
        paths = paths_of(recordings)
        clips = find_clips(paths) if paths else []
        return bench_model(ours, clips=clips, threads=threads, runs=runs or 5)
    if against == INT8:
        return bench_int8(ours, Path(reference or model), threads=threads, runs=runs or 15)
    return bench_against(ours, Path(against), threads=threads, runs=runs or 15)


def inspect(path: PathLike, *, public_key: PathLike | None = None) -> Description:
    """What is in a bundle, a model folder, a plan or an ONNX graph.

    Examples:
        >>> mqtool.inspect("plan.json").fields["method"]
        'measured'

    Args:
        path: any of these.
        public_key: PEM file of the key that a bundle must be signed with.

    Raises:
        MqError: it is missing, of no known kind, or broken.
    """
    return describe(Path(path), None if public_key is None else Path(public_key))
