"""What a model makes of speech: what its manifest says (`whisper.task`), unless a caller asks."""

from dataclasses import replace

from mqruntime.bundle.manifest import Manifest
from mqruntime.errors import ModelError
from mqruntime.options import SpeechTask, check_speech_task

__all__ = ["asked_to", "speech_task", "text_language"]


def speech_task(manifest: Manifest) -> SpeechTask | None:
    """What a model does where nobody asks; None where there is no choice."""
    return None if manifest.whisper is None else manifest.whisper.task


def text_language(manifest: Manifest, spoken: str | None) -> str | None:
    """ISO code of the text that a model makes of a spoken language."""
    return "en" if speech_task(manifest) == "translate" else spoken


def asked_to(manifest: Manifest, task: SpeechTask | None, name: object = None) -> Manifest:
    """The manifest of the same model with another `speech_task`; itself for None and its own.

    Args:
        manifest: the model's.
        task: what a caller asks for.
        name: what to call the model in errors; None for its own name.

    Raises:
        ModelError: it has no such task.
    """
    if task in (None, speech_task(manifest)):
        return manifest
    check_speech_task(task)
    settings = manifest.whisper
    if settings is None:
        reason = f"a {manifest.task} model knows no tasks"
    elif task == "translate" and not settings.languages:
        reason = "this model knows English only"
    elif task == "translate" and settings.translate is None:
        reason = "this model has no token for it"
    else:
        return replace(manifest, whisper=replace(settings, task=task))
    called = name or manifest.source.get("name") or manifest.family
    raise ModelError(
        f"{called}: task {task!r}: {reason}; leave it out or take a multilingual Whisper"
    )
