"""What callers may give as recordings."""

import os
from collections.abc import Sequence
from pathlib import Path

from mqruntime.tasks.task import Task
from mqtool.model.folder import ModelFolder
from mqtool.model.own_words import OwnWords, count_own_words
from mqtool.recordings.clips import CALIBRATION_LIMIT, Clip, find_clips
from mqtool.recordings.texts import listed_words, text_lines

__all__ = ["PathLike", "Recordings", "calibration_clips", "own_words", "paths_of", "test_clips"]

PathLike = str | os.PathLike[str]

Recordings = PathLike | Sequence[PathLike]
"""A folder, a zip file, audio files or manifests, or several of these."""


def paths_of(recordings: Recordings) -> list[Path]:
    """As a list of paths."""
    if isinstance(recordings, str | os.PathLike):
        return [Path(recordings)]
    return [Path(source) for source in recordings]


def calibration_clips(
    recordings: Recordings,
    task: Task,
    *,
    split: str | None,
    group: str | None,
    language: str | None,
) -> list[Clip]:
    """Clips to calibrate on; none for no recordings. Arguments as of `mqtool.plan`.

    A manifest's language is not for a model that cannot be told one; a caller's is an error.
    """
    task.check_language(language)
    sources = paths_of(recordings)
    if not sources:
        return []
    return find_clips(
        sources, split=split, group=group, language=language, longest=CALIBRATION_LIMIT
    )


def own_words(folder: ModelFolder, texts: Recordings, hotwords: PathLike | None) -> OwnWords | None:
    """Tokens of a person's texts; None where nothing is given. Arguments as of `mqtool.plan`."""
    sources = paths_of(texts)
    if not sources and hotwords is None:
        return None
    listed = [] if hotwords is None else listed_words(Path(hotwords))
    return count_own_words(folder, text_lines(sources), listed)


def test_clips(
    recordings: Recordings, *, split: str | None, group: str | None, language: str | None
) -> list[Clip]:
    """Clips to run a model on."""
    return find_clips(paths_of(recordings), split=split, group=group, language=language)
