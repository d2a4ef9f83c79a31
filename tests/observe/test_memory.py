"""Peak memory of capture does not grow with the number of clips."""

import sys

import pytest

from peaks import peaks_over_clips

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
    peaks = peaks_over_clips(SCRIPT, tmp_path)
    assert peaks[1] <= 1.1 * peaks[0]
