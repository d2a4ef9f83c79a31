"""Peak memory of capture does not grow with the number of clips."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from tiny_graph import toy_folder

SCRIPT = """
import sys
from pathlib import Path
from mqtool.observe.runs import capture_outputs
from mqtool.recordings.clips import find_clips
from mqtool.model.folder import ModelFolder

clips = find_clips([Path(sys.argv[2])])[: int(sys.argv[3])]
assert len(clips) == int(sys.argv[3])
capture_outputs(ModelFolder.open(Path(sys.argv[1])), clips)
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_64_clips_take_the_memory_of_8(tmp_path):
    """Whisper: see examples/benchmarks/capture.py."""
    toy_folder(tmp_path / "toy", scale=12)
    (tmp_path / "clips").mkdir()
    rng = np.random.default_rng(0)
    for index in range(64):
        pcm = rng.normal(0, 0.1, 512).clip(-1, 1)
        soundfile.write(tmp_path / "clips" / f"{index:02}.wav", pcm, 16000)
    peaks = []
    for count in (8, 64):
        arguments = [str(tmp_path / "toy"), str(tmp_path / "clips"), str(count)]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
    assert peaks[1] <= 1.1 * peaks[0]
