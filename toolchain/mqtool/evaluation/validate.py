"""Does a packed folder hold what it promises? Size, widths, transcripts, with or without optimizer.

What has gone wrong in other tools and is looked for here: a file over its budget, a layer left out
or stored at another width, a graph whose answers depend on onnxruntime's optimizer, and above all
a model that loads, runs and has forgotten how to listen.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mqruntime.bundle.manifest import FORMAT, Manifest
from mqruntime.bundle.speech_task import asked_to, speech_task, text_language
from mqruntime.engine.saturation import products_saturate
from mqruntime.options import SpeechTask
from mqruntime.recognition import Recognizer, Result
from mqruntime.tasks.registry import task_of
from mqtool.bundles.unpackage import stored_bytes
from mqtool.context import QUIET, RunContext
from mqtool.errors import ClipsError, ModelError, PackError
from mqtool.evaluation.joined import QUIET_SECONDS, hear, join_clips
from mqtool.evaluation.validation import Check, JoinedTexts, ValidatedClip, Validation
from mqtool.evaluation.word_errors import count_errors, text_normalizer
from mqtool.model.folder import ModelFolder
from mqtool.model.graph_files import check_graph, load_graph
from mqtool.model.scripts import LANGUAGES
from mqtool.packing.coded_rewrite import coded_shapes
from mqtool.packing.plan_file import Plan
from mqtool.packing.write import check_widths
from mqtool.quantization.bits import FLOAT_BITS, WIDTHS
from mqtool.quantization.calibration_stats import with_packing_layout
from mqtool.quantization.weights import StoredLayer, read_layers
from mqtool.recordings.clips import Clip

__all__ = ["validate_folder"]

LOGITS_LIMIT = 0.02
"""Mean difference of logits between optimizer on and off, relative to the range of the logits.

Measured on packed whisper-tiny.en: 0 on most clips; where an activation falls on the other side of
a rounding, all after it move, at 4 bits by up to 0.009 (one logit by 0.04). A node that is fused
wrongly moves them by about the range itself."""


def validate_folder(
    packed: Path,
    reference: Path,
    clips: Sequence[Clip],
    *,
    language: str | None = None,
    task: SpeechTask | None = None,
    plan: Plan | None = None,
    max_word_difference: float = 30.0,
    context: RunContext = QUIET,
) -> Validation:
    """Check a packed folder against the float one it was made from.

    Args:
        packed: folder made by `mqtool pack`.
        reference: folder made by `mqtool export`.
        clips: recordings; transcripts are not needed.
        language: what the caller says is spoken.
        task: what both are asked to do; None for what the packed model does by default.
        plan: that it was packed by.
        max_word_difference: percent of words in which packed and float may differ (keywords: of
            clips).
        context: threads and progress.

    Raises:
        ModelError: the folders are swapped or unrelated, one cannot be opened, or the model does
            not know `language` or `task`.
        PlanError: the plan is malformed or for another model.
        ClipsError: the float model finds no words in the clips.
        AudioError: a clip cannot be read.
    """
    folder = _related(packed, reference)
    manifest = asked_to(Manifest.read(packed), task, reference)
    task = speech_task(manifest)
    folder.task.check_language(language)
    assert manifest.packed is not None
    budget, size = manifest.packed["budget_bytes"], stored_bytes(packed)
    checks = [Check("size", size <= budget, f"{size:,} bytes", f"at most {budget:,} bytes")]
    checks.append(_layers_check(packed, manifest, folder))
    if plan is not None:
        checks += _plan_checks(packed, manifest, folder, plan)
    transcribed = _transcribed(packed, reference, clips, task, context)
    keywords = task_of(manifest).classifies
    unit = "keywords" if keywords else "words"
    asked = f"at most {max_word_difference:g} % of {unit} unlike the float model's"
    wer = _error_rate(transcribed, [clip.packed_text for clip in transcribed], manifest)
    checks.append(
        Check("transcripts", wer <= max_word_difference, f"{wer:.1f} % of {unit} unlike", asked)
    )
    if wer > max_word_difference:
        # A model that is lost repeats itself without end: nothing to learn from it.
        return Validation(checks, transcribed, size, budget, wer, None, None)
    transcribed = _transcribed_without_optimizer(packed, clips, transcribed, task, context)
    plain_wer = _error_rate(
        transcribed, [clip.unoptimized_text or "" for clip in transcribed], manifest
    )
    equal = sum(clip.packed_text == clip.unoptimized_text for clip in transcribed)
    found = f"{plain_wer:.1f} % of {unit} unlike; {equal} of {len(transcribed)} as with it"
    checks.append(
        Check("transcripts without optimizer", plain_wer <= max_word_difference, found, asked)
    )
    difference = max(clip.logits_difference or 0.0 for clip in transcribed)
    checks.append(_logits_check(difference, manifest))
    if keywords:
        return Validation(checks, transcribed, size, budget, wer, plain_wer, difference)
    joined = _joined_texts(packed, reference, clips, task, context)
    checks.append(_joined_check(joined, manifest, transcribed[0].language, max_word_difference))
    return Validation(checks, transcribed, size, budget, wer, plain_wer, difference, joined)


def _joined_texts(
    packed: Path,
    reference: Path,
    clips: Sequence[Clip],
    task: SpeechTask | None,
    context: RunContext,
) -> JoinedTexts | None:
    """None if the float model takes no recording that long."""
    joined = join_clips(clips, Manifest.read(packed).sample_rate)
    advance = context.progress("Running both on joined clips", 2)
    with _open(reference, task, context) as recognizer:
        try:
            theirs = hear(recognizer, joined)
        except ModelError:
            return None
    advance()
    with _open(packed, task, context) as recognizer:
        ours = hear(recognizer, joined)
    advance()
    return JoinedTexts(
        joined.count, joined.seconds, theirs.text, ours.text, theirs.in_quiet, ours.in_quiet
    )


def _joined_check(
    joined: JoinedTexts | None, manifest: Manifest, language: str | None, most: float
) -> Check:
    """Few words unlike, those out of nothing among them."""
    name, wanted = "joined clips", f"at most {most:g} % of words unlike the float model's"
    if joined is None:
        return Check(name, True, "not heard: the float model takes no recording that long", wanted)
    normalize = text_normalizer(text_language(manifest, language))
    errors = count_errors(normalize(joined.float_text), normalize(joined.packed_text))
    unlike = 100 * errors.word_errors / max(errors.words, 1)
    ours, theirs = (len(text.split()) for text in (joined.packed_in_quiet, joined.float_in_quiet))
    found = (
        f"{joined.clips} clips, {joined.seconds:.0f} s: {unlike:.1f} % of words unlike; "
        f"in {QUIET_SECONDS:.0f} s of quiet {ours} words, float {theirs}"
    )
    return Check(name, unlike <= most, found, wanted)


def _logits_check(difference: float, manifest: Manifest) -> Check:
    assert manifest.packed is not None
    name, found = "logits without optimizer", f"{difference:.1e} of their range off"
    if manifest.packed.get("activations") != "float" and products_saturate():
        return Check(name, True, found, "any: without it this processor's int8 products saturate")
    return Check(name, difference <= LOGITS_LIMIT, found, f"at most {LOGITS_LIMIT:g}")


def _related(packed: Path, reference: Path) -> ModelFolder:
    """The float model with the tokens that the packed one has, which can have been made from it."""
    ours, theirs = Manifest.read(packed), Manifest.read(reference)
    if ours.packed is None and theirs.packed is not None:
        raise ModelError(
            f"{packed}: is the float model and {reference} the packed one; swap them: "
            f"mqtool validate {reference} --reference {packed}"
        )
    if ours.packed is None or not isinstance(ours.packed.get("budget_bytes"), int):
        raise ModelError(f"{packed}: was not made by mqtool pack; give a packed folder")
    if theirs.packed is not None:
        raise ModelError(f"{reference}: is packed; give the float model as --reference")
    other = ModelError(
        f"{packed}: was packed from another model ({_title(ours)}) than {reference} "
        f"({_title(theirs)}); give the float model it was made from as --reference"
    )
    kept = ours.packed.get("keep_languages", [])
    if not isinstance(kept, list) or not all(
        isinstance(code, str) and code in LANGUAGES for code in kept
    ):
        raise ModelError(f"{packed}: keep_languages of model.json is {kept!r}; pack again")
    unopened = ModelFolder(reference, _unpacked(theirs)).keeping(kept)
    copied = {name: (packed / name).read_bytes() for name in filter(None, [ours.vocabulary])}
    if _unpacked(ours) != unopened.manifest or copied != unopened.copied_files:
        raise other
    opened = ModelFolder.open(reference)
    if unopened.kept is None:
        return opened
    return replace(opened, manifest=unopened.manifest, kept=unopened.kept)


def _unpacked(manifest: Manifest) -> Manifest:
    """Without what packing may change, and where it is from."""
    whisper = manifest.whisper and replace(manifest.whisper, task="transcribe")
    return replace(manifest, packed=None, source={}, format=FORMAT, whisper=whisper)


def _title(manifest: Manifest) -> str:
    return " ".join(filter(None, [manifest.family, manifest.source.get("name")]))


def _layers_check(packed: Path, manifest: Manifest, folder: ModelFolder) -> Check:
    if manifest.coded:
        return _coded_check(packed, manifest, folder)
    found: dict[str, StoredLayer] = {}
    for name in manifest.graphs.values():
        check_graph(packed / name)
        found |= read_layers(load_graph(packed / name).graph)
    wanted = f"{len(folder.layers)} layers at 1 to 16 or {FLOAT_BITS} bits"
    for layer in folder.layers:
        if layer.name not in found:
            return Check("layers", False, f"layer {layer.name!r} is missing", wanted)
        if odd := set(found[layer.name].widths) - set(WIDTHS):
            return Check("layers", False, f"layer {layer.name!r} at {odd} bits", wanted)
    if unknown := sorted(set(found) - {layer.name for layer in folder.layers}):
        return Check("layers", False, f"unknown layer {unknown[0]!r}", wanted)
    widths = sorted({width for layer in found.values() for width in layer.widths})
    listed = ", ".join(map(str, widths))
    return Check("layers", True, f"{len(found)} layers at {listed} bits", wanted)


def _coded_check(packed: Path, manifest: Manifest, folder: ModelFolder) -> Check:
    shapes = coded_shapes(packed / name for name in manifest.graphs.values())
    has_steps = {layer.name for layer in folder.layers} > set(shapes)
    layers = folder.with_formulas().layers if has_steps else folder.layers
    wanted = f"{len(layers)} layers of int8 codes"
    for layer in layers:
        found = shapes.pop(layer.name, None)
        if found is None or found[0] < layer.columns or found[1] != layer.rows:
            return Check("layers", False, f"layer {layer.name!r} has codes {found}", wanted)
    if shapes:
        return Check("layers", False, f"unknown layer {min(shapes)!r}", wanted)
    return Check("layers", True, wanted, wanted)


def _plan_checks(packed: Path, manifest: Manifest, folder: ModelFolder, plan: Plan) -> list[Check]:
    plan.check_model(
        Path("the plan"),
        with_packing_layout(folder, plan.rounding, steps=plan.has_steps).layers,
        folder.sha256,
    )
    assert manifest.packed is not None
    stored = str(manifest.packed.get("plan_sha256"))
    same = stored == plan.sha256
    hashes = Check("plan", same, f"packed with plan {stored[:12]}", f"plan {plan.sha256[:12]}")
    try:
        check_widths(packed, manifest, plan)
    except PackError as error:
        reason = str(error).removeprefix(f"{packed}: ")
        return [hashes, Check("widths", False, reason, "every layer as the plan says")]
    found = f"{len(plan.layers)} layers, {plan.average_bits:.2f} bits on average"
    return [hashes, Check("widths", True, found, "every layer as the plan says")]


def _transcribed(
    packed: Path,
    reference: Path,
    clips: Sequence[Clip],
    task: SpeechTask | None,
    context: RunContext,
) -> list[ValidatedClip]:
    advance = context.progress("Running the float model", len(clips))
    texts = []
    with _open(reference, task, context) as recognizer:
        for clip in clips:
            texts.append(
                recognizer.transcribe(
                    clip.pcm(recognizer.manifest.sample_rate), _told(recognizer, clip)
                ).text
            )
            advance()
    advance = context.progress("Running the packed model", len(clips))
    results = []
    with _open(packed, task, context) as recognizer:
        for clip in clips:
            results.append(
                recognizer.transcribe(
                    clip.pcm(recognizer.manifest.sample_rate), _told(recognizer, clip)
                )
            )
            advance()
    return [
        ValidatedClip(clip.path, clip.language or result.language, text, result.text)
        for clip, text, result in zip(clips, texts, results, strict=True)
    ]


def _transcribed_without_optimizer(
    packed: Path,
    clips: Sequence[Clip],
    before: Sequence[ValidatedClip],
    task: SpeechTask | None,
    context: RunContext,
) -> list[ValidatedClip]:
    advance = context.progress("Running it without optimizer", len(clips))
    completed = []
    with (
        _open(packed, task, context) as optimized,
        _open(packed, task, context, optimize=False) as plain,
    ):
        for clip, found in zip(clips, before, strict=True):
            pcm = clip.pcm(plain.manifest.sample_rate)
            result = plain.transcribe(pcm, _told(plain, clip))
            logits = _logits(optimized, pcm, result)
            difference = float(np.abs(_logits(plain, pcm, result) - logits).mean())
            relative = difference / max(float(np.ptp(logits)), 1e-30)
            completed.append(
                replace(found, unoptimized_text=result.text, logits_difference=relative)
            )
            advance()
    return completed


def _open(
    folder: Path, task: SpeechTask | None, context: RunContext, *, optimize: bool = True
) -> Recognizer:
    """A model that does `task`, whatever its default."""
    opened = Recognizer.open(folder, threads=context.threads, optimize=optimize)
    manifest = asked_to(opened.manifest, task, folder)
    if manifest is opened.manifest:
        return opened
    return Recognizer(manifest, opened.graphs, opened.vocabulary)


def _told(recognizer: Recognizer, clip: Clip) -> str | None:
    """The clip's language, for models that can be told."""
    return clip.language if recognizer.task.languages else None


def _logits(recognizer: Recognizer, pcm: np.ndarray, result: Result) -> np.ndarray:
    """Output at every position; for Whisper along the text of `result`, in its first window."""
    return recognizer.task.forced_logits(
        recognizer.graphs, pcm, result.tokens, language=result.language
    )


def _error_rate(
    transcribed: Sequence[ValidatedClip], texts: Sequence[str], manifest: Manifest
) -> float:
    """Percent of words (of keywords, as a whole) that are not the float model's."""
    if task_of(manifest).classifies:
        wrong = sum(clip.float_text != text for clip, text in zip(transcribed, texts, strict=True))
        return 100 * wrong / len(transcribed)
    counted = []
    for clip, text in zip(transcribed, texts, strict=True):
        normalize = text_normalizer(text_language(manifest, clip.language))
        counted.append(count_errors(normalize(clip.float_text), normalize(text)))
    words = sum(errors.words for errors in counted)
    if not words:
        raise ClipsError("the float model finds no words in these clips; give clips with speech")
    return 100 * sum(errors.word_errors for errors in counted) / words
