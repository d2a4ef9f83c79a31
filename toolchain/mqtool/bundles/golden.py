"""Golden vectors: what a model makes of two short clips, for its selftest on any device.

`mqruntime/bundle/file.py` describes the files.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from mqruntime import audio
from mqruntime.bundle import selftest
from mqruntime.bundle.file import GOLDEN_FOLDER
from mqruntime.bundle.manifest import canonical_json
from mqruntime.recognition import Recognizer
from mqtool.recordings.spoken import CLIPS, spoken

__all__ = ["write_golden"]

_SECONDS = 2
"""Silence after the sentence makes them."""


def write_golden(
    folder: Path, target: Path, advance: Callable[[], None] = lambda: None
) -> dict[str, Path]:
    """Run a model on the clips.

    Args:
        folder: model folder.
        target: folder to write `golden/` in.
        advance: called after every clip.

    Returns:
        Files by entry name, golden.json first.

    Raises:
        ModelError: the model cannot be opened or run.
    """
    (target / GOLDEN_FOLDER).mkdir()
    listed = {f"{GOLDEN_FOLDER}golden.json": target / GOLDEN_FOLDER / "golden.json"}
    expected = []
    with Recognizer.open(folder, threads=1) as recognizer:
        rate = recognizer.manifest.sample_rate
        for number, clip in enumerate(CLIPS, 1):
            name = f"{GOLDEN_FOLDER}{number}.wav"
            listed[name] = target / name
            short = np.clip(spoken(clip, rate)[: _SECONDS * rate], -1, 1)
            soundfile.write(listed[name], short, rate, subtype="PCM_16")
            expected.append(selftest.recognized(recognizer, audio.load(listed[name], rate), name))
            advance()
    golden = selftest.Golden(expected)
    next(iter(listed.values())).write_bytes(canonical_json(golden.to_json()))
    return listed
